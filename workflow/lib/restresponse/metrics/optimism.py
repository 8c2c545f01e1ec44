"""The tables `metrics.tsv` and `optimism.tsv`: each classifier's scores, and what a protocol adds to the clean one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.ladder import CLEAN, LEAKS, absence, leak_of, number_of, runs
from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.metrics.collect import CONSTANT
from restresponse.metrics.intervals import (
    mean_auc_interval,
    mean_fold_auc_draws,
    participant_weights,
    percentile,
    pooled_draws,
    pooled_intervals,
)
from restresponse.metrics.scores import Sample, fold_aucs, mean_fold_auc, pooled_values

if TYPE_CHECKING:
    import pandas

METRICS_COLUMNS = ("protocol", "arm", "model", "metric", "scope", "value", "low", "high", "n")
OPTIMISM_COLUMNS = (
    "protocol", "arm", "model", "metric", "scope", "clean", "value", "difference", "low", "high", "n",
    "leaks", "by_construction",
)  # fmt: skip
_TEXT = ("protocol", "arm", "model", "fold", "participant_id")


def score_predictions(
    *,
    predictions: str | Path,
    metrics: str | Path,
    optimism: str | Path,
    protocols: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    resamples: int,
    confidence: float,
    seed: int,
) -> None:
    """Write `metrics.tsv` and `optimism.tsv` from `predictions.tsv`; protocols, arms and models are the config's."""
    table = read_table(predictions, text_columns=_TEXT)
    if table.empty:
        raise InputError(
            f"{predictions} holds no prediction; expected one a test participant: see results/quality/inclusion.tsv"
        )
    write_table(metrics, metrics_table(table, resamples=resamples, confidence=confidence, seed=seed))
    write_table(
        optimism,
        optimism_table(
            table, protocols=protocols, arms=arms, models=models, resamples=resamples, confidence=confidence, seed=seed
        ),
    )


def metrics_table(predictions: pandas.DataFrame, *, resamples: int, confidence: float, seed: int) -> pandas.DataFrame:
    """Every metric of every (protocol, arm, model): the mean of fold AUCs first, then pooled, then each fold's AUC."""
    import pandas as pd

    rows = []
    for key, part in predictions.groupby(["protocol", "arm", "model"], sort=False):
        sample = Sample.of(part)
        weights = participant_weights(sample.response, resamples, seed)
        n = len(sample.participants)
        mean = mean_fold_auc(sample)
        rows.append((*key, "auc", "mean", mean, *mean_auc_interval(sample, mean, weights, confidence), n))
        values = pooled_values(sample)
        intervals = pooled_intervals(sample, values, weights, confidence)
        rows += [(*key, metric, "pooled", value, *intervals[metric], n) for metric, value in values.items()]
        rows += [(*key, "auc", fold, value, np.nan, np.nan, size) for fold, (value, size) in fold_aucs(sample).items()]
    return pd.DataFrame(rows, columns=list(METRICS_COLUMNS))


def optimism_table(
    predictions: pandas.DataFrame,
    *,
    protocols: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    resamples: int,
    confidence: float,
    seed: int,
) -> pandas.DataFrame:
    """AUC of each protocol less the clean one's, same participants in both, resampled together.

    A rung that was not run for an arm and model, as its leak cannot act there, is the clean protocol itself.
    """
    import pandas as pd

    parts = dict(list(predictions.groupby(["protocol", "arm", "model"], sort=False)))
    for protocol, arm, model in _not_run(protocols, arms, models):
        if (CLEAN, arm, model) in parts:
            parts[protocol, arm, model] = parts[CLEAN, arm, model]
    order = {name: number for number, name in enumerate(protocols)}
    parts = {key: parts[key] for key in sorted(parts, key=lambda key: order.get(key[0], len(order)))}
    rows = []
    for (protocol, arm, model), part in parts.items():
        if protocol == CLEAN or (CLEAN, arm, model) not in parts:
            continue
        samples = [Sample.of(parts[CLEAN, arm, model]), Sample.of(part)]
        common = np.intersect1d(samples[0].participants, samples[1].participants)
        clean, other = (sample.subset(common) for sample in samples)
        leaks, reason = leaks_between(
            protocols[CLEAN], protocols[protocol], arms[arm], None if model == CONSTANT else models[model]
        )
        weights = participant_weights(clean.response, resamples, seed)
        for scope, measure, draw in (
            ("mean", mean_fold_auc, mean_fold_auc_draws),
            ("pooled", lambda s: pooled_values(s)["auc"], lambda s, w: pooled_draws(s, w)["auc"]),
        ):
            before, after = measure(clean), measure(other)
            interval = percentile(after - before, draw(other, weights) - draw(clean, weights), confidence)
            values = before, after, after - before, *interval, len(common)
            rows.append((protocol, arm, model, "auc", scope, *values, leaks, reason))
    return pd.DataFrame(rows, columns=list(OPTIMISM_COLUMNS))


def leaks_between(
    clean: Mapping[str, Any], protocol: Mapping[str, Any], arm: Mapping[str, Any], model: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Leaks that a protocol can have for an arm and model, and, where it can have none, why the difference must be 0.

    Parameters
    ----------
    clean, protocol : rows of classifier.protocols
    arm : of classifier.arms
    model : of classifier.models; None for the constant classifier

    Returns
    -------
    leaks : `L1 group_ica; L4 epoch` …, or None
    reason : a sentence, or None where a leak is possible
    """
    if model is None:
        return None, "reads no image and no test label"
    absent = {leak: absence(leak, arm, model) for leak in LEAKS}
    differing = [leak for leak in LEAKS if protocol.get(leak) != clean.get(leak)]
    possible = [f"{number_of(leak)} {leak}" for leak in differing if absent[leak] is None]
    if possible:
        return "; ".join(possible), None
    if not differing:
        return None, "the same settings as clean"
    return None, "; ".join(absent[leak] for leak in differing)


def _not_run(
    protocols: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, str, str]]:
    """Every (rung, arm, model) that the plan leaves out."""
    return [
        (protocol, arm, model)
        for protocol in protocols
        if leak_of(protocol)
        for arm, settings in arms.items()
        for model in settings["models"]
        if not runs(protocol, settings, models[model])
    ]
