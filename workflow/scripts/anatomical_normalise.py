"""Bring one T1w image to MNI space and segment it."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.anatomical import normalise_anatomical
    from restresponse.files import writing_folder
    from restresponse.layout import anatomical_files

    with writing_folder(snakemake.output[0]) as folder:
        normalise_anatomical(
            snakemake.input.t1w, anatomical_files(folder, snakemake.wildcards.anat),
            engine_settings=snakemake.params.engine_settings, voxel_size=snakemake.params.voxel_size,
            **snakemake.params.settings,
        )  # fmt: skip
