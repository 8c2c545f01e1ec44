"""Predict one fold's percent fall of pain, and responders at each threshold."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.measured_fold import fit_measured

    fit_measured(
        **dict(snakemake.input),
        fold=snakemake.wildcards.fold,
        **snakemake.params.settings,
        **dict(snakemake.output),
    )
