"""The tables of the cohort, of motion by group, of the computing time and of the components' stability over folds."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.tables import write_tables

    write_tables(**snakemake.input, **snakemake.output, **snakemake.params.settings)
