"""The first preprocessed volumes of a batch of participants on the classifier's grid."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.volumes import extract_batch
    from restresponse.layout import preprocessed_images

    files = dict(snakemake.input)
    files["bold"] = preprocessed_images(files.pop("preprocessed"), snakemake.params.scans)
    extract_batch(**files, **snakemake.params.settings, folder=snakemake.output[0])
