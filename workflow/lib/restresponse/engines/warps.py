"""Coordinates through greedy's transforms: an affine in RAS and a field of displacements in LPS."""

from __future__ import annotations

import numpy as np

_NODES = 5.0  # mm between the points at which the inverse of a warp is found


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

    Fixed-point iteration to 0.001 mm; the fields are diffeomorphic and smooth, so that it converges in a few steps.
    """
    inverse = np.linalg.inv(affine)
    start = points @ inverse[:3, :3].T + inverse[:3, 3]
    found = start
    for _ in range(12):
        previous, found = found, start - sample(field, field_affine, found)
        if len(found) and np.abs(found - previous).max() < 1e-3:
            break
    return found


def template_places(
    mask: np.ndarray, mask_affine: np.ndarray, affine: np.ndarray, field: np.ndarray, field_affine: np.ndarray
) -> np.ndarray:
    """Points (n, 3) in MNI space, float32, of the n voxels of a mask in the T1w's world, through the inverse of warp and affine.

    The inverse is found at nodes about 5 mm apart and is linear between them: it is smooth, and to find it at every voxel
    took ten times as long as all the rest of a segmentation. `mask_affine`: voxel index to the T1w's world; the others as for
    `inverse_points`.
    """
    spacing = np.linalg.norm(mask_affine[:3, :3], axis=0)
    counts = [max(2, int(np.ceil((n - 1) * h / _NODES)) + 1) for n, h in zip(mask.shape, spacing, strict=True)]
    lines = [np.linspace(0, n - 1, count) for n, count in zip(mask.shape, counts, strict=True)]
    index = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    places = inverse_points(world_of(index, mask_affine), affine, field, field_affine).astype(np.float32)
    found = np.empty((int(mask.sum()), 3), np.float32)
    for k in range(3):
        one = places[:, k].reshape(counts)
        for axis, length in enumerate(mask.shape):
            one = np.moveaxis(np.tensordot(_between(counts[axis], length), one, axes=(1, axis)), 0, axis)
        found[:, k] = one[mask]
    return found


def _between(count: int, length: int) -> np.ndarray:
    """Weights (length, count) of linear interpolation from evenly spaced nodes onto `length` evenly spaced places."""
    position = np.linspace(0, count - 1, length)
    return np.clip(1 - np.abs(position[:, None] - np.arange(count)), 0, 1).astype(np.float32)


def points_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Points (n, 3) in mm of all voxels of a grid, in C order."""
    return world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)


def world_of(index: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points (n, 3) in mm of voxel indices (n, 3)."""
    return index @ affine[:3, :3].T + affine[:3, 3]
