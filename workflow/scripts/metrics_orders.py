"""The table that sets the numbers of components beside each other."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.orders import write_orders

    write_orders(**snakemake.input, **snakemake.params.settings, **snakemake.output)
