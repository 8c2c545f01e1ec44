"""Classifiers against one another and against the best baseline: differences of AUC by paired resampling, McNemar's test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from restresponse.metrics.collect import BASELINE, CONSTANT
from restresponse.metrics.intervals import mean_fold_auc_draws, participant_weights, percentile
from restresponse.metrics.scores import THRESHOLD, Sample, mean_fold_auc

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "protocol", "arm", "model", "other_arm", "other_model", "auc", "other_auc", "difference", "low", "high",
    "only_this_right", "only_other_right", "p_mcnemar", "n",
)  # fmt: skip


def best_baseline(predictions: pandas.DataFrame) -> tuple[str, str, str] | None:
    """The baseline of greatest mean fold AUC, the constant classifier's 0.5 excepted; None where there is none."""
    parts = predictions[predictions["arm"] == BASELINE].groupby(["protocol", "arm", "model"], sort=False)
    areas = {key: mean_fold_auc(Sample.of(part)) for key, part in parts}
    known = {key: area for key, area in areas.items() if np.isfinite(area)}
    return max(known, key=known.__getitem__) if known else None


def comparisons_table(
    predictions: pandas.DataFrame, *, resamples: int, confidence: float, seed: int
) -> pandas.DataFrame:
    """Every pair of classifiers of a protocol, and each classifier beside the best baseline, on the participants of both.

    The difference is of the means of fold AUCs, with a percentile interval over resampled participants, the same in both.
    McNemar's exact test counts who is classified rightly by one of the two alone, at a score of 0.5, in the first repeat.
    """
    import pandas as pd

    parts = dict(list(predictions.groupby(["protocol", "arm", "model"], sort=False)))
    samples = {key: Sample.of(part) for key, part in parts.items() if key[2] != CONSTANT}
    best, rows = best_baseline(predictions), []
    classifiers = [key for key in samples if key[1] != BASELINE]
    pairs = [(a, b) for place, a in enumerate(classifiers) for b in classifiers[place + 1 :] if a[0] == b[0]]
    pairs += [(key, best) for key in classifiers if best is not None]
    for first, second in pairs:
        common = np.intersect1d(samples[first].participants, samples[second].participants)
        one, other = (samples[key].subset(common) for key in (first, second))
        weights = participant_weights(one.response, resamples, seed)
        areas = mean_fold_auc(one), mean_fold_auc(other)
        draws = mean_fold_auc_draws(one, weights) - mean_fold_auc_draws(other, weights)
        interval = percentile(areas[0] - areas[1], draws, confidence)
        rows.append((*first, *second[1:], *areas, areas[0] - areas[1], *interval, *mcnemar(one, other), len(common)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def mcnemar(one: Sample, other: Sample) -> tuple[int, int, float]:
    """How many of the first repeat only the first and only the second classifies rightly, and the exact two-sided p."""
    from scipy import stats

    right = [(sample.score[0] >= THRESHOLD) == sample.response for sample in (one, other)]
    first, second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    p = float(stats.binomtest(first, first + second).pvalue) if first + second else float("nan")
    return first, second, p
