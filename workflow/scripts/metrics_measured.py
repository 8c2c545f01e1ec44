"""How well the percent fall of pain is predicted, and responders at each threshold."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.metrics.measured import write_measured

    folds = snakemake.params.folds
    predictions, permuted = (
        dict(zip(folds, snakemake.input[name], strict=True)) for name in ("predictions", "permuted")
    )
    plain = {name: snakemake.input[name] for name in ("folds", "outcomes")}
    write_measured(
        **plain, predictions=predictions, permuted=permuted, **snakemake.params.settings, **dict(snakemake.output)
    )
