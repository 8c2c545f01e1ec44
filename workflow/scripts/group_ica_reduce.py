"""Reduce the denoised scans of one participant to their leading dimensions."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.reduction import reduce_participant

    reduce_participant(
        bold=dict(zip(snakemake.params.scans, snakemake.input.bold, strict=True)),
        mask=snakemake.input.mask,
        inclusion=snakemake.input.inclusion,
        participant=snakemake.wildcards.participant,
        n_dimensions=snakemake.params.n_dimensions,
        **snakemake.output,
    )
