"""How far to trust the scores: comparisons, calibration, decision, spread, what the sample can show."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.further import write_further

    write_further(**snakemake.input, **snakemake.output, **snakemake.params.settings)
