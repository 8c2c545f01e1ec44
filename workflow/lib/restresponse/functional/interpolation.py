"""A series on another grid of the same space in one cubic B-spline interpolation, as one matrix an axis."""

from __future__ import annotations

import numpy as np

_CHUNK = 16  # volumes at a time
_PARALLEL = 1e-4  # voxels an axis may lean a voxel; over a head it stays below a fiftieth of a voxel


def onto_grid(series: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], target: np.ndarray) -> np.ndarray:
    """Interpolate every volume of a series on another grid; outside the image is 0.

    Where the target's voxels are at least twice as wide, a voxel is the local mean over its width. On the same grid
    the series itself comes back.

    Parameters
    ----------
    series : (n_x, n_y, n_z, n_scans) or (n_x, n_y, n_z) array, finite
    affine : (4, 4) array, voxel index of the series to mm
    shape : of the target
    target : (4, 4) array, voxel index of the target to mm

    Returns
    -------
    (*shape, n_scans) or shape float32 array
    """
    mapping = np.linalg.inv(affine) @ target
    if series.shape[:3] == tuple(shape) and np.allclose(mapping, np.eye(4), atol=1e-4):
        return np.asarray(series, np.float32)
    volumes = series if series.ndim == 4 else series[..., None]
    result = np.empty((*shape, volumes.shape[3]), np.float32)
    order = [
        int(np.abs(mapping[:3, axis]).argmax()) for axis in range(3)
    ]  # the image's axis along each of the target's
    along = np.zeros((3, 3))
    along[order, range(3)] = mapping[order, range(3)]
    if sorted(order) == [0, 1, 2] and np.abs(mapping[:3, :3] - along).max() < _PARALLEL:
        first, second, third = (
            _axis_matrix(series.shape[source], mapping[source, axis], mapping[source, 3], shape[axis])
            for axis, source in enumerate(order)
        )
        for start in range(0, volumes.shape[3], _CHUNK):
            chunk = np.ascontiguousarray(volumes[..., start : start + _CHUNK].transpose(*order, 3), np.float32)
            chunk = np.tensordot(first, chunk, axes=(1, 0))
            n_x, _, n_third, count = chunk.shape
            chunk = (second @ chunk.reshape(n_x, -1, n_third * count)).reshape(n_x, -1, n_third, count)
            result[..., start : start + _CHUNK] = third @ chunk
    else:
        for number in range(volumes.shape[3]):
            result[..., number] = _oblique(np.asarray(volumes[..., number], np.float32), mapping, shape)
    return result if series.ndim == 4 else result[..., 0]


def _axis_matrix(n_source: int, step: float, start: float, n_target: int) -> np.ndarray:
    """(n_target, n_source) weights of cubic B-spline interpolation at start + step * index, after a local mean."""
    from scipy import ndimage

    places = start + step * np.arange(n_target)
    coefficients = ndimage.spline_filter1d(_local_mean(np.eye(n_source), step, axis=0), 3, axis=0, mode="mirror")
    held = np.clip(places, 0, n_source - 1)
    columns = [
        ndimage.map_coordinates(column, held[None], order=3, mode="mirror", prefilter=False)
        for column in coefficients.T
    ]
    inside = (places > -0.5 - _PARALLEL) & (places < n_source - 0.5 + _PARALLEL)
    return (np.stack(columns, axis=1) * inside[:, None]).astype(np.float32)


def _oblique(volume: np.ndarray, mapping: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    from scipy import ndimage

    for axis in range(3):
        volume = _local_mean(volume, float(np.abs(mapping[axis, :3]).max()), axis)
    return ndimage.affine_transform(volume, mapping[:3, :3], mapping[:3, 3], output_shape=shape, order=3)


def _local_mean(values: np.ndarray, step: float, axis: int) -> np.ndarray:
    """Mean over an odd number of voxels, about as many as one step; the rule of `grid.resample`."""
    from scipy import ndimage

    width = 2 * int(np.floor(abs(step) / 2 + 1e-6)) + 1
    return values if width == 1 else ndimage.uniform_filter1d(values, width, axis=axis, mode="nearest")
