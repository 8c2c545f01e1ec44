"""What the classifiers are given: maps or volumes on the classifier's grid, scaled by training participants alone.

A channel's mean and standard deviation are taken over all training participants and all voxels of the brain mask
together; the linear models use the same standard deviations and are centred in kernel space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.files import let_go, read_array
from restresponse.grid import brain_mask, grid, resample
from restresponse.images import read_mask


@dataclass(frozen=True)
class ClassifierGrid:
    """The grid the classifier sees, and the way there from arrays in the group mask's order.

    Attributes
    ----------
    mask : (n_x, n_y, n_z) bool, the template's brain on the classifier's grid
    source_mask : (m_x, m_y, m_z) bool, the group mask of the maps
    affine, source_affine : (4, 4) arrays
    """

    mask: np.ndarray
    affine: np.ndarray
    source_mask: np.ndarray
    source_affine: np.ndarray

    @classmethod
    def of(cls, group_mask: str | Path, voxel_size: float | None) -> ClassifierGrid:
        """The grid at `voxel_size` mm; None or the maps' own voxel size: the maps' grid and mask as they are."""
        source, affine = read_mask(group_mask)
        if voxel_size is None or np.isclose(voxel_size, affine[0, 0]):
            return cls(source, affine, source, affine)
        return cls(brain_mask(voxel_size), grid(voxel_size)[1], source, affine)

    @property
    def n_voxels(self) -> int:
        """Voxels of the brain on the classifier's grid."""
        return int(self.mask.sum())

    @property
    def is_source(self) -> bool:
        """Whether the maps are on this grid already."""
        return self.mask is self.source_mask

    def from_masked(self, rows: np.ndarray) -> np.ndarray:
        """Rows `(n_channels, n_source_voxels)` on the classifier's grid: `(n_channels, n_voxels)` float32.

        Linear in the rows. Rows that are there already are given back as they are, memory-mapped or not.
        """
        if rows.shape[1] != self.source_mask.sum():
            raise InputError(
                f"maps have {rows.shape[1]} voxels and the group mask {int(self.source_mask.sum())}; expected the same: "
                "they were made with another mask, remove results/dual_regression and run again"
            )
        if self.is_source:
            return rows
        moved = np.empty((len(rows), self.n_voxels), np.float32)
        for index, row in enumerate(rows):
            volume = np.zeros(self.source_mask.shape, np.float32)
            volume[self.source_mask] = row
            moved[index] = self.from_volume(volume)
        return moved

    def from_volume(self, volume: np.ndarray) -> np.ndarray:
        """One source volume `(m_x, m_y, m_z)` as `(n_voxels,)` float32."""
        if self.is_source:
            return volume[self.mask]
        return resample(volume, self.source_affine, self.mask.shape, self.affine)[self.mask]


def read_channels(path: str | Path, participant: str, target: ClassifierGrid, *, kind: str = "component") -> np.ndarray:
    """One participant's maps `(n_components, n_voxels)` on the classifier's grid, each checked to be finite and not constant.

    No rows for a participant without an included scan.
    """
    rows = target.from_masked(read_array(path))
    check_channels(rows, participant, kind=kind)
    return rows


def check_channels(rows: np.ndarray, participant: str, *, kind: str = "component") -> None:
    """Raise `InputError` naming participant and channel where a channel is constant or not finite."""
    for number, row in enumerate(rows, start=1):
        low, high = float(np.min(row)), float(np.max(row))
        if not np.isfinite(low) or not np.isfinite(high) or low == high:
            found = "is constant" if low == high and np.isfinite(low) else "holds values that are not finite"
            raise InputError(
                f"{kind} {number} of {participant} {found} in the classifier's brain mask; expected finite, varying "
                "values: look at the participant's images and list the scan in dataset.set_aside"
            )


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each channel, `(n_channels,)` float64 each."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of_sums(cls, sums: np.ndarray, squares: np.ndarray, n_values: int) -> Scaling:
        """Scaling from each channel's sum and sum of squares over `n_values` values."""
        mean = sums / n_values
        variance = squares / n_values - mean**2
        if np.any(variance <= 0) or not np.all(np.isfinite(variance)):
            raise InputError(
                f"channel {int(np.argmin(variance)) + 1} does not vary over the training participants; "
                "expected varying maps: look at their dual regression"
            )
        return cls(mean, np.sqrt(variance))


class Samples:
    """Participants' channels `(n_channels, n_voxels)` in mask order, made into scaled dense batches on demand.

    Parameters
    ----------
    channels : a participant's array (memory-mapped arrays stay on disk), by participant
    mask : (n_x, n_y, n_z) bool
    training : participants the scaling is fitted on
    """

    def __init__(self, channels: Mapping[str, np.ndarray], mask: np.ndarray, training: Sequence[str]) -> None:
        self._channels, self.mask = channels, mask
        self.n_channels = len(channels[training[0]])
        sums, squares, count = np.zeros(self.n_channels), np.zeros(self.n_channels), 0
        for participant in training:
            for index, row in enumerate(channels[participant]):
                values = np.asarray(row, np.float64)
                sums[index] += values.sum()
                squares[index] += values @ values
            count += channels[participant].shape[1]
            let_go(channels[participant])
        self.scaling = Scaling.of_sums(sums, squares, count)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, `(n_x, n_y, n_z, n_channels)`."""
        return (*self.mask.shape, self.n_channels)

    def batch(self, participants: Sequence[str], channels: slice = slice(None)) -> np.ndarray:
        """Scaled samples `(n_participants, n_x, n_y, n_z, n_channels)` float32, 0 outside the brain, of all or some channels."""
        mean = self.scaling.mean[channels].astype(np.float32)
        factor = (1 / self.scaling.deviation[channels]).astype(np.float32)
        dense = np.zeros((len(participants), *self.mask.shape, len(mean)), np.float32)
        for sample, participant in zip(dense, participants, strict=True):
            sample[self.mask] = ((self._channels[participant][channels] - mean[:, None]) * factor[:, None]).T
            let_go(self._channels[participant])
        return dense
