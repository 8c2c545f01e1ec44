"""Measure the quality of one scan."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.measures import measure_scan

    measure_scan(
        *snakemake.input,
        *snakemake.output,
        scan=snakemake.wildcards.scan,
        participant=snakemake.params.participant,
    )
