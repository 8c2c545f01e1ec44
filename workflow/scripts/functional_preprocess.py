"""Preprocess one scan."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.functional.preprocess import preprocess_scan

    preprocess_scan(
        snakemake.input.bold,
        {name: str(path) for name, path in snakemake.input.items()},
        dict(snakemake.output.items()),
        **{name: value for name, value in snakemake.params.items() if name not in ("settings", "code")},
        **snakemake.params.settings,
    )
