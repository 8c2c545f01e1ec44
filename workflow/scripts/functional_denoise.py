"""Denoise one preprocessed scan."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.functional.denoising import denoise_scan

    denoise_scan(
        *snakemake.input,
        *snakemake.output,
        scan=snakemake.wildcards.scan,
        repetition_time=snakemake.params.repetition_time,
        settings=snakemake.params.settings,
    )
