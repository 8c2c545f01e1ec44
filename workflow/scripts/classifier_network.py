"""Train one fold's network and predict its test participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.devices import device
    from restresponse.classifier.network_fold import train_fold

    with device(snakemake.params.settings["gpu"]):
        train_fold(
            **dict(snakemake.input),
            fold=snakemake.wildcards.fold,
            **snakemake.params.row,
            **snakemake.params.settings,
            **dict(snakemake.output),
        )
