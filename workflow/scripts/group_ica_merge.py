"""Merge the reduced maps of a part's participants, or the nodes below, into a node of a cohort's tree."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.merge import merge_node

    merge_node(
        maps=snakemake.input.maps,
        batches=snakemake.params.batches,
        cohort=snakemake.wildcards.cohort,
        folds=str(snakemake.input.folds) or None,
        n_dimensions=snakemake.params.n_dimensions,
        **snakemake.output,
    )
