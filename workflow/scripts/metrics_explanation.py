"""What the classifiers looked at, over folds: networks in order, maps, stability; withheld where the AUC may be chance."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.explanation import write_explanations

    write_explanations(**snakemake.input, **snakemake.params.settings, explanation=snakemake.output[0])
