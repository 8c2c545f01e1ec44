"""Preprocess one scan."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.functional.preprocess import preprocess_scan

    preprocess_scan(
        snakemake.input.bold,
        {name: str(path) for name, path in snakemake.input.items()},
        dict(snakemake.output.items()),
        repetition_time=snakemake.params.repetition_time,
        engine_settings=snakemake.params.engine_settings,
        slice_times=snakemake.params.slice_times,
        **snakemake.params.settings,
    )
