"""Deal the participants into folds and write the labels that each fold's training may read."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.folds import write_folds

    write_folds(
        snakemake.input.labels,
        snakemake.input.inclusion,
        snakemake.output.folds,
        snakemake.output.labels,
        **snakemake.params.settings,
        seed=snakemake.params.seed,
    )
