"""Logistic ridge regression on the participants' kernel, its penalty chosen by the mean AUC of held-out folds.

An exact map of the training participants' kernel into as many coordinates as it has rank makes it an ordinary logistic
regression (scikit-learn's, Newton's method: no random start). A fold costs milliseconds, so that the whole procedure can
be repeated on permuted labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from restresponse.classifier.inner import check_both_classes, inner_folds
from restresponse.classifier.kernel import MapProducts, feature_map
from restresponse.classifier.scores import area_under_curve, log_loss
from restresponse.classifier.search import Objective, Report


@dataclass(frozen=True)
class Split:
    """One training and the participants it is looked at on, as positions, and the selected components (None: all)."""

    products: MapProducts
    training: np.ndarray
    watched: np.ndarray
    selected: np.ndarray | None = None

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """`feature_map` of the split's channels, scaled and centred by its training participants."""
        return feature_map(self.products.channels(self.selected).kernel(self.training), self.training)


@dataclass(frozen=True)
class LinearModel:
    """A fitted logistic ridge.

    Attributes
    ----------
    scores : (n_participants,) probability of a responder, of every participant of the kernel
    dual_coefficients : (n_training,) weights of the centred kernel's columns
    intercept : float
    """

    scores: np.ndarray
    dual_coefficients: np.ndarray
    intercept: float


def fit(split: Split, response: np.ndarray, penalty: float) -> LinearModel:
    """Fit on the split's training participants with inverse strength `penalty`; `response` is read at those alone."""
    features, basis = split.features()
    weights, intercept = _logistic(features[split.training], response[split.training], penalty)
    return LinearModel(_probability(features @ weights + intercept), basis @ weights, intercept)


def choose_penalty(
    splits: Sequence[Split], response: np.ndarray, penalties: Sequence[float]
) -> tuple[float, list[dict[str, float]]]:
    """Choose the inverse strength with the highest mean AUC over the splits' watched participants.

    Ties go to the lower log-loss over all watched participants, then to the stronger penalty.

    Parameters
    ----------
    splits : trainings and whom to watch
    response : (n_participants,) of 1 and 0, read at training and watched participants alone
    penalties : inverse strengths C

    Returns
    -------
    penalty : float
    search : `penalty`, `auc` and `log_loss` of each candidate, ascending
    """
    candidates = sorted(penalties)
    areas, losses, counts = np.zeros(len(candidates)), np.zeros(len(candidates)), 0
    for split in splits:
        features, _ = split.features()
        known, truth = response[split.training], response[split.watched]
        for index, penalty in enumerate(candidates):
            weights, intercept = _logistic(features[split.training], known, penalty)
            scores = _probability(features[split.watched] @ weights + intercept)
            areas[index] += area_under_curve(truth, scores) / len(splits)
            losses[index] += log_loss(truth, scores) * len(truth)
        counts += len(split.watched)
    search = [
        {"penalty": penalty, "auc": float(area), "log_loss": float(loss / counts)}
        for penalty, area, loss in zip(candidates, areas, losses, strict=True)
    ]
    # Rounded, so that sums of the same areas in another order are the tie they are.
    best = min(search, key=lambda row: (-round(row["auc"], 9), round(row["log_loss"], 9), row["penalty"]))
    return best["penalty"], search


def penalty_objective(splits: Sequence[Split], response: np.ndarray) -> Objective:
    """The objective of a search of the penalty: what `choose_penalty` chooses by, to be made least.

    The log-loss counts for a millionth: it decides where the mean AUC is the same.
    """
    features = [split.features()[0] for split in splits]

    def objective(settings: dict[str, float], report: Report) -> tuple[float, dict[str, float]]:
        areas, losses = [], []
        for number, (split, mapped) in enumerate(zip(splits, features, strict=True), start=1):
            weights, intercept = _logistic(mapped[split.training], response[split.training], settings["penalty"])
            scores = _probability(mapped[split.watched] @ weights + intercept)
            areas.append(area_under_curve(response[split.watched], scores))
            losses.append(log_loss(response[split.watched], scores))
            report(number, 1 - float(np.mean(areas)))
        area = float(np.mean(areas))
        loss = float(np.average(losses, weights=[len(split.watched) for split in splits]))
        return round(1 - area, 9) + 1e-6 * loss, {"auc": area, "log_loss": loss}

    return objective


def inner_splits(
    products: MapProducts,
    training: np.ndarray,
    response: np.ndarray,
    n_folds: int,
    seed: int,
    *,
    selected: np.ndarray | None = None,
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray | None] | None = None,
) -> list[Split]:
    """Stratified inner folds of the training participants, each with its own selection where `choose` makes one.

    `choose` is given positions and their labels; where it gives None (too few for its test) `selected` holds.
    """
    splits = []
    for held_out in inner_folds(response[training], n_folds, seed):
        inside = np.delete(training, held_out)
        chosen = choose(inside, response[inside]) if choose else None
        splits.append(Split(products, inside, training[held_out], selected if chosen is None else chosen))
    return splits


def cross_validated_scores(
    products: Sequence[MapProducts],
    response: np.ndarray,
    folds: Sequence[np.ndarray],
    penalties: Sequence[float],
    n_inner_folds: int,
    seeds: Sequence[int],
    choosers: Sequence[Callable[[np.ndarray, np.ndarray], np.ndarray | None]] | None = None,
) -> np.ndarray:
    """Scores of every participant by the clean protocol: all that reads labels is done within each training set.

    Parameters
    ----------
    products : one a fold, of the group ICA of its training participants
    response : (n_participants,) of 1 and 0
    folds : positions of the test participants of each fold, a partition
    penalties : inverse strengths C, chosen on `n_inner_folds` inner folds
    seeds : of the inner folds, one a fold
    choosers : one a fold: selects components from positions and their labels; None: all components

    Returns
    -------
    (n_participants,) probability of a responder
    """
    scores = np.full(len(response), np.nan)
    for index, test in enumerate(folds):
        training = np.setdiff1d(np.arange(len(response)), test)
        check_both_classes(response[training], f"the training participants of fold {index + 1}")
        known = response.copy()
        known[test] = -1
        choose = choosers[index] if choosers else None
        selected = choose(training, known[training]) if choose else None
        inner = inner_splits(
            products[index], training, known, n_inner_folds, seeds[index], selected=selected, choose=choose
        )
        penalty, _ = choose_penalty(inner, known, penalties)
        scores[test] = fit(Split(products[index], training, test, selected), known, penalty).scores[test]
    return scores


def mean_fold_area(response: np.ndarray, scores: np.ndarray, folds: Sequence[np.ndarray]) -> float:
    """Mean over folds of the area under the ROC curve."""
    return float(np.mean([area_under_curve(response[test], scores[test]) for test in folds]))


def _logistic(features: np.ndarray, response: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=penalty, solver="newton-cholesky", tol=1e-8, max_iter=200)
    with config_context(assume_finite=True, skip_parameter_validation=True):
        model.fit(features, response)
    return model.coef_[0], float(model.intercept_[0])


def _probability(decision: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(decision)
