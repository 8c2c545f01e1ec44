"""The two numbers that choices of penalty and epoch are made by."""

from __future__ import annotations

import numpy as np


def area_under_curve(response: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: share of pairs of a responder and a non-responder in the right order, ties by half."""
    return float(areas_under_curve(response, scores[None])[0])


def areas_under_curve(response: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`area_under_curve` of many scores `(n_scores, n)` of the same participants: `(n_scores,)`."""
    higher = scores[:, response == 1, None] - scores[:, None, response == 0]
    return ((higher > 0) + 0.5 * (higher == 0)).mean(axis=(1, 2))


def log_loss(response: np.ndarray, scores: np.ndarray) -> float:
    """Mean binary cross-entropy of probabilities, kept 1e-7 away from 0 and 1."""
    return float(log_losses(response, np.asarray(scores, np.float64)[None])[0])


def log_losses(response: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`log_loss` of many scores `(n_scores, n)` of the same participants: `(n_scores,)`."""
    inside = np.clip(scores, 1e-7, 1 - 1e-7)
    return -np.where(response == 1, np.log(inside), np.log1p(-inside)).mean(axis=1)
