"""Take over one scan that was preprocessed elsewhere."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.functional.derivatives import adopt_scan

    params = snakemake.params
    adopt_scan(
        snakemake.input.bold,
        dict(snakemake.output.items()),
        **{name: params[name] for name in ("mask", "given_confounds", "space", "repetition_time", "engine_settings")},
        **params.settings,
    )
