"""Fit one fold's baselines and predict its test participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.baselines import fit_baselines

    fit_baselines(
        **dict(snakemake.input),
        batches=snakemake.params.batches,
        fold=snakemake.wildcards.fold,
        **dict(snakemake.output),
    )
