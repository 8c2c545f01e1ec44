"""The percent fall of pain: how well it is predicted itself, and how well responders are at each of several thresholds.

Predictions of a fold lean to the mean of its training participants, who are the others: where there is nothing to find a
pooled correlation is therefore below 0, and each measure stands beside its own null. R2 is out of fold, against the mean of
the training participants: 0 is what that mean gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.measured_fold import CHANGE, responses_at, shuffles, target_of
from restresponse.files import read_array, read_table, write_table
from restresponse.metrics.intervals import mean_auc_interval, participant_weights, percentile
from restresponse.metrics.permutations import exceedance, standardised
from restresponse.metrics.scores import Sample, fold_aucs, mean_fold_auc

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "arm", "model", "metric", "value", "low", "high", "null_mean", "null_sd", "p", "p_maxt", "n", "n_permutations",
)  # fmt: skip
THRESHOLD_COLUMNS = ("threshold", "arm", "model", "responders", "others", "folds", "auc", "low", "high", "note")
PREDICTION_COLUMNS = ("arm", "model", "repeat", "fold", "participant_id", "pain_change", "predicted", "training_mean")
_BETTER = {"spearman": 1, "r2": 1, "mae": -1}  # in which direction
_TEXT = ("arm", "model", "target", "fold", "participant_id")


def write_measured(
    *,
    folds: str | Path,
    outcomes: str | Path,
    predictions: Mapping[str, str | Path],
    permuted: Mapping[str, str | Path],
    models: Sequence[tuple[str, str]],
    thresholds: Sequence[float],
    resamples: int,
    confidence: float,
    n_permutations: int,
    seed: int,
    scores: str | Path,
    sweep: str | Path,
    pairs: str | Path,
) -> None:
    """Write the tables of the percent fall of pain from every fold's job.

    Parameters
    ----------
    outcomes : table of participant_id, response and pain_change of everyone whose change is known
    predictions, permuted : fold -> what `fit_measured` wrote; both empty where no change is predicted, and the tables too
    models : (arm, model) of each linear model
    scores, sweep, pairs : the tables to write, columns `COLUMNS`, `THRESHOLD_COLUMNS` and `PREDICTION_COLUMNS`
    """
    import pandas as pd

    tested = read_table(folds)
    known = read_table(outcomes).set_index("participant_id")
    found = [read_table(path, text_columns=_TEXT).assign(fold=fold) for fold, path in predictions.items()]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*_TEXT, "predicted"])
    table = table.merge(tested, on=["fold", "participant_id"])
    table = table[table["participant_id"].isin(known.index)]
    table["pain_change"] = table["participant_id"].map(known["pain_change"]).astype(float)
    table["training_mean"] = table["fold"].map(_training_means(tested, known["pain_change"]))
    settings = {"resamples": resamples, "confidence": confidence, "seed": seed}
    change = table[table["target"] == CHANGE]
    null = _null(tested, known["pain_change"], permuted, models, n_permutations, seed)
    write_table(scores, change_table(change, null, **settings))
    write_table(sweep, threshold_table(table, known, tested, models, thresholds, **settings))
    write_table(pairs, change[list(PREDICTION_COLUMNS)])


def measures(change: np.ndarray, predicted: np.ndarray, mean: np.ndarray) -> dict[str, np.ndarray]:
    """Spearman's correlation, out-of-fold R2 and mean absolute error along the last axis."""
    from scipy.stats import rankdata

    first, second = (rankdata(values, axis=-1) for values in np.broadcast_arrays(change, predicted))
    first, second = (values - values.mean(axis=-1, keepdims=True) for values in (first, second))
    spread = np.sqrt(np.square(first).sum(axis=-1) * np.square(second).sum(axis=-1))
    about = np.square(change - mean).sum(axis=-1)
    left = np.square(change - predicted).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "spearman": np.where(spread > 0, (first * second).sum(axis=-1) / spread, np.nan),
            "r2": np.where(about > 0, 1 - left / about, np.nan),
            "mae": np.abs(change - predicted).mean(axis=-1),
        }


def change_table(
    predictions: pandas.DataFrame,
    null: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> pandas.DataFrame:
    """Each measure of each linear model: pooled over folds, averaged over repeats, participants resampled; p by permutation.

    Parameters
    ----------
    predictions : columns `PREDICTION_COLUMNS`
    null : (arm, model) -> measure -> (n_permutations,), of the first repeat
    """
    import pandas as pd

    rows, first = [], {}
    for key, part in predictions.groupby(["arm", "model"], sort=False):
        wide = part.pivot(
            index="repeat", columns="participant_id", values=["pain_change", "predicted", "training_mean"]
        )
        arrays = [wide[name].to_numpy(np.float64) for name in ("pain_change", "predicted", "training_mean")]
        n = arrays[0].shape[1]
        drawn = np.random.default_rng([seed, 11]).integers(n, size=(resamples, n))
        values = [measures(*(array[repeat] for array in arrays)) for repeat in range(len(wide))]
        draws = [measures(*(array[repeat][drawn] for array in arrays)) for repeat in range(len(wide))]
        first[key] = values[0]
        for metric in _BETTER:
            value = float(np.mean([one[metric] for one in values]))
            spread = np.mean([one[metric] for one in draws], axis=0)
            rows.append([*key, metric, value, *percentile(value, spread, confidence), n])
    for row in rows:
        row[6:6] = _p_values(tuple(row[:2]), row[2], first, null)
        row.append(len(null.get(tuple(row[:2]), {}).get(row[2], ())))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def threshold_table(
    predictions: pandas.DataFrame,
    known: pandas.DataFrame,
    tested: pandas.DataFrame,
    models: Sequence[tuple[str, str]],
    thresholds: Sequence[float],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> pandas.DataFrame:
    """Clean AUC of responders at each threshold, mean of the folds that test both classes; or why there is none, in words."""
    import pandas as pd

    rows, folds = [], tested.groupby("fold")["participant_id"].apply(set)
    repeats = tested["repeat"].nunique()
    for threshold in thresholds:
        answers = pd.Series(responses_at(known["pain_change"].to_numpy(np.float64), threshold), known.index, dtype=int)
        counts = int((answers == 1).sum()), int((answers == 0).sum())
        part = predictions[predictions["target"] == target_of(threshold)]
        part = part.assign(response=part["participant_id"].map(answers), y_score=part["predicted"].astype(float))
        whole = [members for members in folds if answers.reindex(sorted(members)).dropna().nunique() == 2]
        for arm, model in models:
            own = part[(part["arm"] == arm) & (part["model"] == model)]
            row = (threshold, arm, model, *counts, len(whole))
            if own.groupby("repeat")["fold"].nunique().sum() < len(folds) or not whole:
                note = (
                    f"too few of a class: {counts[0]} responders and {counts[1]} others; expected at least two of each in "
                    "every fold's training part, and both in the test part of a fold"
                )
                rows.append((*row, np.nan, np.nan, np.nan, note))
                continue
            sample = Sample.of(own)
            value = mean_fold_auc(sample)
            weights = participant_weights(sample.response, resamples, seed)
            # A fold without both classes counts in no repeat's mean; the interval over repeats needs two that do.
            enough = sum(np.isfinite(auc) for auc, _ in fold_aucs(sample).values()) > repeats
            interval = mean_auc_interval(sample, value, weights, confidence) if enough else (np.nan, np.nan)
            missing = len(folds) - len(whole)
            note = f"{missing} of {len(folds)} folds test one class alone and have no AUC" if missing else None
            rows.append((*row, value, *interval, note))
    return pd.DataFrame(rows, columns=list(THRESHOLD_COLUMNS))


def _training_means(tested: pandas.DataFrame, change: pandas.Series) -> dict[str, float]:
    """Fold -> mean change of its training participants."""
    return {
        fold: float(change.drop(members, errors="ignore").mean())
        for fold, members in tested.groupby("fold")["participant_id"]
    }


def _null(
    tested: pandas.DataFrame,
    change: pandas.Series,
    permuted: Mapping[str, str | Path],
    models: Sequence[tuple[str, str]],
    n_permutations: int,
    seed: int,
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Each measure of each model on each permutation, from what the folds of the first repeat wrote."""
    numbers = range(1, n_permutations + 1)
    predicted: list[np.ndarray] = []
    truth: list[np.ndarray] = []
    means: list[np.ndarray] = []
    own = sorted(tested.loc[tested["repeat"] == tested["repeat"].min(), "fold"].unique())
    for fold in own if n_permutations and permuted else []:
        members = sorted(tested.loc[tested["fold"] == fold, "participant_id"])
        inside = [index for index, name in enumerate(members) if name in change.index]
        values = change.loc[[members[index] for index in inside]].to_numpy(np.float64)
        predicted.append(read_array(permuted[fold])[:, :, inside])
        truth.append(values[shuffles(seed, fold, len(values), numbers)])
        # A permutation within folds keeps the sum of each, and so every fold's training mean.
        training = float(change.drop(members, errors="ignore").mean())
        means.append(np.full(truth[-1].shape, training))
    if not sum(part.shape[1] for part in truth):
        return {}
    whole, mean = np.concatenate(truth, axis=1), np.concatenate(means, axis=1)
    scores = np.concatenate(predicted, axis=2)
    return {tuple(key): measures(whole, scores[index], mean) for index, key in enumerate(models)}


def _p_values(
    key: tuple[str, str],
    metric: str,
    first: Mapping[tuple[str, str], Mapping[str, Any]],
    null: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
) -> tuple[float, float, float, float]:
    """Centre and spread of a measure's null, p, and p after the best of all models was looked for."""
    drawn = {
        other: _BETTER[metric] * np.r_[first[other][metric], null[other][metric]] for other in first if other in null
    }
    if key not in drawn or not np.isfinite(drawn[key]).all() or len(drawn[key]) < 3:
        return (np.nan,) * 4
    own = drawn[key]
    usable = [standardised(values) for values in drawn.values() if np.isfinite(values).all()]
    largest = np.max(usable, axis=0)
    p_maxt = exceedance(standardised(own)[0], largest[1:])
    plain = null[key][metric]
    return float(plain.mean()), float(plain.std(ddof=1)), exceedance(own[0], own[1:]), p_maxt
