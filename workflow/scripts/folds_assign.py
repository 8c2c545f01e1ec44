"""Deal the participants into folds and write the labels that each fold's training may read."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.folds import write_folds

    write_folds(
        **dict(snakemake.input),
        folds=snakemake.output.folds,
        label_tables=snakemake.output.labels,
        outcome_tables=snakemake.output.outcomes,
        **snakemake.params.settings,
        seed=snakemake.params.seed,
    )
