"""Logistic ridge regression on the participants' kernel, its penalty chosen by the mean AUC of held-out folds.

Newton's method in the dual: no random start. Many fits are made at once, so that a fold costs milliseconds and the whole
procedure can be repeated on permuted labels by the same functions (`permuted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.classifier.inner import inner_folds
from restresponse.classifier.kernel import MapProducts, unit_kernel
from restresponse.classifier.logistic import logistic_ridge
from restresponse.classifier.scores import areas_under_curve, log_losses
from restresponse.classifier.search import Objective, Report, Search, search


@dataclass(frozen=True)
class Split:
    """One training and the participants it is looked at on, as positions, and the selected components (None: all)."""

    products: MapProducts
    training: np.ndarray
    watched: np.ndarray
    selected: np.ndarray | None = None

    def kernel(self) -> tuple[np.ndarray, float]:
        """`unit_kernel` of the split's channels, scaled and centred by its training participants."""
        return unit_kernel(self.products.channels(self.selected).kernel(self.training), self.training)


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
    return fit_many([split], [response], np.array([penalty]))[0]


def fit_many(splits: Sequence[Split], responses: Sequence[np.ndarray], penalty: np.ndarray) -> list[LinearModel]:
    """Fit each split on its own labels `(n_participants,)` with its own inverse strength."""
    stack = _Stack.of(splits, responses)
    dual, intercept = logistic_ridge(stack.kernels, stack.response, stack.counted, penalty)
    models = []
    for index, split in enumerate(splits):
        kernel, norm = stack.whole[index]
        own = dual[index, : len(split.training)]
        models.append(LinearModel(_probability(kernel @ own + intercept[index]), own / norm, float(intercept[index])))
    return models


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
    areas, losses = watch_candidates(splits, [response] * len(splits), candidates)
    return best_candidate(candidates, areas, losses, np.array([len(split.watched) for split in splits]))


def watch_candidates(
    splits: Sequence[Split], responses: Sequence[np.ndarray], candidates: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """AUC and mean log-loss of each split's watched participants at each candidate, `(n_splits, n_candidates)` both.

    Every split has its own labels `(n_participants,)`; each candidate begins from the fit of the one before.
    """
    return _Stack.of(splits, responses).watch(splits, responses, candidates)


def best_candidate(
    candidates: Sequence[float], areas: np.ndarray, losses: np.ndarray, counts: np.ndarray
) -> tuple[float, list[dict[str, float]]]:
    """The choice among `candidates` (ascending) and the search, from AUC and loss of each split `(n_splits, n_candidates)`.

    `counts` are the splits' numbers of watched participants.
    """
    area, loss = areas.mean(axis=0), counts @ losses / counts.sum()
    search = [
        {"penalty": candidate, "auc": float(one), "log_loss": float(other)}
        for candidate, one, other in zip(candidates, area, loss, strict=True)
    ]
    # Rounded, so that sums of the same areas in another order are the tie they are.
    best = min(search, key=lambda row: (-round(row["auc"], 9), round(row["log_loss"], 9), row["penalty"]))
    return best["penalty"], search


def penalty_objective(splits: Sequence[Split], response: np.ndarray) -> Objective:
    """The objective of a search of the penalty: what `choose_penalty` chooses by, to be made least.

    The log-loss counts for a millionth: it decides where the mean AUC is the same.
    """
    stacks = [_Stack.of([split], [response]) for split in splits]

    def objective(settings: dict[str, float], report: Report) -> tuple[float, dict[str, float]]:
        areas, losses = [], []
        for number, (split, stack) in enumerate(zip(splits, stacks, strict=True), start=1):
            area, loss = stack.watch([split], [response], [settings["penalty"]])
            areas.append(area[0, 0])
            losses.append(loss[0, 0])
            report(number, 1 - float(np.mean(areas)))
        area = float(np.mean(areas))
        loss = float(np.average(losses, weights=[len(split.watched) for split in splits]))
        return round(1 - area, 9) + 1e-6 * loss, {"auc": area, "log_loss": loss}

    return objective


def searched_penalty(
    splits: Sequence[Split],
    response: np.ndarray,
    penalties: Sequence[float],
    budget: Mapping[str, Any],
    seed: int,
    *,
    identity: str = "",
    journal: str | Path | None = None,
) -> Search:
    """Search the inverse strength within a budget, from the middle one on; `identity` and `journal` are of `search.search`."""
    return search(
        penalty_objective(splits, response),
        {"penalty": penalties},
        {"penalty": sorted(penalties)[len(penalties) // 2]},
        budget=budget,
        seed=seed,
        identity=identity,
        journal=journal,
    )


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


@dataclass(frozen=True)
class _Stack:
    """Kernels and labels of the training participants of many splits, filled up to one size by rows that do not count."""

    whole: list[tuple[np.ndarray, float]]
    kernels: np.ndarray
    response: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, splits: Sequence[Split], responses: Sequence[np.ndarray]) -> _Stack:
        whole = [split.kernel() for split in splits]
        size = max(len(split.training) for split in splits)
        kernels = np.zeros((len(splits), size, size))
        labels, counted = np.zeros((len(splits), size)), np.zeros((len(splits), size), bool)
        for index, (split, response) in enumerate(zip(splits, responses, strict=True)):
            n = len(split.training)
            kernels[index, :n, :n] = whole[index][0][split.training]
            labels[index, :n], counted[index, :n] = response[split.training], True
        return cls(whole, kernels, labels, counted)

    def watch(
        self, splits: Sequence[Split], responses: Sequence[np.ndarray], candidates: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`watch_candidates` of the splits and labels that the stack was made of."""
        shape = len(splits), len(candidates)
        areas, losses, fitted = np.empty(shape), np.empty(shape), None
        scores = [np.empty((len(candidates), len(split.watched))) for split in splits]
        for column, candidate in enumerate(candidates):
            fitted = logistic_ridge(self.kernels, self.response, self.counted, candidate, fitted)
            for index, split in enumerate(splits):
                own = fitted[0][index, : len(split.training)]
                scores[index][column] = self.whole[index][0][split.watched] @ own + fitted[1][index]
        for index, split in enumerate(splits):
            truth = responses[index][split.watched]
            probability = _probability(scores[index])
            areas[index] = areas_under_curve(truth, probability)
            losses[index] = log_losses(truth, probability)
        return areas, losses


def _probability(decision: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(decision)
