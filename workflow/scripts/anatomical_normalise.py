"""Bring one T1w image to MNI space and segment it."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.anatomical import normalise_anatomical

    normalise_anatomical(
        snakemake.input.t1w,
        dict(snakemake.output.items()),
        engine_settings=snakemake.params.engine_settings,
        voxel_size=snakemake.params.voxel_size,
        **snakemake.params.settings,
    )
