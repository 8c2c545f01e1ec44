"""Reduce the denoised scans of a batch of participants to their leading dimensions."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.reduction import reduce_batch
    from restresponse.layout import denoised_images

    reduce_batch(
        bold=denoised_images(snakemake.input.denoised, snakemake.params.scans),
        mask=snakemake.input.mask,
        inclusion=snakemake.input.inclusion,
        n_dimensions=snakemake.params.n_dimensions,
        normalisation=snakemake.params.normalisation,
        folder=snakemake.output[0],
    )
