"""Where the spread of a cross-validated AUC comes from: how the cohort was split, and which participants it holds.

Everything else about a run is fixed by its seed. A repeat deals the folds anew and trains anew from other seeds, so that
repeats differ by split and seed together; a seed of its own on the same split would need more trainings than the run has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from restresponse.metrics.collect import BASELINE, CONSTANT
from restresponse.metrics.intervals import mean_fold_auc_draws, participant_weights
from restresponse.metrics.scores import Sample, fold_aucs

if TYPE_CHECKING:
    import pandas

COLUMNS = ("protocol", "arm", "model", "repeats", "sd_between_repeats", "sd_between_folds", "sd_participants")


def variance_table(predictions: pandas.DataFrame, *, resamples: int, seed: int) -> pandas.DataFrame:
    """Standard deviations of the mean of fold AUCs, one row a classifier.

    `sd_between_repeats`: of the repeats' means, from folds and seeds together; missing with one repeat. `sd_between_folds`:
    of the fold AUCs within a repeat. `sd_participants`: of the mean over all repeats when participants are resampled.
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
                float(means.std(ddof=1)) if len(means) > 1 else np.nan,
                float(np.sqrt(np.mean(np.square(within)))) if within else np.nan,
                float(np.nanstd(draws)),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
