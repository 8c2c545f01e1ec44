"""Dual regression of one participant on the selected components alone."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.dual_regression import restrict_participant

    restrict_participant(
        **snakemake.input,
        threshold=float(snakemake.wildcards.p),
        normalise=snakemake.params.normalise,
        **snakemake.output,
    )
