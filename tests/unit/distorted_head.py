"""A small head, its EPI and T1w, and what a field along the phase-encoding axis makes of the EPI."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from restresponse.engines import motion


def turned(axis: int, degrees: float, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = motion.turn(axis, np.deg2rad([degrees]))[0]
    matrix[:3, 3] = shift
    return matrix


def head(seed: int = 0, shape: tuple[int, int, int] = (30, 28, 48)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey, white and fluid in an ellipsoid, phase encoding last: its EPI, its T1w, and the brain."""
    generator = np.random.default_rng(seed)
    middle = (np.array(shape) - 1) / 2
    radius = np.linalg.norm((np.argwhere(np.ones(shape, bool)) - middle) / [11, 10, 18], axis=1).reshape(shape)
    texture = ndimage.gaussian_filter(generator.standard_normal(shape), 1.8)
    texture /= texture.std()
    brain = radius < 1
    tissue = np.select([texture > 0.4, texture > -1.2], [0, 1], 2)  # white, grey, fluid
    epi = np.where(brain, np.array([620.0, 780.0, 1000.0])[tissue], 20)
    t1w = np.where(brain, np.array([900.0, 620.0, 200.0])[tissue], 10)
    soft = [ndimage.gaussian_filter(image.astype(np.float32), 0.7) for image in (epi, t1w)]
    return soft[0], soft[1], brain


def field(shape: tuple[int, int, int], largest: float = 1.6) -> np.ndarray:
    """A smooth field in voxels: one hill towards the front, a valley behind."""
    index = np.indices(shape)
    hills = [(0.5, 0.45, 0.72, 1.0), (0.4, 0.6, 0.3, -0.6)]
    field = sum(
        height * np.exp(-0.5 * sum(((index[k] - part[k] * shape[k]) / 6.5) ** 2 for k in range(3)))
        for *part, height in hills
    )
    return (largest * field).astype(np.float32)


def distorted(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """What an EPI shows: what belongs at i is at i + s(i), the signal kept."""
    back = np.zeros(image.shape)
    place = np.indices(image.shape, dtype=float)
    for _ in range(60):
        back = ndimage.map_coordinates(field, [*place[:2], place[2] - back], order=1, mode="nearest")
    shown = ndimage.map_coordinates(image, [*place[:2], place[2] - back], order=3, mode="nearest")
    return (shown * (1 - np.gradient(back, axis=2))).astype(np.float32)
