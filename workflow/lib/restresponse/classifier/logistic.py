"""Logistic ridge regression in the dual, many at once: Newton's method on stacks of small kernel matrices.

Each problem of a stack stops by itself, so that its result does not depend on what it is solved with.
"""

from __future__ import annotations

import numpy as np

from restresponse.errors import InputError

_TOLERANCE = 1e-7  # of the largest change of a decision; Newton's next step would be its square
_MOST_STEPS = 100


def logistic_ridge(
    kernels: np.ndarray,
    response: np.ndarray,
    counted: np.ndarray,
    penalty: np.ndarray | float,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the sum of log-losses plus half the squared norm of the weights over the inverse strength.

    The intercept is not penalised. In the dual (Rasmussen & Williams 2006, section 3.4) the system of a Newton step is
    well conditioned even where a fitted probability is 0 or 1.

    Parameters
    ----------
    kernels : (n_problems, n, n) float64, of the training participants, positive semi-definite
    response : (n_problems, n) of 1 and 0
    counted : (n_problems, n) bool; rows that do not count only fill a stack of trainings of different sizes
    penalty : inverse strength C, of each problem or of all
    start : dual coefficients and intercepts of the same participants at another penalty, to begin from

    Returns
    -------
    dual : (n_problems, n) coefficients; the decision at the training participants is ``kernels @ dual + intercept``
    intercept : (n_problems,)
    """
    n_problems, n = response.shape
    counted = counted.astype(np.float64)
    strength = np.broadcast_to(np.asarray(penalty, np.float64), (n_problems,))[:, None]
    dual = np.zeros((n_problems, n)) if start is None else start[0].copy()
    intercept = np.zeros(n_problems) if start is None else start[1].copy()
    active = np.arange(n_problems)
    for _ in range(_MOST_STEPS):
        moved = _step(
            kernels[active], response[active], counted[active], strength[active], dual[active], intercept[active]
        )
        dual[active], intercept[active], change = moved
        active = active[change > _TOLERANCE]
        if not len(active):
            return dual, intercept
    raise InputError(
        f"{len(active)} of {n_problems} logistic regressions did not converge in {_MOST_STEPS} steps; expected maps of "
        "finite size: lower the largest of the model's penalties"
    )


def _step(
    kernels: np.ndarray,
    response: np.ndarray,
    counted: np.ndarray,
    strength: np.ndarray,
    dual: np.ndarray,
    intercept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One Newton step of every problem, halved where it would raise the objective, and the largest change of a decision."""
    from scipy.special import expit

    smooth = _times(kernels, dual)
    decision = smooth + intercept[:, None]
    probability = expit(decision)
    curvature = counted * probability * (1 - probability)
    target = curvature * decision + counted * (response - probability)
    root = np.sqrt(curvature)
    scaled = strength[:, :, None] * kernels
    system = root[:, :, None] * scaled * root[:, None, :]
    system[:, np.arange(system.shape[1]), np.arange(system.shape[1])] += 1.0
    sides = np.stack([root * _times(scaled, target), root], axis=-1)
    solved = np.linalg.solve(system, sides)
    of_target, of_one = target - root * solved[..., 0], root * solved[..., 1]
    new_intercept = of_target.sum(axis=1) / of_one.sum(axis=1)
    new_dual = strength * (of_target - new_intercept[:, None] * of_one)
    # A full step nearly always falls; where it does not, half of it is tried, and so on.
    before = _objective(decision, smooth, response, counted, strength, dual)
    share = np.ones(len(dual))
    for _ in range(30):
        trial = dual + share[:, None] * (new_dual - dual)
        trial_intercept = intercept + share * (new_intercept - intercept)
        trial_smooth = _times(kernels, trial)
        trial_decision = trial_smooth + trial_intercept[:, None]
        after = _objective(trial_decision, trial_smooth, response, counted, strength, trial)
        rising = ~(after <= before + 1e-9 * (1 + np.abs(before)))
        if not rising.any():
            break
        share = np.where(rising, share / 2, share)
    change = (np.abs(trial_decision - decision) * counted).max(axis=1)
    return trial, trial_intercept, change


def _objective(
    decision: np.ndarray,
    smooth: np.ndarray,
    response: np.ndarray,
    counted: np.ndarray,
    strength: np.ndarray,
    dual: np.ndarray,
) -> np.ndarray:
    loss = (counted * np.logaddexp(0, np.where(response == 1, -decision, decision))).sum(axis=1)
    return loss + (dual * smooth).sum(axis=1) / (2 * strength[:, 0])


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.matmul(matrices, vectors[..., None])[..., 0]
