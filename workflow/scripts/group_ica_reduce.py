"""Reduce the denoised scans of a batch of participants to their leading dimensions."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import scan_files
    from restresponse.group_ica.reduction import reduce_batch

    reduce_batch(
        bold=scan_files(snakemake.params.scans, snakemake.input.bold),
        mask=snakemake.input.mask,
        inclusion=snakemake.input.inclusion,
        n_dimensions=snakemake.params.n_dimensions,
        folder=snakemake.output[0],
    )
