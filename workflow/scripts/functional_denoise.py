"""Denoise the preprocessed scans of a batch of participants."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.functional.denoising import denoise_batch

    denoise_batch(
        dict(zip(snakemake.params.repetition_times, snakemake.input, strict=True)),
        snakemake.output[0],
        repetition_times=snakemake.params.repetition_times,
        settings=snakemake.params.settings,
    )
