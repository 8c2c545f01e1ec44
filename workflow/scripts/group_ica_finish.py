"""Add the parts of a product and make the block of the next pass."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.passes import finish_pass

    finish_pass(
        parts=snakemake.input.parts,
        blocks=snakemake.input.blocks,
        cohort=snakemake.wildcards.cohort,
        **snakemake.output,
    )
