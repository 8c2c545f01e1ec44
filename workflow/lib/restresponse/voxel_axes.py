"""Directions along the voxel axes of one image, said along those of another that is stored otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def change_of_axes(own: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How voxel axes run against others, both given as affines (4, 4): nearest target axis and its sense (1 or -1) for each, (3, 2)."""
    from nibabel import orientations

    return orientations.ornt_transform(orientations.io_orientation(own), orientations.io_orientation(target))


def direction_along(direction: str, own: np.ndarray, target: np.ndarray) -> str:
    """A BIDS direction (`i`, `i-` … `k-`) on the voxel axes of an image as the one on another's.

    Parameters
    ----------
    direction : on the image's own voxel axes
    own, target : affines (4, 4) of the image and of the other
    """
    axis, flip = change_of_axes(own, target)["ijk".index(direction[0])]
    return "ijk"[int(axis)] + ("-" if direction.endswith("-") == (flip > 0) else "")
