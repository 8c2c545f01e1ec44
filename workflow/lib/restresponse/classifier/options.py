"""What a network's model may ask for beyond the paper: crop, augmentation, class weights, members; none of it by default.

The published study had no such thing, so `plain` takes what changes the training out of the models of its protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from restresponse.grid import brain_mask, grid

OFF: dict[str, Any] = {"class_weights": False, "members": 1, "augmentation": {"shift": 0, "flip": False, "noise": 0}}
_PUBLISHED = ("paper", "paper_nested")
_EXTENT = 145, 181, 155  # mm of the template's brain


def plain(protocol: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The model as a protocol trains it: without these options where it is one of the published study."""
    if protocol not in _PUBLISHED or model["kind"] != "network":
        return dict(model)
    return {**model, **{name: value for name, value in OFF.items() if name in model}}


def cropped(mask: np.ndarray, crop: str) -> np.ndarray:
    """The mask, or with `brain` the least box of it that holds every voxel; what is in mask order stays in that order.

    Parameters
    ----------
    mask : (n_x, n_y, n_z) bool
    crop : `brain` or `none`
    """
    if crop != "brain":
        return mask
    inside = np.nonzero(mask)
    return mask[tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in inside)]


def network_shape(voxel_size: float, crop: str) -> tuple[int, ...]:
    """Edges of the volume that a network is given on CONN's grid at `voxel_size` mm."""
    return cropped(brain_mask(voxel_size), crop).shape if crop == "brain" else grid(voxel_size)[0]


def most_edges(voxel_size: float, crop: str) -> tuple[int, ...]:
    """Edges that `network_shape` does not exceed, without a look at the brain."""
    whole = grid(voxel_size)[0]
    return tuple(int(extent / voxel_size) + 2 for extent in _EXTENT) if crop == "brain" else whole


@dataclass(frozen=True)
class Augmentation:
    """How the samples of one batch of training are changed: the same in every channel of a sample, but for the noise.

    Attributes
    ----------
    mask : (n_x, n_y, n_z) bool
    steps : (n, 3) voxels that each sample is moved by, filled with 0
    flips : (n,) bool, whether left and right are exchanged
    noise : standard deviation of what is added in the brain, in those of a channel
    seeds : (n,) of the noise
    """

    mask: np.ndarray
    steps: np.ndarray
    flips: np.ndarray
    noise: float
    seeds: np.ndarray

    @classmethod
    def drawn(
        cls, options: Mapping[str, Any] | None, mask: np.ndarray, n: int, generator: np.random.Generator
    ) -> Augmentation:
        """Draw for `n` samples from the generator of the training; where all is off, nothing is drawn.

        `options` are the config's: `shift` (most voxels along each axis), `flip` (in half of the samples), `noise`.
        """
        options = {**OFF["augmentation"], **(options or {})}
        if options == OFF["augmentation"]:
            return cls(mask, np.zeros((n, 3), int), np.zeros(n, bool), 0, np.zeros(n, int))
        shift = options["shift"]
        steps, flips = generator.integers(-shift, shift + 1, (n, 3)), generator.random(n) < 0.5
        return cls(mask, steps, flips & options["flip"], options["noise"], generator.integers(2**31, size=n))

    def of(self, batch: np.ndarray, first_channel: int = 0) -> np.ndarray:
        """The batch `(n, n_x, n_y, n_z, n_channels)` changed; its channels are those from `first_channel` on."""
        if not (self.noise or self.flips.any() or self.steps.any()):
            return batch
        found = np.zeros_like(batch)
        for index, sample in enumerate(batch):
            if self.noise:
                size = (int(self.mask.sum()), sample.shape[-1])
                generator = np.random.default_rng([self.seeds[index], first_channel])
                sample[self.mask] += np.float32(self.noise) * generator.standard_normal(size, np.float32)
            mirrored, moves = (
                sample[::-1] if self.flips[index] else sample,
                list(zip(self.steps[index], self.mask.shape, strict=True)),
            )
            to = tuple(slice(max(step, 0), length + min(step, 0)) for step, length in moves)
            start = tuple(slice(max(-step, 0), length + min(-step, 0)) for step, length in moves)
            found[index][to] = mirrored[start]
        return found


def class_weights(response: np.ndarray, wanted: bool) -> np.ndarray:
    """Weight of each participant's loss, mean 1: half of the whole for each class where `wanted`, else 1.

    Parameters
    ----------
    response : (n,) of 1 and 0, of all training participants
    """
    if not wanted:
        return np.ones(len(response), np.float32)
    counts = np.bincount(response, minlength=2)
    return (len(response) / (2 * counts[response])).astype(np.float32)
