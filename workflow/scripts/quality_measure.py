"""Measure the quality of the scans of a batch of participants."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.measures import measure_batch

    measure_batch(**snakemake.input, scans=snakemake.params.scans, folder=snakemake.output[0])
