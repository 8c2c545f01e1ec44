"""A fold's network again on permuted labels."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.devices import device
    from restresponse.metrics.network_null import write_network_null

    key = (snakemake.wildcards.protocol, snakemake.wildcards.arm, snakemake.wildcards.model)
    shared = {**snakemake.params.row, **snakemake.params.settings, "permutations": snakemake.params.permutations}
    with device(snakemake.params.settings["gpu"]):
        write_network_null(
            **dict(snakemake.input), **shared, key=key, fold=snakemake.wildcards.fold, null=snakemake.output[0]
        )
