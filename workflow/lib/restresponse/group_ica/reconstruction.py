"""A participant's maps by back-projection of a cohort's group ICA onto the participant's reduced maps: GICA1 and GICA3.

Methods: Calhoun et al. 2001 (GICA1); Erhardt et al. 2011 (GICA3); both as CONN computes them, on reduced maps that are not whitened.
Group maps are S = B P with P the principal maps of the cohort's stack, of squared norms D, and B the inverse of the mixing.
"""

from __future__ import annotations

import numpy as np


def gica1(reduced: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projections of the group maps onto the reduced maps, and least squares of the reduced maps on those.

    Parameters
    ----------
    reduced : (r, n_voxels) of one participant
    components : (n_components, n_voxels) group maps, unit RMS

    Returns
    -------
    weights : (n_components, r) float64, S y' / n_voxels: the time courses in the participant's reduced dimensions
    maps : (n_components, n_voxels) float64
    """
    reduced, components = reduced.astype(np.float64), components.astype(np.float64)
    weights = components @ reduced.T / components.shape[1]
    return weights, np.linalg.pinv(weights @ weights.T, hermitian=True) @ (weights @ reduced)


def gica3(
    reduced: np.ndarray, components: np.ndarray, mixing: np.ndarray, eigenvalues: np.ndarray, n_participants: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the group maps that comes from one participant, times the number of participants.

    The mean over the participants that the group ICA was fitted on is the group map.

    Parameters
    ----------
    reduced, components : see `gica1`
    mixing : (n_components, n_components): principal maps = mixing @ components
    eigenvalues : (n_components,) of the group PCA
    n_participants : that the group ICA was fitted on

    Returns
    -------
    weights : (n_components, r) float64, B D^-1 B^-1 S y'
    maps : (n_components, n_voxels) float64, n_participants * weights @ y
    """
    reduced, components = reduced.astype(np.float64), components.astype(np.float64)
    weights = np.linalg.solve(mixing, (mixing @ (components @ reduced.T)) / np.asarray(eigenvalues)[:, None])
    return weights, n_participants * (weights @ reduced)
