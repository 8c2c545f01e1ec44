"""Dual regression of a batch of participants on all components of a cohort."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.dual_regression import regress_batch
    from restresponse.layout import denoised_images

    files = dict(snakemake.input)
    files["bold"] = denoised_images(files.pop("denoised"), snakemake.params.scans)
    regress_batch(**files, **snakemake.params.settings, folder=snakemake.output[0])
