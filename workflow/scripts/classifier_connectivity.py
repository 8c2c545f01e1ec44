"""Connectivity, motion and global signal of a batch of participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.connectivity import measure_batch

    measure_batch(**dict(snakemake.input), scans=snakemake.params.scans, folder=snakemake.output[0])
