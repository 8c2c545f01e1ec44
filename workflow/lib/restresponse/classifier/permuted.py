"""A linear model's whole procedure on other labels: selection, inner folds, choice of the penalty and fit, made again.

What reads no label (group ICA, maps, their inner products, amplitudes) is given and stays. The functions are those of the
folds' own jobs, on many labellings at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from restresponse.classifier.inner import inner_folds
from restresponse.classifier.kernel import MapProducts
from restresponse.classifier.linear import Split, best_candidate, fit_many, searched_penalty, watch_candidates
from restresponse.classifier.scores import areas_under_curve
from restresponse.classifier.selection import Selector
from restresponse.errors import InputError

AT_ONCE = 50  # labellings in memory together; changes no number


@dataclass(frozen=True)
class View:
    """One outer fold without a label: positions of its participants, its cohort's products and amplitudes.

    Attributes
    ----------
    products : of the maps of the cohort whose group ICA the protocol gives this fold
    training, test : positions
    selector : of that cohort's amplitudes; None where the arm selects nothing
    selecting : positions of those whose labels the protocol lets the selection read
    inner_seed, search_seed : of the shuffle of the inner folds, and of a search's proposals
    """

    products: MapProducts
    training: np.ndarray
    test: np.ndarray
    selector: Selector | None
    selecting: np.ndarray
    inner_seed: int
    search_seed: int = 0


@dataclass(frozen=True)
class Procedure:
    """How a protocol makes a linear model of a view.

    Attributes
    ----------
    penalties : inverse strengths to choose from
    on_reported_folds : whether the penalty is chosen on the folds that are reported; else on inner folds
    selects_in_inner_folds : whether these select components anew
    n_inner_folds : int
    search : the budget of a search of the penalty (a count of `trials`); None where every penalty is tried
    """

    penalties: Sequence[float]
    on_reported_folds: bool
    selects_in_inner_folds: bool
    n_inner_folds: int
    search: Mapping[str, Any] | None = None


def rerun(views: Mapping[str, View], labellings: np.ndarray, procedure: Procedure) -> dict[str, np.ndarray]:
    """Scores of each fold's test participants under each labelling.

    Parameters
    ----------
    views : of the folds of one repeat, by name
    labellings : (n_labellings, n_participants) of 1 and 0, -1 where there is no label
    procedure : of the protocol

    Returns
    -------
    fold -> (n_labellings, n_test) probability of a responder
    """
    parts = []
    for start in range(0, len(labellings), AT_ONCE):
        parts.append(_rerun(views, labellings[start : start + AT_ONCE], procedure))
        for view in views.values():
            view.products.forget()
    return {fold: np.concatenate([part[fold] for part in parts]) for fold in views}


def mean_fold_areas(
    views: Mapping[str, View], labellings: np.ndarray, scores: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the fold AUCs and pooled AUC of each labelling, `(n_labellings,)` both, from what `rerun` gave."""
    folds = np.zeros((len(labellings), len(views)))
    tested = np.concatenate([view.test for view in views.values()])
    everyone = np.concatenate([scores[fold] for fold in views], axis=1)
    pooled = np.zeros(len(labellings))
    for row, labels in enumerate(labellings):
        for column, (fold, view) in enumerate(views.items()):
            folds[row, column] = areas_under_curve(labels[view.test], scores[fold][row, None])[0]
        pooled[row] = areas_under_curve(labels[tested], everyone[row, None])[0]
    return folds.mean(axis=1), pooled


def _rerun(views: Mapping[str, View], labellings: np.ndarray, procedure: Procedure) -> dict[str, np.ndarray]:
    own = {fold: _outer_splits(view, labellings) for fold, view in views.items()}
    candidates = sorted(procedure.penalties)
    if procedure.search:
        penalties = _searched(views, own, labellings, procedure)
    elif procedure.on_reported_folds:
        chosen = _chosen_on_reported_folds(views, own, labellings, candidates)
        penalties = dict.fromkeys(views, chosen)
    else:
        penalties = {
            fold: _chosen_on_inner_folds(view, own[fold], labellings, candidates, procedure)
            for fold, view in views.items()
        }
    scores = {}
    for fold, view in views.items():
        models = fit_many(own[fold], list(labellings), penalties[fold])
        scores[fold] = np.stack([model.scores[view.test] for model in models])
    return scores


def _outer_splits(view: View, labellings: np.ndarray) -> list[Split]:
    """The fold's own training with the selection of each labelling."""
    if view.selector is None:
        return [Split(view.products, view.training, view.test)] * len(labellings)
    selected = view.selector.on_many([view.selecting] * len(labellings), list(labellings))
    if any(found is None for found in selected):
        raise InputError(
            "a permutation leaves fewer than two participants of a class to the group test; expected at least two: use "
            "fewer folds or more participants"
        )
    return [Split(view.products, view.training, view.test, found) for found in selected]


def _chosen_on_reported_folds(
    views: Mapping[str, View], own: Mapping[str, Sequence[Split]], labellings: np.ndarray, candidates: Sequence[float]
) -> np.ndarray:
    found = [watch_candidates(own[fold], list(labellings), candidates) for fold in views]
    counts = np.array([len(view.test) for view in views.values()])
    areas, losses = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    return np.array([best_candidate(candidates, *pair, counts)[0] for pair in zip(areas, losses, strict=True)])


def _searched(
    views: Mapping[str, View], own: Mapping[str, Sequence[Split]], labellings: np.ndarray, procedure: Procedure
) -> dict[str, np.ndarray]:
    """The penalty that each fold's search finds under each labelling, (n_labellings,) by fold."""
    found = {fold: np.empty(len(labellings)) for fold in views}
    for fold, view in views.items():
        order = [fold, *(other for other in views if other != fold)]  # as the fold's own job looks at them
        inner = None
        if not procedure.on_reported_folds:
            owners, splits = _inner_splits(view, own[fold], labellings, procedure)
            inner = [
                [split for split, owner in zip(splits, owners, strict=True) if owner == index]
                for index in range(len(labellings))
            ]
        for index, labels in enumerate(labellings):
            watched = inner[index] if inner else [own[other][index] for other in order]
            search = searched_penalty(watched, labels, procedure.penalties, procedure.search, view.search_seed)
            found[fold][index] = search.settings["penalty"]
    return found


def _chosen_on_inner_folds(
    view: View, own: Sequence[Split], labellings: np.ndarray, candidates: Sequence[float], procedure: Procedure
) -> np.ndarray:
    owners, splits = _inner_splits(view, own, labellings, procedure)
    areas, losses = watch_candidates(splits, [labellings[index] for index in owners], candidates)
    chosen, owner = [], np.array(owners)
    for index in range(len(labellings)):
        mine = owner == index
        counts = np.array([len(split.watched) for split, keep in zip(splits, mine, strict=True) if keep])
        chosen.append(best_candidate(candidates, areas[mine], losses[mine], counts)[0])
    return np.array(chosen)


def _inner_splits(
    view: View, own: Sequence[Split], labellings: np.ndarray, procedure: Procedure
) -> tuple[list[int], list[Split]]:
    """The inner folds of every labelling, and which labelling each is of."""
    owners, inside, watched = [], [], []
    for index, labels in enumerate(labellings):
        for held_out in inner_folds(labels[view.training], procedure.n_inner_folds, view.inner_seed):
            owners.append(index)
            inside.append(np.delete(view.training, held_out))
            watched.append(view.training[held_out])
    responses = [labellings[index] for index in owners]
    selected: list[np.ndarray | None] = [own[index].selected for index in owners]
    if procedure.selects_in_inner_folds and view.selector is not None:
        anew = view.selector.on_many(inside, responses)
        selected = [old if new is None else new for old, new in zip(selected, anew, strict=True)]
    return owners, [Split(view.products, *parts) for parts in zip(inside, watched, selected, strict=True)]
