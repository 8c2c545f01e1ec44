"""SPM's deformations and grids, and the house's: the same transform written in two ways, and interfaces from one to the other.

SPM's y_*.nii holds for each voxel of a grid in MNI space the position in mm in the T1w's world; a `Normalisation` has an
affine and the displacements before it. SPM writes grids whose first axis runs from right to left, takes phase encoding to
be along the second, and reads where the volumes of a series lie from a file beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from restresponse import grid
from restresponse.engines import warps
from restresponse.engines.array_interfaces import ArrayInterface, FileOutput, read, write
from restresponse.engines.warp_interfaces import (
    VOXEL_SIZE,
    NormalisationInput,
    displacements_of,
    write_vectors,
    write_warp,
)

_FROM_ONE = np.array([[1.0, 0, 0, -1], [0, 1, 0, -1], [0, 0, 1, -1], [0, 0, 0, 1]])  # SPM's first voxel is 1 1 1


def from_spm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A deformation of SPM's as an affine and displacements on the 2 mm grid.

    Parameters
    ----------
    path : y_*.nii, (n_x, n_y, n_z, 1, 3), mm

    Returns
    -------
    affine : (4, 4) array, the one that is nearest to the deformation inside the template's brain
    field : (91, 109, 91, 3) float32 array, displacements in mm in RAS, applied before the affine
    """
    image = nib.load(path)
    shape, fine = grid.grid(VOXEL_SIZE)
    points = warps.points_of(shape, fine)
    positions = np.asarray(image.dataobj, np.float32)[..., 0, :]
    known = np.isfinite(positions).all(axis=-1)
    found = warps.sample(np.where(known[..., None], positions, 0), image.affine, points)
    inside = warps.sample(known[..., None].astype(np.float32).repeat(3, -1), image.affine, points)[:, 0] > 0.999
    brain = inside & (grid.template_image("brain", VOXEL_SIZE) >= 0.5).ravel()
    homogeneous = np.column_stack([points, np.ones(len(points))])
    affine = np.eye(4)
    affine[:3] = np.linalg.lstsq(homogeneous[brain], found[brain], rcond=None)[0].T
    field = warps.world_of(found, np.linalg.inv(affine)) - points
    field[~inside] = 0
    return affine, field.reshape(*shape, 3).astype(np.float32)


class _WarpInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="SPM's y_*.nii")
    out_file = File(mandatory=True, desc="warp of a `Normalisation`")


class _WarpOutput(FileOutput):
    matrix = traits.Array(shape=(4, 4), desc="affine of the `Normalisation`")


class WarpOfDeformation(ArrayInterface):
    """A deformation of SPM's as the parts of a `Normalisation`, see `from_spm`."""

    input_spec, output_spec = _WarpInput, _WarpOutput

    def compute(self) -> dict[str, Any]:
        matrix, field = from_spm(Path(self.inputs.in_file))
        write_warp(self.inputs.out_file, field, grid.grid(VOXEL_SIZE)[1])
        return {"matrix": matrix}


class _DeformationInput(NormalisationInput):
    out_file = File(mandatory=True, desc="SPM's y_*.nii")


class Deformation(ArrayInterface):
    """A `Normalisation` as a deformation of SPM's."""

    input_spec = _DeformationInput

    def compute(self) -> dict[str, Any]:
        shape, fine = grid.grid(VOXEL_SIZE)
        points = warps.points_of(shape, fine) + displacements_of(self.inputs)[0].reshape(-1, 3)
        positions = warps.world_of(points, np.loadtxt(self.inputs.affine))
        write_vectors(self.inputs.out_file, positions.reshape(*shape, 1, 3).astype(np.float32), fine)
        return {}


class _OntoGridInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="written by SPM on the grid's bounding box")
    voxel_size = traits.Float(mandatory=True, desc="mm")
    out_file = File(mandatory=True)


class OntoGrid(ArrayInterface):
    """An image of SPM's on the grid's own axes and shape; 0 where SPM has no value.

    Where the voxel size does not divide the box, SPM's grid may have one voxel more.
    """

    input_spec = _OntoGridInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        shape, affine = grid.grid(inputs.voxel_size)
        image = nib.as_closest_canonical(nib.load(inputs.in_file))
        first = np.rint(warps.world_of(affine[None, :3, 3], np.linalg.inv(image.affine))[0]).astype(int)
        window = tuple(slice(start, start + size) for start, size in zip(first, shape, strict=True))
        data = np.nan_to_num(np.asarray(image.dataobj[window], np.float32))
        placed = image.affine.copy()
        placed[:3, 3] = warps.world_of(first[None].astype(float), image.affine)[0]
        if first.min() < 0 or data.shape[:3] != shape or not np.allclose(placed, affine, atol=1e-3):
            raise ValueError(
                f"SPM wrote {Path(inputs.in_file).name} on the grid {image.shape[:3]}, {image.affine.tolist()}; expected {shape}"
            )
        write(inputs.out_file, data, affine)
        return {}


class _AxesExchangedInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True)
    axis = traits.Range(0, 2, mandatory=True, desc="voxel axis that takes the place of the second, and the second its")
    like = File(desc="image whose affine the copy takes; its own, exchanged likewise, where it is not given")
    filled = traits.Bool(False, usedefault=True, desc="0 for what is not a number")
    out_file = File(mandatory=True)


class AxesExchanged(ArrayInterface):
    """A copy, float32, with two of its voxel axes exchanged: SPM takes phase encoding to be along the second."""

    input_spec = _AxesExchangedInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        image = nib.load(inputs.in_file)
        order = [0, 1, 2, 3]
        order[1], order[inputs.axis] = order[inputs.axis], order[1]
        affine = nib.load(inputs.like).affine if isdefined(inputs.like) else image.affine[:, order]
        data = read(inputs.in_file) if inputs.filled else np.asarray(image.dataobj, np.float32)
        write(inputs.out_file, np.swapaxes(data, 1, inputs.axis), affine)
        return {}


class _PositionsInput(BaseInterfaceInputSpec):
    affines = traits.Array(shape=(None, 4, 4), mandatory=True, desc="of each volume, voxel from 0 to mm")
    out_file = File(mandatory=True, desc="beside the image, of its name, .mat")


class Positions(ArrayInterface):
    """SPM's file of where each volume of a series lies."""

    input_spec = _PositionsInput

    def compute(self) -> dict[str, Any]:
        from scipy.io import savemat

        savemat(self.inputs.out_file, {"mat": np.moveaxis(self.inputs.affines @ _FROM_ONE, 0, -1)})
        return {}
