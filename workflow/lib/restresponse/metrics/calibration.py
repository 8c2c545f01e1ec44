"""Whether a score is a probability: calibration slope and intercept, the reliability curve, the decision curve.

References: Cox 1958 (recalibration of a logit); Van Calster et al. 2019; Vickers & Elkin 2006 (net benefit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from restresponse.metrics.collect import CONSTANT
from restresponse.metrics.scores import Sample

if TYPE_CHECKING:
    import pandas

CALIBRATION_COLUMNS = ("protocol", "arm", "model", "slope", "intercept", "mean_score", "observed", "n")
RELIABILITY_COLUMNS = ("protocol", "arm", "model", "bin", "mean_score", "observed", "low", "high", "n")
DECISION_COLUMNS = ("protocol", "arm", "model", "threshold", "net_benefit", "treat_all")
BINS = 5
THRESHOLDS = np.round(np.arange(0.05, 0.96, 0.05), 2)
_INSIDE = 1e-6  # kept from 0 and 1, where a logit has no value


def calibration_tables(
    predictions: pandas.DataFrame, confidence: float
) -> tuple[pandas.DataFrame, pandas.DataFrame, pandas.DataFrame]:
    """Calibration, reliability and decision curve of each (protocol, arm, model) but the constant one; means over repeats."""
    import pandas as pd

    from restresponse.metrics.intervals import wilson

    lines, bins, curve = [], [], []
    for key, part in predictions.groupby(["protocol", "arm", "model"], sort=False):
        if key[2] == CONSTANT:
            continue
        sample = Sample.of(part)
        found = np.array([slope_and_intercept(sample.response, score) for score in sample.score])
        slope, intercept = (
            np.mean(values[np.isfinite(values)]) if np.isfinite(values).any() else np.nan for values in found.T
        )
        share = float(sample.response.mean())
        lines.append((*key, slope, intercept, float(sample.score.mean()), share, len(sample.response)))
        score = sample.score.mean(axis=0)
        for number, members in enumerate(reliability_bins(score), start=1):
            hits, n = float(sample.response[members].sum()), len(members)
            bins.append((*key, number, score[members].mean(), hits / n, *wilson(hits, n, confidence), n))
        for threshold in THRESHOLDS:
            benefit = np.mean([net_benefit(sample.response, row, threshold) for row in sample.score])
            everyone = share - (1 - share) * threshold / (1 - threshold)
            curve.append((*key, threshold, benefit, everyone))
    return (
        pd.DataFrame(lines, columns=list(CALIBRATION_COLUMNS)),
        pd.DataFrame(bins, columns=list(RELIABILITY_COLUMNS)),
        pd.DataFrame(curve, columns=list(DECISION_COLUMNS)),
    )


def slope_and_intercept(response: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Slope of the response on the score's logit, and the intercept at a slope of 1 (calibration in the large).

    1 and 0 are perfect; a slope below 1 means that scores are too extreme, an intercept above 0 that they are too low. NaN
    where scores do not differ, or separate the groups so that no finite slope exists.
    """
    from scipy import optimize
    from scipy.special import expit, logit

    link = logit(np.clip(score, _INSIDE, 1 - _INSIDE))
    truth = np.asarray(response, np.float64)
    if truth.min() == truth.max():
        return float("nan"), float("nan")

    def excess(shift: float) -> float:
        return float((expit(link + shift) - truth).sum())

    intercept = float(optimize.brentq(excess, -50, 50))
    apart = link[truth == 1].min() >= link[truth == 0].max() or link[truth == 1].max() <= link[truth == 0].min()
    if np.ptp(link) < 1e-9 or apart:
        return float("nan"), intercept
    unit = (link - link.mean()) / link.std()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        decision = weights[0] + weights[1] * unit
        gap = expit(decision) - truth
        return float(np.logaddexp(0, np.where(truth == 1, -decision, decision)).sum()), np.array(
            [gap.sum(), gap @ unit]
        )

    found = optimize.minimize(loss, np.zeros(2), jac=True, method="BFGS")
    return float(found.x[1] / link.std()), intercept


def reliability_bins(score: np.ndarray) -> list[np.ndarray]:
    """Positions of the participants of each of `BINS` bins of about equal size, in the order of their scores."""
    order = np.argsort(score, kind="stable")
    return [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]


def net_benefit(response: np.ndarray, score: np.ndarray, threshold: float) -> float:
    """True positives less false positives weighed by the odds of the threshold, over all participants."""
    treated = score >= threshold
    right, wrong = (treated & response).sum(), (treated & ~response).sum()
    return float((right - wrong * threshold / (1 - threshold)) / len(response))
