"""The 8 canonical resting-state networks as 32 nodes, and smooth maps of them on any MNI grid.

Source of the nodes (names and MNI coordinates in mm): the HCP-ICA network atlas of CONN, repository alfnie/conn, MIT licence;
a group ICA of 497 participants of the Human Connectome Project (Whitfield-Gabrieli & Nieto-Castanon, Brain Connectivity 2012).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.grid import grid

RADIUS = 7.0  # mm, standard deviation of a node's Gaussian
_TABLE = Path(__file__).with_name("network_nodes.tsv")

Node = tuple[str, str, tuple[float, float, float]]


@functools.cache
def network_nodes() -> tuple[Node, ...]:
    """The 32 nodes as (network, node, (x, y, z) in mm MNI), nodes of a network together."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return tuple((network, node, (float(x), float(y), float(z))) for network, node, x, y, z in rows)


def network_names() -> tuple[str, ...]:
    """Names of the 8 networks, in the order of the table and of every stack of maps."""
    return tuple(dict.fromkeys(network for network, _, _ in network_nodes()))


def network_maps(
    where: float | tuple[Sequence[int], np.ndarray], radius_mm: float = RADIUS, mask: np.ndarray | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """One smooth map a network: the sum of a Gaussian around each of its nodes, scaled to a peak of 1 on the grid.

    Parameters
    ----------
    where : float or (shape, affine)
        Voxel size in mm of CONN's grid, or the shape and the affine (4, 4; voxel index to mm MNI) of any grid.
    radius_mm : float
        Standard deviation of the Gaussians in mm.
    mask : (X, Y, Z) array of bool, optional
        Voxels to keep.

    Returns
    -------
    names : tuple of K = 8 names
    maps : (K, X, Y, Z) float32, or (K, V) over the V voxels of the mask in C order
    """
    shape, affine = grid(where) if isinstance(where, int | float) else where
    shape, affine = tuple(int(n) for n in shape), np.asarray(affine, float)
    if mask is not None and np.shape(mask) != shape:
        raise InputError(f"the mask has shape {np.shape(mask)}, the grid {shape}: give a mask on the same grid")
    names = network_names()
    centres = np.array([position for _, _, position in network_nodes()])
    maps = blobs(_sums(np.ones(len(centres))), centres, np.full(len(centres), radius_mm), shape, affine)
    peaks = maps.reshape(len(names), -1).max(1)
    if not np.all(peaks > 1e-3):
        empty = ", ".join(name for name, peak in zip(names, peaks, strict=True) if peak <= 1e-3)
        raise InputError(f"no voxel of the grid is near the nodes of {empty}: give a grid in MNI152 space (mm)")
    maps /= peaks[:, None, None, None]
    return names, maps if mask is None else maps[:, np.asarray(mask, bool)]


def network_blobs(
    weights: np.ndarray, centres: np.ndarray, radii: np.ndarray, shape: Sequence[int], affine: np.ndarray
) -> np.ndarray:
    """Sum of weighted Gaussians of each network, for nodes that may differ from the atlas's.

    Parameters
    ----------
    weights : (N,) array, peak of each of the N = 32 nodes, in the order of `network_nodes`
    centres : (N, 3) array, mm
    radii : (N,) array, standard deviations in mm
    shape, affine : the grid

    Returns
    -------
    maps : (K, X, Y, Z) float32
    """
    return blobs(_sums(np.asarray(weights, float)), np.asarray(centres, float), np.asarray(radii, float), shape, affine)


def blobs(
    mixing: np.ndarray, centres: np.ndarray, radii: np.ndarray, shape: Sequence[int], affine: np.ndarray
) -> np.ndarray:
    """Weighted sums of Gaussians: `mixing` (K, N) of N centres (N, 3) in mm with radii (N,) in mm, as (K, *shape) float32."""
    maps = np.zeros((len(mixing), *shape), np.float32)
    rotation, origin = np.asarray(affine)[:3, :3], np.asarray(affine)[:3, 3]
    axis_aligned = np.count_nonzero(rotation) == 3 and np.all(np.diag(rotation) != 0)
    indices = np.indices(shape, np.float32).reshape(3, -1) if not axis_aligned else None
    for weights, centre, radius in zip(mixing.T, centres, radii, strict=True):
        if axis_aligned:  # a Gaussian is then a product of three
            x, y, z = (
                np.exp(-0.5 * ((rotation[a, a] * np.arange(shape[a]) + origin[a] - centre[a]) / radius) ** 2)
                for a in range(3)
            )
            blob = (x[:, None, None] * y[:, None] * z).astype(np.float32)
        else:
            distance = (rotation @ indices + (origin - centre)[:, None]) / radius
            blob = np.exp(-0.5 * np.einsum("an,an->n", distance, distance)).astype(np.float32).reshape(shape)
        for network in np.flatnonzero(weights):
            maps[network] += np.float32(weights[network]) * blob
    return maps


def _sums(weights: np.ndarray) -> np.ndarray:
    names = network_names()
    mixing = np.zeros((len(names), len(weights)))
    for node, (network, _, _) in enumerate(network_nodes()):
        mixing[names.index(network), node] = weights[node]
    return mixing
