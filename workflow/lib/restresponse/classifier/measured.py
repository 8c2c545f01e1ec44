"""A measured outcome (percent fall of pain) predicted by the clean procedure of a linear model, on many outcomes at once.

The channels are those of the arm: where it selects components, by the responses of those whose labels may be read, anew in
every inner fold. The penalty is chosen by the squared error of inner folds. `permuted` is the same for responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from restresponse.classifier.linear import Split
from restresponse.classifier.permuted import View
from restresponse.classifier.ridge import ridge

_AT_ONCE = 50  # outcomes in memory together; changes no number


def dealt(n: int, n_folds: int, seed: int) -> list[np.ndarray]:
    """Positions held out by each inner fold, shuffled; no outcome is looked at."""
    shuffled = np.random.default_rng(seed).permutation(n)
    return [np.sort(shuffled[start::n_folds]) for start in range(min(n_folds, n))]


def predict_measured(
    view: View, responses: np.ndarray, outcomes: np.ndarray, strengths: Sequence[float], n_inner_folds: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
    """Predict the test participants of a fold under each outcome.

    Parameters
    ----------
    view : the fold; responses and outcomes are read at its training participants alone
    responses : (n_outcomes, n_participants) of 1 and 0, -1 where there is no label
    outcomes : (n_outcomes, n_participants), NaN where it is not known
    strengths : inverse strengths of the penalty to choose from
    n_inner_folds : int

    Returns
    -------
    predicted : (n_outcomes, n_test)
    chosen : (n_outcomes,) inverse strengths
    selected : components of each, None where the arm selects nothing
    """
    parts = []
    for start in range(0, len(outcomes), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        parts.append(_predict(view, responses[rows], outcomes[rows], sorted(strengths), n_inner_folds))
        view.products.forget()
    predicted, chosen, selected = zip(*parts, strict=True)
    return np.concatenate(predicted), np.concatenate(chosen), [one for part in selected for one in part]


def _predict(
    view: View, responses: np.ndarray, outcomes: np.ndarray, strengths: Sequence[float], n_inner_folds: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
    own = _selections(view, view.selecting, responses, [None] * len(outcomes))
    losses = np.zeros((len(outcomes), len(strengths)))
    for held_out in dealt(len(view.training), n_inner_folds, view.inner_seed):
        inside, watched = np.delete(view.training, held_out), view.training[held_out]
        selections = _selections(view, inside, responses, own)
        for selected, rows in _alike(selections):
            kernel, _ = Split(view.products, inside, watched, selected).kernel()
            found = ridge(kernel, inside, outcomes[rows][:, inside], strengths)[:, :, watched]
            losses[rows] += np.square(found - outcomes[rows][:, watched]).sum(axis=2).T
    # Rounded relative to the least, so that the last digit of a sum decides nothing: ties go to the stronger penalty.
    scale = np.maximum(losses.min(axis=1, keepdims=True), np.finfo(float).tiny)
    chosen = np.array(strengths)[np.argmin(np.round(losses / scale, 9), axis=1)]
    predicted = np.zeros((len(outcomes), len(view.test)))
    for selected, rows in _alike(own):
        kernel, _ = Split(view.products, view.training, view.test, selected).kernel()
        found = ridge(kernel, view.training, outcomes[rows][:, view.training], strengths)[:, :, view.test]
        predicted[rows] = found[np.searchsorted(strengths, chosen[rows]), np.arange(len(rows))]
    return predicted, chosen, own


def _selections(
    view: View, positions: np.ndarray, responses: np.ndarray, otherwise: Sequence[np.ndarray | None]
) -> list[np.ndarray | None]:
    """The components of each outcome; `otherwise` where the arm selects nothing or too few are of a class."""
    if view.selector is None:
        return list(otherwise)
    found = view.selector.on_many([positions] * len(responses), list(responses))
    return [old if new is None else new for old, new in zip(otherwise, found, strict=True)]


def _alike(selections: Sequence[np.ndarray | None]) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """Each distinct selection and the rows that have it."""
    rows: dict[tuple[int, ...] | None, list[int]] = {}
    for row, selected in enumerate(selections):
        rows.setdefault(None if selected is None else tuple(int(index) for index in selected), []).append(row)
    for key, members in rows.items():
        yield None if key is None else np.array(key, int), np.array(members)
