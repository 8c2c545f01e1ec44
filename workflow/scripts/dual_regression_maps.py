"""Dual regression of a batch of participants on all components of a cohort."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import scan_files
    from restresponse.dual_regression import regress_batch

    files = dict(snakemake.input)
    for name in ("bold", "records"):
        files[name] = scan_files(snakemake.params.scans, snakemake.input[name])
    regress_batch(**files, normalise=snakemake.params.normalise, folder=snakemake.output[0])
