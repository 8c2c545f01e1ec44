"""Fit one fold's linear model and predict its test participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.linear_fold import fit_fold

    fit_fold(
        **dict(snakemake.input),
        fold=snakemake.wildcards.fold,
        views=snakemake.params.views,
        **snakemake.params.row,
        **snakemake.params.settings,
        **dict(snakemake.output),
    )
