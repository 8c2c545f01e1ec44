"""Merge the topmost nodes of a cohort's tree into the first block of the passes."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.merge import start_passes

    start_passes(
        nodes=snakemake.input.nodes,
        cohort=snakemake.wildcards.cohort,
        n_dimensions=snakemake.params.n_dimensions,
        **snakemake.output,
    )
