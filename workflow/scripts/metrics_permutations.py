"""Join the null of every linear model and give its p value."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.permutations import collect_null

    chunks = list(snakemake.input.get("chunks", ()))
    collect_null(
        predictions=snakemake.input.predictions,
        chunks=chunks,
        confidence=snakemake.params.confidence,
        **snakemake.output,
    )
