"""Susceptibility distortion: an off-resonance field over the head, and what an EPI that is read out in it shows.

The field is strongest above the nasal cavity and the ear canals, where real heads have it, with smooth parts over the
whole head; its mean over the brain is zero, as a shim leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restresponse.phantom.anatomy import Warp, apply, interpolate, sampled, tissue_template

AXIS = 1  # voxel axis of phase encoding
DIRECTION, SIGN = "j-", -1  # BIDS: a field of +1 Hz moves the signal to lower indices
READOUT = 0.03  # s, BIDS TotalReadoutTime
STEP = 2.5  # mm, of the field's grid
_SOURCES = (  # centre in mm MNI, width in mm, strength
    ((0, 38, -20), (20, 17, 13), 1.0),
    ((46, -16, -30), (15, 16, 12), 0.7),
    ((-46, -16, -30), (15, 16, 12), 0.7),
)
_SMOOTH, _SMOOTH_WIDTH = 0.22, 35.0  # share of the strongest source, and mm, of the smooth part


@dataclass(frozen=True)
class Distortion:
    """Distortion of a head at rest, on a grid parallel to the matrix.

    displacement (X, Y, Z, 1): mm along the matrix's `AXIS` by which the EPI shows a piece of the head away from its place;
    affine (4, 4): voxel index to BOLD world; voxel_size: mm of the matrix along `AXIS`; step: mm of the grid.
    """

    displacement: np.ndarray
    affine: np.ndarray
    step: float
    voxel_size: float

    @property
    def largest(self) -> float:
        """mm"""
        return float(np.abs(self.displacement).max())

    def reversed(self) -> Distortion:
        """The same field, read out the other way round."""
        return Distortion(-self.displacement, self.affine, self.step, self.voxel_size)

    def hertz(self, places: np.ndarray) -> np.ndarray:
        """Off-resonance (N,) in Hz at places (3, N) in BOLD world, of this read-out (not of the reversed one)."""
        found = interpolate(self.displacement, apply(np.linalg.inv(self.affine), places))[:, 0]
        return SIGN * found / (self.voxel_size * READOUT)

    def backwards(self) -> np.ndarray:
        """Where the EPI's signal comes from, on the grid as the EPI shows it: (X, Y, Z, 2).

        The displacement in mm of what is shown here, and the factor by which read-out piles it up or spreads it out.
        """
        index = np.indices(self.displacement.shape[:3], np.float64).reshape(3, -1)
        found = np.zeros(index.shape[1])
        for _ in range(40):
            place = index.copy()
            place[AXIS] -= found / self.step
            found = interpolate(self.displacement, place)[:, 0].astype(float)
        shown = found.reshape(self.displacement.shape[:3])
        factor = 1 - np.gradient(shown, self.step, axis=AXIS)
        return np.ascontiguousarray(np.stack([shown, factor], axis=-1), np.float32)


def draw_distortion(
    generator: np.random.Generator,
    largest: float,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    voxel_size: float,
    warp: Warp,
    to_bold: np.ndarray,
) -> Distortion:
    """The distortion of one head.

    Parameters
    ----------
    largest : mm inside the brain
    affine, shape : of its grid of `STEP` mm, parallel to the matrix
    voxel_size : mm of the matrix along `AXIS`
    """
    from scipy import ndimage

    tissues, mni = sampled(warp, tissue_template(), shape, np.linalg.inv(to_bold) @ affine)
    brain = tissues[..., :3].sum(axis=-1) > 0.5
    direction = generator.choice((-1.0, 1.0))
    field = np.zeros(shape)
    for centre, width, strength in _SOURCES:
        distance = (mni - np.float32(centre)) / np.float32(width)
        near = np.exp(-0.5 * np.einsum("...a,...a->...", distance, distance))
        field += direction * strength * generator.uniform(0.8, 1.2) * near
    smooth = ndimage.gaussian_filter(generator.standard_normal(shape), _SMOOTH_WIDTH / STEP, mode="reflect")
    field += _SMOOTH * smooth / smooth[brain].std()
    field -= field[brain].mean()
    field *= largest / np.abs(field[brain]).max()
    return Distortion(field[..., None].astype(np.float32), affine, STEP, float(voxel_size))
