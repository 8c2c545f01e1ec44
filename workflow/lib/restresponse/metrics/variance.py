"""Where the spread of a cross-validated AUC comes from: how the cohort was split, and which participants it holds.

Everything else about a run is fixed by its seed. A repeat deals the folds anew and trains from other seeds, so that repeats
differ by both; with `folds.seeds` above 1 some share their folds, and an analysis of variance tells the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from restresponse.metrics.collect import BASELINE, CONSTANT
from restresponse.metrics.intervals import mean_fold_auc_draws, participant_weights
from restresponse.metrics.scores import Sample, fold_aucs

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "protocol",
    "arm",
    "model",
    "repeats",
    "splits",
    "sd_between_repeats",
    "sd_splits",
    "sd_seeds",
    "sd_between_folds",
    "sd_participants",
)


def variance_table(predictions: pandas.DataFrame, *, resamples: int, seed: int) -> pandas.DataFrame:
    """Standard deviations of the mean of fold AUCs, one row a classifier.

    `sd_between_repeats`: of the repeats' means, from folds and seeds together; missing with one repeat. `sd_seeds`: of the
    repeats that share a split; `sd_splits`: of the splits, less what the seeds make of it; missing where no split is shared.
    `sd_between_folds`: of the fold AUCs within a repeat. `sd_participants`: of the mean over all repeats when participants
    are resampled.
    """
    import pandas as pd

    rows = []
    for key, part in predictions.groupby(["protocol", "arm", "model"], sort=False):
        if key[2] == CONSTANT or key[1] == BASELINE:
            continue
        sample = Sample.of(part)
        areas = fold_aucs(sample)
        by_repeat = [
            np.array([areas[fold][0] for fold in sorted(set(folds)) if np.isfinite(areas[fold][0])])
            for folds in sample.fold
        ]
        means = np.array([values.mean() for values in by_repeat])
        within = [values.std(ddof=1) for values in by_repeat if len(values) > 1]
        draws = mean_fold_auc_draws(sample, participant_weights(sample.response, resamples, seed))
        rows.append(
            (
                *key,
                len(means),
                len(split_groups(sample)),
                float(means.std(ddof=1)) if len(means) > 1 else np.nan,
                *components_of_spread(means, split_groups(sample)),
                float(np.sqrt(np.mean(np.square(within)))) if within else np.nan,
                float(np.nanstd(draws)),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def split_groups(sample: Sample) -> list[list[int]]:
    """Repeats (rows of `sample`) by split: those in which the same participants are tested together."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for repeat, folds in enumerate(sample.fold):
        groups.setdefault(tuple(fold.split("_", 1)[-1] for fold in folds), []).append(repeat)
    return list(groups.values())


def components_of_spread(means: np.ndarray, groups: list[list[int]]) -> tuple[float, float]:
    """Standard deviations of splits and of seeds from the repeats' means, by analysis of variance; NaN where not known."""
    shared = [means[group] for group in groups if len(group) > 1]
    if not shared:
        return np.nan, np.nan
    degrees = sum(len(values) - 1 for values in shared)
    seeds = sum(np.square(values - values.mean()).sum() for values in shared) / degrees
    if len(groups) < 2:
        return np.nan, float(np.sqrt(seeds))
    of_splits = np.array([means[group].mean() for group in groups])
    from_seeds = seeds * float(np.mean([1 / len(group) for group in groups]))
    return float(np.sqrt(max(0.0, of_splits.var(ddof=1) - from_seeds))), float(np.sqrt(seeds))
