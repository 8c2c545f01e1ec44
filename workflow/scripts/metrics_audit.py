"""Audit what each fit has seen."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.audit import audit_run

    audit_run(results="results", audit=snakemake.output[0], **snakemake.params.settings)
