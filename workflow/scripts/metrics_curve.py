"""The curve of p: components selected and the AUC of linear models at each."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.curve import write_curve

    write_curve(**snakemake.params.settings, curve=snakemake.output[0])
