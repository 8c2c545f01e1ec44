"""Connectivity, motion and global signal of a batch of participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import scan_files
    from restresponse.classifier.connectivity import measure_batch

    files = {name: snakemake.input[name] for name in ("quality", "inclusion", "mask")}
    for name in ("bold", "confounds"):
        files[name] = scan_files(snakemake.params.scans, snakemake.input[name])
    measure_batch(**files, folder=snakemake.output[0])
