"""Spatial match of components to network templates: signed correlation and Dice, one-to-one and CONN's best three."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def spatial_correlation(components: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Signed correlation over voxels of `(n_components, n_voxels)` with `(n_templates, n_voxels)`; 0 for a constant map."""

    def standardised(maps: np.ndarray) -> np.ndarray:
        centred = maps - maps.mean(axis=1, keepdims=True, dtype=np.float64)
        norm = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)

    return standardised(components) @ standardised(templates).T


def dice(components: np.ndarray, templates: np.ndarray, threshold: float) -> np.ndarray:
    """Dice of each component's voxels above `threshold` with each template's above half its maximum."""
    inside = components > threshold
    network = templates > 0.5 * templates.max(axis=1, keepdims=True)
    shared = inside.astype(np.float64) @ network.T.astype(np.float64)
    sizes = inside.sum(axis=1)[:, None] + network.sum(axis=1)[None]
    return np.divide(2 * shared, sizes, out=np.zeros_like(shared), where=sizes > 0)


def one_to_one(correlation: np.ndarray) -> np.ndarray:
    """For each component the template it is assigned, -1 for none: the assignment of greatest total correlation."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-correlation)
    assigned = np.full(len(correlation), -1)
    assigned[rows] = columns
    return assigned


def best_matches(correlation: np.ndarray, names: Sequence[str], count: int = 3) -> list[str]:
    """Each row's `count` greatest correlations in words, as CONN lists them: `Visual (0.61); Language (0.12)`.

    Parameters
    ----------
    correlation : (n_rows, n_columns)
    names : of the columns
    """
    order = np.argsort(-correlation, axis=1, kind="stable")[:, :count]
    return [
        "; ".join(f"{names[column]} ({correlation[row, column]:.2f})" for column in columns)
        for row, columns in enumerate(order)
    ]


def match_tables(
    components: np.ndarray, templates: np.ndarray, networks: Sequence[str], *, threshold: float, least: float
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """The match seen from the components and from the networks, as columns of two tables.

    Parameters
    ----------
    components : (n_components, n_voxels) of unit RMS
    templates : (n_templates, n_voxels)
    networks : names of the templates
    threshold : of the components, for Dice
    least : correlation from which a component bears its network's name
    """
    correlation, overlap = spatial_correlation(components, templates), dice(components, templates, threshold)
    assigned = one_to_one(correlation)
    index = np.arange(len(components))
    has = assigned >= 0
    r = np.where(has, correlation[index, assigned], np.nan)
    shared = np.where(has, overlap[index, assigned], np.nan)
    matched = np.where(has, r >= least, False)
    numbers = [f"component {number}" for number in index + 1]
    of_network = {int(network): int(component) for component, network in enumerate(assigned) if network >= 0}
    owners = [of_network.get(network) for network in range(len(networks))]
    return (
        {
            "component": list(index + 1),
            "network": [networks[a] if ok else None for a, ok in zip(assigned, matched, strict=True)],
            "match_r": list(r),
            "match_dice": list(shared),
            "matched": list(matched),
            "best_three": best_matches(correlation, networks),
        },
        {
            "network": list(networks),
            "component": [None if owner is None else owner + 1 for owner in owners],
            "match_r": [np.nan if owner is None else r[owner] for owner in owners],
            "match_dice": [np.nan if owner is None else shared[owner] for owner in owners],
            "matched": [owner is not None and bool(matched[owner]) for owner in owners],
            "best_three": best_matches(correlation.T, numbers),
        },
    )
