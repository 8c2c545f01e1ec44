"""Each linear model fitted again without a network: the AUC that is lost."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.left_out import write_left_out

    named = {name: snakemake.input[name] for name in ("metrics", "reference", "networks")}
    folds = dict(zip(snakemake.params.folds, snakemake.input.fold_components, strict=True))
    write_left_out(**named, fold_components=folds, **snakemake.params.settings, table=snakemake.output[0])
