"""The two numbers that choices of penalty and epoch are made by."""

from __future__ import annotations

import numpy as np


def area_under_curve(response: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: share of pairs of a responder and a non-responder in the right order, ties by half."""
    higher = scores[response == 1][:, None] - scores[response == 0][None, :]
    return float(((higher > 0) + 0.5 * (higher == 0)).mean())


def log_loss(response: np.ndarray, scores: np.ndarray) -> float:
    """Mean binary cross-entropy of probabilities, kept 1e-7 away from 0 and 1."""
    inside = np.clip(np.asarray(scores, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(response == 1, np.log(inside), np.log1p(-inside)).mean())
