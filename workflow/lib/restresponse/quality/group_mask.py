"""The mask that every cohort shares: the template's brain, never a statistic of the scans."""

from __future__ import annotations

from pathlib import Path

from restresponse.files import write_image
from restresponse.grid import brain_mask, grid


def write_group_mask(path: str | Path, voxel_size: float) -> None:
    """Write the template's brain on the grid of `voxel_size` mm, uint8."""
    write_image(path, brain_mask(voxel_size), grid(voxel_size)[1])
