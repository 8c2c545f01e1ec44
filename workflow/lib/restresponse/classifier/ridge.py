"""Ridge regression of a measured outcome on the participants' kernel, many outcomes and penalties at once.

As in the logistic model the intercept is not penalised: the outcome is centred on its training mean, the kernel by
training participants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ridge(kernel: np.ndarray, training: np.ndarray, outcomes: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Predictions of every participant, of each outcome at each inverse strength of the penalty.

    Minimises half the sum of squares plus half the squared norm of the weights over the inverse strength.

    Parameters
    ----------
    kernel : (n, n_training) array of `unit_kernel`
    training : positions of the training participants
    outcomes : (n_outcomes, n_training)
    strengths : inverse strengths C

    Returns
    -------
    (n_strengths, n_outcomes, n)
    """
    block = kernel[training]
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    means = outcomes.mean(axis=1, keepdims=True)
    turned, reach = (outcomes - means) @ vectors, kernel @ vectors
    values = np.maximum(values, 0.0)
    return np.stack([means + (turned / (values + 1 / strength)) @ reach.T for strength in strengths])
