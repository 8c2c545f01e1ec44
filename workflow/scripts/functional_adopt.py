"""Take over one scan that was preprocessed elsewhere."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.files import writing_folder
    from restresponse.functional.derivatives import adopt_scan
    from restresponse.layout import functional_files

    params, names = snakemake.params, ("mask", "given_confounds", "space", "repetition_time", "engine_settings")
    with writing_folder(snakemake.output[0]) as folder:
        adopt_scan(
            snakemake.input.bold, functional_files(folder, snakemake.wildcards.scan),
            **{name: params[name] for name in names}, **params.settings,
        )  # fmt: skip
