"""Decide which scans are used."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.quality.inclusion import decide_inclusion

    decide_inclusion(
        files_of(snakemake.input.measures, snakemake.params.batches, ".json").values(),
        snakemake.output.inclusion,
        settings=snakemake.params.settings,
        minimum_dof=snakemake.params.minimum_dof,
        set_aside=snakemake.params.set_aside,
    )
