"""Decide which scans are used."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.inclusion import decide_inclusion

    decide_inclusion(
        snakemake.input.measures,
        snakemake.output.inclusion,
        settings=snakemake.params.settings,
        minimum_dof=snakemake.params.minimum_dof,
        set_aside=snakemake.params.set_aside,
    )
