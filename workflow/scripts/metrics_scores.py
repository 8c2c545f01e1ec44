"""Score every classifier and measure the optimism of each protocol."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.optimism import score_predictions

    score_predictions(**snakemake.input, **snakemake.output, **snakemake.params.settings)
