"""Coordinates through greedy's transforms: an affine in RAS and a field of displacements in LPS."""

from __future__ import annotations

import numpy as np


def field_of(displacements: np.ndarray) -> np.ndarray:
    """Displacements (n_x, n_y, n_z, 3) in RAS from greedy's array (n_x, n_y, n_z, 1, 3) in LPS."""
    field = np.array(displacements[..., 0, :] if displacements.ndim == 5 else displacements, np.float32)
    field[..., :2] *= -1
    return field


def displacements_of(field: np.ndarray) -> np.ndarray:
    """The inverse of `field_of`."""
    displacements = np.array(field, np.float32)
    displacements[..., :2] *= -1
    return displacements[..., None, :]


def sample(field: np.ndarray, affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Displacements (n, 3) of a field (n_x, n_y, n_z, 3) at points (n, 3) in mm; beyond its edge, the edge's."""
    from scipy import ndimage

    inverse = np.linalg.inv(affine)
    index = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
    return np.stack([ndimage.map_coordinates(field[..., k], index, order=1, mode="nearest") for k in range(3)], axis=1)


def inverse_points(points: np.ndarray, affine: np.ndarray, field: np.ndarray, field_affine: np.ndarray) -> np.ndarray:
    """Points (n, 3) of MNI space that warp and affine take to given points (n, 3) of the T1w's world.

    Fixed-point iteration; the fields are diffeomorphic and smooth, so that it converges in a few steps.
    """
    inverse = np.linalg.inv(affine)
    start = points @ inverse[:3, :3].T + inverse[:3, 3]
    found = start
    for _ in range(12):
        found = start - sample(field, field_affine, found)
    return found


def world_of(index: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points (n, 3) in mm of voxel indices (n, 3)."""
    return index @ affine[:3, :3].T + affine[:3, 3]
