"""Lay out the results of preprocessing as a BIDS derivatives dataset."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.functional.export import export_derivatives

    export_derivatives(
        snakemake.input.scans,
        snakemake.output[0],
        batches=snakemake.params.batches,
        voxel_size=snakemake.params.voxel_size,
        **snakemake.params.sources,
    )
