"""Displacements along one axis of an image, as cubic B-splines fitted by Gauss-Newton: the core of unwarping by registration.

An EPI shows what belongs at index i at i + s(i) along the phase-encoding axis, multiplied by 1 / (1 + s'(i)), for signal is
kept (Jezzard & Balaban 1995, MRM 34:65). So the true image is E(i + s) (1 + s'). Inside this module that axis is the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEAST_STRETCH = 0.3  # of 1 + s': below, the signal of several places is piled up beyond recovery
_CONJUGATE_STEPS = 25


@dataclass(frozen=True)
class Linearised:
    """Residuals of a match at a field s, and how they change with it.

    residual, with_shift : (n_a, n_b, n) arrays r and dr/ds (s in voxels of the full grid)
    with_slope : the same of dr/ds'; None where the match leaves it out
    weight : (n_a, n_b, n), 0 where the images say nothing
    """

    residual: np.ndarray
    with_shift: np.ndarray
    with_slope: np.ndarray | None
    weight: np.ndarray


class Spline:
    """A field (n_a, n_b, n) of cubic B-splines, their knots `spacing` mm apart, seen on every `stride`-th voxel of each axis.

    Parameters
    ----------
    shape : of the full grid
    voxel_size : (3,) mm
    spacing : mm
    stride : (3,) ints
    """

    def __init__(self, shape: tuple[int, ...], voxel_size: np.ndarray, spacing: float, stride: np.ndarray) -> None:
        self.step = np.maximum(spacing / voxel_size, 1.0)  # voxels from knot to knot
        places = [np.arange(0, n, by) / step for n, by, step in zip(shape, stride, self.step, strict=True)]
        counts = [int(np.ceil((n - 1) / step)) + 3 for n, step in zip(shape, self.step, strict=True)]
        knots = [np.arange(count) - 1.0 for count in counts]
        self.coefficients = tuple(counts)
        self._bases = [
            _cubic(place[:, None] - knot).astype(np.float32) for place, knot in zip(places, knots, strict=True)
        ]
        self._slopes = (_cubic_slope(places[2][:, None] - knots[2]) / self.step[2]).astype(np.float32)

    def field(self, coefficients: np.ndarray) -> np.ndarray:
        """s"""
        return self._spread(coefficients, self._bases[2])

    def slope(self, coefficients: np.ndarray) -> np.ndarray:
        """s', a voxel of the full grid being the unit"""
        return self._spread(coefficients, self._slopes)

    def adjoint(self, with_shift: np.ndarray, with_slope: np.ndarray | None) -> np.ndarray:
        """Sums over voxels of both, weighted by each coefficient's share in s and s'."""
        last = with_shift @ self._bases[2]
        if with_slope is not None:
            last = last + with_slope @ self._slopes
        return np.tensordot(self._bases[0], np.matmul(self._bases[1].T, last), (0, 0))

    def diagonal(self, with_shift: np.ndarray, with_slope: np.ndarray | None) -> np.ndarray:
        """The same with squared shares."""
        last = with_shift @ self._bases[2] ** 2
        if with_slope is not None:
            last = last + with_slope @ self._slopes**2
        return np.tensordot(self._bases[0] ** 2, np.matmul((self._bases[1] ** 2).T, last), (0, 0))

    def _spread(self, coefficients: np.ndarray, last: np.ndarray) -> np.ndarray:
        first = np.tensordot(self._bases[0], coefficients, 1)
        return np.matmul(self._bases[1], first) @ last.T


def fit(
    spline: Spline,
    linearise: Callable[[np.ndarray, np.ndarray], Linearised],
    start: np.ndarray,
    stiffness: float,
    iterations: int,
    largest: float,
    voxel: float,
) -> np.ndarray:
    """Coefficients that make the weighted residuals small and the field smooth.

    Minimises the weighted mean of r^2 over voxels plus `stiffness` (per mm^2) times the mean of the squared differences
    of neighbouring coefficients, by Gauss-Newton steps solved with conjugate gradients.

    Parameters
    ----------
    linearise : of s and s' on the spline's voxels
    start : coefficients
    largest : bound of s, in mm
    voxel : mm of the last axis
    """
    coefficients = start.astype(np.float32)
    for _ in range(iterations):
        found = linearise(spline.field(coefficients), spline.slope(coefficients))
        total = float(found.weight.sum()) or 1.0
        weight = found.weight / np.float32(total)
        rough = stiffness * voxel**2 / coefficients.size
        columns = (found.with_shift, found.with_slope)

        def back(values: np.ndarray, columns=columns, weight=weight) -> np.ndarray:
            weighted = weight * values
            return spline.adjoint(*(None if column is None else weighted * column for column in columns))

        def normal(direction: np.ndarray, columns=columns, back=back, rough=rough) -> np.ndarray:
            change = columns[0] * spline.field(direction)
            if columns[1] is not None:
                change += columns[1] * spline.slope(direction)
            return back(change) + rough * _roughness(direction)

        downhill = -back(found.residual) - rough * _roughness(coefficients)
        squares = (None if column is None else weight * column**2 for column in columns)
        diagonal = spline.diagonal(*squares) + 6 * rough
        coefficients = coefficients + _conjugate_gradients(normal, downhill, diagonal)
        coefficients = np.clip(coefficients, -largest / voxel, largest / voxel)
    return coefficients


def sampled(image: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes of an image (n_a, n_b, n) at places along its last axis, by Catmull-Rom splines; beyond the edge, the edge's."""
    n = image.shape[-1]
    inside = np.clip(places, 0, n - 1)
    lower = np.minimum(inside.astype(np.int32), n - 2)
    t = (inside - lower).astype(np.float32)
    p0, p1, p2, p3 = (np.take_along_axis(image, np.clip(lower + by, 0, n - 1), axis=-1) for by in (-1, 0, 1, 2))
    a, b, c = 0.5 * (p3 - p0) + 1.5 * (p1 - p2), p0 - 2.5 * p1 + 2 * p2 - 0.5 * p3, 0.5 * (p2 - p0)
    return ((a * t + b) * t + c) * t + p1, (3 * a * t + 2 * b) * t + c


def undistorted(image: np.ndarray, shift: np.ndarray, slope: np.ndarray | None = None) -> np.ndarray:
    """What belongs at each index: E(i + s) (1 + s'), the last axis being phase encoding."""
    slope = np.gradient(shift, axis=-1) if slope is None else slope
    places = np.arange(image.shape[-1], dtype=np.float32) + shift
    return sampled(image, places)[0] * np.clip(1 + slope, 0, 3)


def unfolded(shift: np.ndarray) -> np.ndarray:
    """The field with i + s(i) made to rise by at least `LEAST_STRETCH` a voxel along the last axis, changed where it does not alone."""
    places = np.arange(shift.shape[-1]) * (1 - LEAST_STRETCH) + shift
    up = np.maximum.accumulate(places, axis=-1)
    down = np.minimum.accumulate(places[..., ::-1], axis=-1)[..., ::-1]
    return (0.5 * (up + down) - np.arange(shift.shape[-1]) * (1 - LEAST_STRETCH)).astype(np.float32)


def _roughness(coefficients: np.ndarray) -> np.ndarray:
    """Gradient of half the sum of squared differences of neighbours."""
    out = np.zeros_like(coefficients)
    for axis in range(3):
        steps = np.diff(coefficients, axis=axis)
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(0, -1), slice(1, None)
        out[tuple(before)] -= steps
        out[tuple(after)] += steps
    return out


def _conjugate_gradients(normal: Callable, right: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    solution, rest = np.zeros_like(right), right
    scaled = rest / diagonal
    direction, product = scaled, float((rest * scaled).sum())
    first = product
    for _ in range(_CONJUGATE_STEPS):
        if product <= 1e-5 * first:
            break
        image = normal(direction)
        by = product / float((direction * image).sum())
        solution = solution + by * direction
        rest = rest - by * image
        scaled = rest / diagonal
        product, before = float((rest * scaled).sum()), product
        direction = scaled + (product / before) * direction
    return solution


def _cubic(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0))


def _cubic_slope(t: np.ndarray) -> np.ndarray:
    size = np.abs(t)
    return np.sign(t) * np.where(size < 1, -2 * size + 1.5 * size**2, np.where(size < 2, -((2 - size) ** 2) / 2, 0))
