"""Coordinates through greedy's transforms: an affine in RAS and a field of displacements in LPS."""

from __future__ import annotations

import numpy as np

_NODES = 4.0  # mm between the points at which the inverse of a warp is found


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


def onto(
    maps: np.ndarray,
    maps_affine: np.ndarray,
    shape: tuple[int, int, int],
    target_affine: np.ndarray,
    affine: np.ndarray,
    field: np.ndarray,
    field_affine: np.ndarray,
) -> np.ndarray:
    """Maps of MNI space on a grid in the T1w's world, through the inverse of warp and affine; linear, outside is 0.

    The inverse is found at nodes about 4 mm apart and is linear between them: it is smooth, and finding it at every voxel
    took ten times as long as all the rest of a segmentation.

    Parameters
    ----------
    maps : (n_maps, n_x, n_y, n_z) float32 array, `maps_affine` its affine in MNI space
    shape, target_affine : the grid
    affine, field, field_affine : as for `inverse_points`

    Returns
    -------
    (n_maps, *shape) float32 array
    """
    from scipy import ndimage

    spacing = np.linalg.norm(target_affine[:3, :3], axis=0)
    nodes = [np.linspace(0, n - 1, max(2, int(np.ceil((n - 1) * h / _NODES)) + 1)) for n, h in zip(shape, spacing)]  # noqa: B905
    index = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    points = inverse_points(world_of(index.reshape(-1, 3), target_affine), affine, field, field_affine)
    places = world_of(points, np.linalg.inv(maps_affine)).astype(np.float32).T.reshape(3, *index.shape[:3])
    for axis, length in enumerate(shape):
        between = _between(len(nodes[axis]), length)
        places = np.moveaxis(np.tensordot(between, places, axes=(1, axis + 1)), 0, axis + 1)
    return np.stack([ndimage.map_coordinates(one, places, order=1) for one in maps])


def _between(count: int, length: int) -> np.ndarray:
    """Weights (length, count) of linear interpolation from evenly spaced nodes onto `length` evenly spaced places."""
    position = np.linspace(0, count - 1, length)
    return np.clip(1 - np.abs(position[:, None] - np.arange(count)), 0, 1).astype(np.float32)


def world_of(index: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points (n, 3) in mm of voxel indices (n, 3)."""
    return index @ affine[:3, :3].T + affine[:3, 3]
