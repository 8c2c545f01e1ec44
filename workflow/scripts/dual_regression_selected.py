"""Dual regression of a batch of participants on the selected components alone."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.dual_regression import restrict_batch

    restrict_batch(
        **snakemake.input,
        participants=snakemake.params.participants,
        threshold=float(snakemake.wildcards.p),
        normalise=snakemake.params.normalise,
        folder=snakemake.output[0],
    )
