"""The first preprocessed volumes of one participant on the classifier's grid."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.volumes import extract_volumes

    files = dict(snakemake.input)
    files["bold"] = dict(zip(snakemake.params.scans, files["bold"], strict=True))
    extract_volumes(
        **files, participant=snakemake.wildcards.participant, **snakemake.params.settings, **dict(snakemake.output)
    )
