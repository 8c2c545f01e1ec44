"""Nipype interfaces over transforms in the house's format, a `Normalisation` and the shift of a `Distortion`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from restresponse import grid
from restresponse.engines import Normalisation, masks, warps
from restresponse.engines.array_interfaces import ArrayInterface

VOXEL_SIZE = 2.0  # mm, of the grid of a `Normalisation`


class NormalisationInput(BaseInterfaceInputSpec):
    """A `Normalisation`, see there."""

    affine = File(mandatory=True, desc="text, (4, 4): mm in MNI space, after the warp, to mm in the T1w's world")
    warp = File(desc="displacements in mm, LPS; none where it is not given")


def inputs_of(normalisation: Normalisation) -> dict[str, Path]:
    """A `Normalisation` as the inputs that have its names."""
    found = {"affine": normalisation.affine, "warp": normalisation.warp}
    return {name: path for name, path in found.items() if path is not None}


def displacements_of(inputs: NormalisationInput) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (n_x, n_y, n_z, 3) of a normalisation, in mm in RAS, and the affine of their grid."""
    if not isdefined(inputs.warp):
        shape, affine = grid.grid(VOXEL_SIZE)
        return np.zeros((*shape, 3), np.float32), affine
    image = nib.load(inputs.warp)
    return warps.field_of(np.asarray(image.dataobj, np.float32)), image.affine


def write_warp(path: Path | str, field: np.ndarray, affine: np.ndarray) -> Path:
    """Write displacements (n_x, n_y, n_z, 3) in mm, RAS, as the warp of a `Normalisation`."""
    return write_vectors(path, warps.displacements_of(field), affine)


def write_vectors(path: Path | str, vectors: np.ndarray, affine: np.ndarray) -> Path:
    """Write a vector in mm for each voxel, (n_x, n_y, n_z, 1, 3)."""
    image = nib.Nifti1Image(vectors, affine)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return Path(path)


class _WholeWarpInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="displacements in mm, LPS, on a part of the grid")
    out_file = File(mandatory=True)


class WholeWarp(ArrayInterface):
    """The warp of a `Normalisation` of one that was found on a part of its grid; beyond its edge, the edge's."""

    input_spec = _WholeWarpInput

    def compute(self) -> dict[str, Any]:
        part = nib.load(self.inputs.in_file)
        shape, affine = grid.grid(VOXEL_SIZE)
        window = masks.window_of(part.shape[:3], part.affine, affine)
        around = [(inside.start, size - inside.stop) for inside, size in zip(window, shape, strict=True)]
        field = np.pad(warps.field_of(np.asarray(part.dataobj, np.float32)), [*around, (0, 0)], mode="edge")
        write_warp(self.inputs.out_file, field, affine)
        return {}


class _GridWarpInput(NormalisationInput):
    voxel_size = traits.Float(mandatory=True, desc="of the grid, mm")
    coregistration = traits.Array(shape=(4, 4), mandatory=True, desc="mm in the T1w's world to mm in the EPI's")
    shift = File(desc="of a `Distortion`")
    axis = traits.Range(0, 2, desc="of a `Distortion`")
    out_file = File(mandatory=True)


class GridWarp(ArrayInterface):
    """A normalisation's warp on a grid in MNI space, with the displacements that lead to where a distorted EPI shows a place."""

    input_spec = _GridWarpInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        shape, affine = grid.grid(inputs.voxel_size)
        points = warps.points_of(shape, affine)
        field = warps.sample(*displacements_of(inputs), points)
        if isdefined(inputs.shift):
            through = inputs.coregistration @ np.loadtxt(inputs.affine)
            field = field + _shifts(points + field, through, inputs.shift, inputs.axis)
        write_warp(inputs.out_file, field.reshape(*shape, 3), affine)
        return {}


def _shifts(points: np.ndarray, through: np.ndarray, shift: str, axis: int) -> np.ndarray:
    """Displacements (n, 3) in mm, of which `through` makes the way from a place in an EPI to where the EPI shows it.

    Parameters
    ----------
    points : (n, 3) mm, after the warp
    through : (4, 4), mm after the warp to mm in the EPI's world, the head as in the reference
    shift, axis : see `engines.Distortion`
    """
    from scipy import ndimage

    image = nib.load(shift)
    place = warps.world_of(points, np.linalg.inv(image.affine) @ through)
    found = ndimage.map_coordinates(np.asarray(image.dataobj, np.float32), place.T, order=1, mode="nearest")
    step = np.linalg.solve(through[:3, :3], image.affine[:3, axis])
    return found[:, None] * step
