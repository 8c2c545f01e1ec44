"""Audit what each fit has seen."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.audit import audit_run

    audit_run(results="results", **snakemake.output, **snakemake.params.settings)
