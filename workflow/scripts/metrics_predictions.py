"""Join the predictions of every fold with the truth."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.collect import collect_predictions

    collect_predictions(
        files=dict(zip(map(tuple, snakemake.params.classifications), snakemake.input.files, strict=True)),
        training=dict(zip(snakemake.params.folds, snakemake.input.training, strict=True)),
        baselines=dict(zip(snakemake.params.folds, snakemake.input.baselines, strict=True)),
        folds=snakemake.input.folds,
        labels=snakemake.input.labels,
        predictions=snakemake.output[0],
    )
