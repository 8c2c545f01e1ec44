"""Preprocess one scan."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.files import writing_folder
    from restresponse.functional.preprocess import preprocess_scan
    from restresponse.layout import anatomical_files, functional_files

    params, others = snakemake.params, ("anat", "settings", "code")
    with writing_folder(snakemake.output[0]) as folder:
        preprocess_scan(
            snakemake.input.bold, anatomical_files(snakemake.input.anatomical[0], params.anat),
            functional_files(folder, snakemake.wildcards.scan), **params.settings,
            **{name: value for name, value in params.items() if name not in others},
        )  # fmt: skip
