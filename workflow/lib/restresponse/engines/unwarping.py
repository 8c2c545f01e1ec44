"""Susceptibility distortion of an EPI found from images: against the T1w, or against an EPI read out the other way round.

Arrays have the phase-encoding axis last, see `restresponse.engines.shifts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restresponse.engines import shifts

LARGEST = 16.0  # mm
_SPACING = 11.0  # mm between the knots of the field
_LEVELS = ((4.0, 4.0, 3.0, 6), (2.0, 2.5, 1.2, 4), (0.0, 0.0, 0.4, 4))  # blur in mm, voxel in mm, stiffness, steps
_PAIR_LEVELS = ((4.0, 4.0, 3.0, 8), (2.0, 2.5, 1.0, 5), (0.0, 0.0, 0.3, 5))
_COARSE = 3.0  # mm of blur
_GAIN_WIDTH = 10.0  # mm, over which the coil's sensitivity and dropout may change the ratio of EPI and contrast
_HATS = 9  # points of the contrast's curve


@dataclass(frozen=True)
class Match:
    """A field found against the T1w.

    Attributes
    ----------
    shift : (n_a, n_b, n) float32, voxels
    before, after : share of the EPI's variance near the brain that a contrast made of the T1w does not explain
    """

    shift: np.ndarray
    before: float
    after: float

    @property
    def gain(self) -> float:
        """Share of the unexplained variance that the field removes."""
        return 1 - self.after / self.before


def against_anatomy(
    epi: np.ndarray, t1w: np.ndarray, brain: np.ndarray, region: np.ndarray, voxel_size: np.ndarray
) -> Match:
    """The field that makes an EPI look most like its T1w.

    The T1w's intensities are turned into the EPI's by the best piecewise linear curve inside the brain and another around
    it, times a smooth gain, anew at each step; the field minimises a robust sum of squares.

    Parameters
    ----------
    epi : (n_a, n_b, n) array, as acquired
    t1w, brain : T1w intensities and the share of brain (0 to 1) on the same grid, rigidly registered
    region : bool, where they are compared
    voxel_size : (3,) mm
    """
    whole = shifts.Spline(epi.shape, voxel_size, _SPACING, np.ones(3, int))
    coefficients = np.zeros(whole.coefficients, np.float32)
    for blur, voxel, stiffness, steps in _LEVELS:
        stride = np.maximum(1, np.round(voxel / voxel_size)).astype(int)
        contrast = _Contrast(epi, t1w, brain, region, voxel_size, blur, stride)
        spline = shifts.Spline(epi.shape, voxel_size, _SPACING, stride)
        coefficients = shifts.fit(spline, contrast, coefficients, stiffness, steps, LARGEST, float(voxel_size[2]))
    shift = shifts.unfolded(whole.field(coefficients))
    return Match(shift, contrast.unexplained(np.zeros_like(shift)), contrast.unexplained(shift))


def unexplained(
    epi: np.ndarray, t1w: np.ndarray, brain: np.ndarray, region: np.ndarray, voxel_size: np.ndarray
) -> float:
    """Share of an EPI's variance that a contrast made of the T1w does not explain where they lie; as in `against_anatomy`."""
    contrast = _Contrast(epi, t1w, brain, region, voxel_size, 0.0, np.ones(3, int))
    return contrast.unexplained(np.zeros(epi.shape, np.float32))


def against_reversed(
    epi: np.ndarray, reversed_epi: np.ndarray, ratio: float, region: np.ndarray, voxel_size: np.ndarray
) -> np.ndarray:
    """The field of `epi` that, with `-ratio` times it for the other EPI, makes both the same (Andersson et al. 2003, NeuroImage 20:870).

    Parameters
    ----------
    epi, reversed_epi : (n_a, n_b, n) arrays on one grid
    ratio : readout time of the reversed EPI over the first's
    region : bool, where they are compared
    voxel_size : (3,) mm

    Returns
    -------
    (n_a, n_b, n) float32, voxels
    """
    whole = shifts.Spline(epi.shape, voxel_size, _SPACING, np.ones(3, int))
    coefficients = np.zeros(whole.coefficients, np.float32)
    for blur, voxel, stiffness, steps in _PAIR_LEVELS:
        stride = np.maximum(1, np.round(voxel / voxel_size)).astype(int)
        pair = _Pair(epi, reversed_epi, ratio, region, voxel_size, blur, stride)
        spline = shifts.Spline(epi.shape, voxel_size, _SPACING, stride)
        coefficients = shifts.fit(spline, pair, coefficients, stiffness, steps, LARGEST, float(voxel_size[2]))
    return shifts.unfolded(whole.field(coefficients))


class _Contrast:
    """The EPI against a contrast like its own that is made of the T1w."""

    def __init__(
        self,
        epi: np.ndarray,
        t1w: np.ndarray,
        brain: np.ndarray,
        region: np.ndarray,
        voxel_size: np.ndarray,
        blur: float,
        stride: np.ndarray,
    ) -> None:
        part = tuple(slice(None, None, int(by)) for by in stride)
        self._epi = _blurred(epi, blur, voxel_size)[part[:2]]  # every voxel of the axis along which it is sampled
        self._region = region[part]
        t1w, brain = (_blurred(image, blur, voxel_size)[part][self._region] for image in (t1w, brain))
        self._curves = _curves(t1w, brain)
        self._places = np.arange(0, epi.shape[2], stride[2], dtype=np.float32)
        self._coarse = blur >= _COARSE
        self._width = _GAIN_WIDTH / (voxel_size * stride)
        self._gain = np.ones(self._region.shape, np.float32)
        self._weight = self._region.astype(np.float32)

    def __call__(self, shift: np.ndarray, slope: np.ndarray) -> shifts.Linearised:
        value, change = shifts.sampled(self._epi, self._places + shift)
        stretch = np.clip(1 + slope, shifts.LEAST_STRETCH, 3)
        residual = value * stretch - self._predicted(value * stretch)
        spread = np.float32(1.4826 * np.median(np.abs(residual[self._region])) + 1e-6)
        residual /= spread
        if (
            self._coarse
        ):  # far from the answer large residuals lead there; near it they are what the contrast cannot tell
            self._weight = self._region / np.maximum(1, np.abs(residual) / 2)  # Huber's
        else:
            self._weight = self._region / (1 + (residual / 2) ** 2) ** 2  # Geman and McClure's
        # what a slope does to the intensity is left to the gain: dropout would be taken for it
        return shifts.Linearised(residual, change * stretch / spread, None, self._weight)

    def unexplained(self, shift: np.ndarray) -> float:
        """Share of the EPI's variance that the contrast does not explain with this field."""
        slope = np.gradient(shift, axis=-1)
        self._gain = np.ones(self._region.shape, np.float32)  # whatever field was looked at before
        self._weight = self._region.astype(np.float32)
        for _ in range(4):  # contrast and gain are fitted to this field
            self(shift, slope)
        seen = shifts.sampled(self._epi, self._places + shift)[0] * np.clip(1 + slope, shifts.LEAST_STRETCH, 3)
        both = np.corrcoef(seen[self._region], self._predicted(seen)[self._region])[0, 1]
        return float(1 - both**2)

    def _predicted(self, seen: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        inside = self._region
        weight = np.sqrt(self._weight[inside])
        design = self._curves * (self._gain[inside] * weight)[:, None]
        normal = (design.T @ design).astype(float)
        normal += 1e-3 * np.trace(normal) / len(normal) * np.eye(len(normal))
        found = np.linalg.solve(normal, design.T @ (seen[inside] * weight))
        contrast = np.zeros_like(seen)
        contrast[inside] = self._curves @ found.astype(np.float32)
        above = ndimage.gaussian_filter(self._weight * contrast * seen, self._width, truncate=2.5)
        below = ndimage.gaussian_filter(self._weight * contrast * contrast, self._width, truncate=2.5)
        floor = 1e-3 * below.max() + 1e-6
        self._gain = (above + floor) / (below + floor)
        return self._gain * contrast


class _Pair:
    """Two EPIs of one field, read out in opposite directions: both undistorted, they are the same, intensities too."""

    def __init__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        ratio: float,
        region: np.ndarray,
        voxel_size: np.ndarray,
        blur: float,
        stride: np.ndarray,
    ) -> None:
        part = tuple(slice(None, None, int(by)) for by in stride)
        level = np.median(first[region]) / max(float(np.median(second[region])), 1e-6)
        self._first = _blurred(first, blur, voxel_size)[part[:2]]
        self._second = _blurred(second * np.float32(level), blur, voxel_size)[part[:2]]
        self._ratio = np.float32(ratio)
        self._region = region[part]
        self._places = np.arange(0, first.shape[2], stride[2], dtype=np.float32)

    def __call__(self, shift: np.ndarray, slope: np.ndarray) -> shifts.Linearised:
        ratio = self._ratio
        first, first_change = shifts.sampled(self._first, self._places + shift)
        second, second_change = shifts.sampled(self._second, self._places - ratio * shift)
        one, two = (np.clip(1 + by * slope, shifts.LEAST_STRETCH, 3) for by in (1, -ratio))
        residual = first * one - second * two
        spread = np.float32(1.4826 * np.median(np.abs(residual[self._region])) + 1e-6)
        residual /= spread
        weight = self._region / np.maximum(1, np.abs(residual) / 2)  # Huber's
        with_shift = (first_change * one + ratio * second_change * two) / spread
        return shifts.Linearised(residual, with_shift, (first + ratio * second) / spread, weight)


def _curves(t1w: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Piecewise linear functions of the T1w's intensity, of brain and of what is around it: (n_voxels, 2 n) float32."""
    knots = np.linspace(0, np.percentile(t1w, 99), _HATS)
    step = max(float(knots[1]), 1e-6)
    hats = np.clip(1 - np.abs(np.clip(t1w, 0, knots[-1])[:, None] - knots) / step, 0, 1)
    return np.concatenate([brain[:, None] * hats, (1 - brain[:, None]) * hats], axis=1).astype(np.float32)


def _blurred(image: np.ndarray, blur: float, voxel_size: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    image = np.asarray(image, np.float32)
    return ndimage.gaussian_filter(image, blur / voxel_size, truncate=3) if blur > 0 else image
