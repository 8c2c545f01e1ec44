"""A linear model's procedure again on permuted labels."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.permutations import write_null

    write_null(
        **dict(snakemake.input),
        **snakemake.params.row,
        **snakemake.params.settings,
        key=(snakemake.wildcards.protocol, snakemake.wildcards.arm, snakemake.wildcards.model),
        cohorts=snakemake.params.cohorts,
        permutations=snakemake.params.permutations,
        null=snakemake.output[0],
    )
