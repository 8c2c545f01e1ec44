"""Multiply a block by the reduced maps of a part's participants who are in the cohort."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.group_ica.passes import multiply_part

    multiply_part(
        reduced=files_of(snakemake.input.reduced, snakemake.params.batches, "_reduced.npy"),
        block=snakemake.input.block,
        cohort=snakemake.wildcards.cohort,
        folds=str(snakemake.input.folds) or None,
        **snakemake.output,
    )
