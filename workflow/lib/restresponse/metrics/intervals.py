"""Intervals of the metrics: participants resampled within each response group; over repeats Nadeau and Bengio's.

A draw takes participants from the whole cohort, and a fold that lost a class in a draw is left out of that draw's mean
of fold AUCs. Drawing within each fold instead would keep every fold, but a fold of one non-responder then never varies:
on binormal scores of 29 and 14 in ten folds a nominal 95 % interval covered 73-79 %, drawn from the whole 95-96 %.

References: Efron & Tibshirani 1993 (percentile bootstrap); Nadeau & Bengio 2003 (variance over repeated splits);
Newcombe 2006, Statistics in Medicine 25:559 (method 5, score interval of an AUC); Wilson 1927.
"""

from __future__ import annotations

import numpy as np

from restresponse.metrics.scores import CONFUSION, THRESHOLD, Sample, fold_aucs, from_confusion

Interval = tuple[float, float]
NONE: Interval = (float("nan"), float("nan"))
_NO_WIDTH = 1e-9  # sums of weights differ in their last digit where the draws are the same


def participant_weights(response: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each draw takes each participant, `(resamples, n)`; each response group keeps its size."""
    rng = np.random.default_rng([seed, 9])
    weights = np.zeros((resamples, len(response)))
    for group in (True, False):
        members = np.flatnonzero(response == group)
        if len(members):
            weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return weights


def pooled_draws(sample: Sample, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every pooled metric in every draw, averaged over repeats: metric -> (resamples,)."""
    per_repeat = [_one_repeat(sample.response, score, weights) for score in sample.score]
    return {metric: np.mean([values[metric] for values in per_repeat], axis=0) for metric in per_repeat[0]}


def mean_fold_auc_draws(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Mean of the fold AUCs in every draw, `(resamples,)`, over the folds that keep both classes in it."""
    columns = []
    for score, folds in zip(sample.score, sample.fold, strict=True):
        for fold in sorted(set(folds)):
            members = folds == fold
            columns.append(_weighted_auc(sample.response[members], score[members], weights[:, members]))
    values = np.stack(columns, axis=1)
    defined = np.isfinite(values)
    counts = defined.sum(axis=1)
    return np.divide(
        np.where(defined, values, 0).sum(axis=1), counts, out=np.full(len(values), np.nan), where=counts > 0
    )


def percentile(value: float, draws: np.ndarray, confidence: float) -> Interval:
    """Percentile interval of the draws that are defined, widened to hold the value where a skewed draw misses it."""
    kept = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(kept):
        return NONE
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return min(float(low), value), max(float(high), value)


def nadeau_bengio(values: np.ndarray, test_share: float, confidence: float) -> Interval:
    """Interval of the mean of fold values over repeated cross-validation.

    The variance of the mean is (1/J + n_test/n_train) times that of the J fold values, since their training parts
    overlap. `test_share` is n_test/n_train, 1/(folds - 1). Cut to 0 to 1.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return NONE
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.sqrt(
        (1 / len(values) + test_share) * values.var(ddof=1)
    )
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))


def pooled_intervals(
    sample: Sample, values: dict[str, float], weights: np.ndarray, confidence: float
) -> dict[str, Interval]:
    """Metric -> interval of its pooled value.

    Where every draw gives the same (a perfect score has no bootstrap spread), the interval is a score interval instead
    or, where there is none for the metric, missing. Scores that do not differ at all keep theirs of no width: a constant
    classifier's table is fixed by the class counts.
    """
    draws = pooled_draws(sample, weights)
    found = {metric: percentile(values[metric], draws[metric], confidence) for metric in values}
    if sample.informative:
        fixed = {metric for metric, (low, high) in found.items() if high - low < _NO_WIDTH}
        bounds = _table_bounds(values, confidence) | {
            "auc": auc_score_interval(values["auc"], *_counts(sample), confidence)
        }
        found |= {metric: bounds.get(metric, NONE) for metric in fixed}
    return found


def mean_auc_interval(sample: Sample, value: float, weights: np.ndarray, confidence: float) -> Interval:
    """Interval of the mean of fold AUCs: of participants with one repeat, Nadeau and Bengio's with more.

    With one repeat each end is the wider of the percentile and of the score interval: where nearly every fold is perfect
    resampling hardly spreads, and the percentile interval of 29 and 14 held the AUC on fresh participants in 89 % of cohorts.
    """
    aucs = np.array([auc for auc, _ in fold_aucs(sample).values()])
    repeats = len(sample.score)
    if repeats > 1:
        folds = len(aucs) / repeats
        low, high = nadeau_bengio(aucs, 1 / (folds - 1), confidence)
    else:
        low, high = percentile(value, mean_fold_auc_draws(sample, weights), confidence)
        if sample.informative and np.isfinite(low):
            ends = auc_score_interval(value, *_counts(sample), confidence)
            low, high = min(low, ends[0]), max(high, ends[1])
    if high - low < _NO_WIDTH and sample.informative:
        return auc_score_interval(value, *_counts(sample), confidence)
    return low, high


def auc_score_interval(value: float, n_positive: int, n_negative: int, confidence: float) -> Interval:
    """Newcombe's score interval of an AUC (method 5), which keeps a width at 0 and 1."""
    from scipy import optimize, stats

    if not np.isfinite(value):
        return NONE
    z = stats.norm.ppf((1 + confidence) / 2)
    extra = (n_positive + n_negative) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (value - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (n_positive * n_negative)

    # The excess is negative beside the value and positive at the far end, unless that end is the value itself.
    step = 1e-9
    low = optimize.brentq(excess, 0.0, value - step) if value > step else 0.0
    high = optimize.brentq(excess, value + step, 1.0) if value < 1 - step else 1.0
    return min(float(low), value), max(float(high), value)


def wilson(successes: float, n: float, confidence: float) -> Interval:
    """Wilson's score interval of a proportion."""
    from scipy import stats

    z = stats.norm.ppf((1 + confidence) / 2)
    centre = (successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(successes * (n - successes) / n + z**2 / 4)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _table_bounds(values: dict[str, float], confidence: float) -> dict[str, Interval]:
    """Metrics of the confusion tables at both ends of Wilson's intervals of recall and specificity."""
    tn, fp, fn, tp = (values[cell] for cell in CONFUSION)
    if not (tp + fn and tn + fp):
        return {}
    recall, specificity = wilson(tp, tp + fn, confidence), wilson(tn, tn + fp, confidence)
    ends = [
        from_confusion(s * (tn + fp), (1 - s) * (tn + fp), (1 - r) * (tp + fn), r * (tp + fn))
        for r, s in zip(recall, specificity, strict=True)
    ]
    return {
        metric: (min(values[metric], *pair), max(values[metric], *pair))
        for metric in ends[0]
        if np.isfinite(values[metric]) and np.isfinite(pair := (float(ends[0][metric]), float(ends[1][metric]))).all()
    }


def _counts(sample: Sample) -> tuple[int, int]:
    return int(sample.response.sum()), int((~sample.response).sum())


def _one_repeat(response: np.ndarray, score: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    predicted = score >= THRESHOLD
    cells = np.stack(
        [~response & ~predicted, ~response & predicted, response & ~predicted, response & predicted], axis=1
    )
    values = from_confusion(*(weights @ cells).T)
    values["auc"] = _weighted_auc(response, score, weights)
    values["brier"] = weights @ (score - response) ** 2 / weights.sum(axis=1)
    values["pr_auc"] = _weighted_average_precision(response, score, weights)
    return values


def _weighted_auc(response: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    positive, negative = score[response], score[~response]
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    of_positive, of_negative = weights[:, response], weights[:, ~response]
    pairs = of_positive.sum(axis=1) * of_negative.sum(axis=1)
    won = ((of_positive @ wins) * of_negative).sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _weighted_average_precision(response: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(weights[:, order] * response[order], axis=1)[:, last_of_tie]
    taken = np.cumsum(weights[:, order], axis=1)[:, last_of_tie]
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    gained = np.diff(hits, axis=1, prepend=0)
    total = hits[:, -1]
    return np.divide((gained * precision).sum(axis=1), total, out=np.full(len(weights), np.nan), where=total > 0)
