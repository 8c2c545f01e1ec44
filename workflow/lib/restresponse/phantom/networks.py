"""The networks as a participant has them: nodes a little moved, widened and weighted, painted on the grey matter."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from restresponse.grid import grid
from restresponse.networks import RADIUS, network_blobs, network_names, network_nodes
from restresponse.phantom.anatomy import apply, interpolate, tissue_template

AMPLITUDE = 2.0  # percent of the baseline at a network's peak
AMPLITUDE_SPREAD = 0.12  # standard deviation of its logarithm over participants
_JITTER = 1.5  # mm, standard deviation of a node's place on each axis
_RADIUS_SPREAD, _WEIGHT_SPREAD = 0.06, 0.08  # of a participant's radius and a node's weight, as shares


@dataclass(frozen=True)
class Networks:
    """One participant's networks: `amplitudes` (K,) in percent; nodes' `weights` (N,), `centres` (N, 3) and `radii` (N,) in mm."""

    amplitudes: np.ndarray
    weights: np.ndarray
    centres: np.ndarray
    radii: np.ndarray

    def maps(self, voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
        """Percent of the baseline for a unit of time course: (K, X, Y, Z) float32 on CONN's grid, and its affine."""
        maps, affine = _painted(self.weights, self.centres, self.radii, voxel_size)
        return maps * (self.amplitudes / _peaks()).astype(np.float32)[:, None, None, None], affine


def group_maps(voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """The maps before any participant's own shape, peak 1: (K, X, Y, Z) float32 on CONN's grid, and its affine."""
    maps, affine = _painted(*_atlas(), voxel_size)
    return maps / _peaks().astype(np.float32)[:, None, None, None], affine


def draw_networks(
    generator: np.random.Generator, responder: bool, effect: float, effect_on: str, signs: Mapping[str, int]
) -> Networks:
    """A participant's networks; the effect multiplies by sqrt(1 + effect) to the power of the network's sign, and its inverse in non-responders."""
    weights, centres, radii = _atlas()
    names = network_names()
    centres = centres + generator.normal(0, _JITTER, centres.shape)
    radii = radii * np.exp(generator.normal(0, _RADIUS_SPREAD))
    weights = weights * np.exp(generator.normal(0, _WEIGHT_SPREAD, len(weights)))
    amplitudes = AMPLITUDE * np.exp(generator.normal(0, AMPLITUDE_SPREAD, len(names)))
    for name, sign in signs.items():
        factor = (1 + effect) ** (0.5 * sign * (1 if responder else -1))
        if effect_on == "amplitude":
            amplitudes[names.index(name)] *= factor
        else:
            nodes = [index for index, (network, _, _) in enumerate(network_nodes()) if network == name]
            weights[nodes[: (len(nodes) + 1) // 2]] *= factor
    return Networks(amplitudes, weights, centres, radii)


def _atlas() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centres = np.array([position for _, _, position in network_nodes()])
    return np.ones(len(centres)), centres, np.full(len(centres), RADIUS)


@functools.cache
def _peaks() -> np.ndarray:
    return _painted(*_atlas(), 2.0)[0].max(axis=(1, 2, 3)).astype(float)


def _painted(
    weights: np.ndarray, centres: np.ndarray, radii: np.ndarray, voxel_size: float
) -> tuple[np.ndarray, np.ndarray]:
    shape, affine = grid(voxel_size)
    return network_blobs(weights, centres, radii, shape, affine) * _grey_around(voxel_size), affine


@functools.cache
def _grey_around(voxel_size: float) -> np.ndarray:
    """Share of grey matter in a neighbourhood of about 4 mm, on CONN's grid: networks leave white matter and fluid alone."""
    from scipy import ndimage

    tissues, tissues_affine = tissue_template()
    around = np.clip(1.4 * ndimage.gaussian_filter(tissues[..., 0], 1.8), 0, 1)[..., None]
    shape, affine = grid(voxel_size)
    index = apply(np.linalg.inv(tissues_affine) @ affine, np.indices(shape, np.float64).reshape(3, -1))
    return interpolate(np.ascontiguousarray(around), index)[:, 0].reshape(shape)
