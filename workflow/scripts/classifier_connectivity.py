"""Connectivity, motion and global signal of a batch of participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.connectivity import measure_batch
    from restresponse.layout import confounds_tables, denoised_images

    files = dict(snakemake.input)
    files["bold"] = denoised_images(files.pop("denoised"), snakemake.params.scans)
    files["confounds"] = confounds_tables(files.pop("preprocessed"), snakemake.params.scans)
    measure_batch(**files, folder=snakemake.output[0])
