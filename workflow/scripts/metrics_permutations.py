"""Join the nulls of all models and give their p values."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.network_null import join_nulls

    join_nulls(**dict(snakemake.input), **snakemake.params.settings, **dict(snakemake.output))
