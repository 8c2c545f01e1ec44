"""The first preprocessed volumes of a batch of participants on the classifier's grid."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import scan_files
    from restresponse.classifier.volumes import extract_batch

    files = dict(snakemake.input)
    files["bold"] = scan_files(snakemake.params.scans, files["bold"])
    extract_batch(**files, **snakemake.params.settings, folder=snakemake.output[0])
