"""FSL's coordinates and transforms, and the house's: affines in RAS, displacements in LPS; and interfaces from one to the other.

FLIRT, FNIRT and their relatives count in scaled voxels: index times voxel size in mm, the first axis reversed where the
image's affine keeps handedness (a positive determinant). A FLIRT matrix takes points of the input to points of the
reference; a FNIRT field, on the reference's grid, takes them back: x of the input = x + field(x), both in scaled voxels
(Jenkinson & Smith 2001, Med Image Anal 5:143; Andersson et al. 2007, FMRIB technical report TR07JA2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from restresponse import grid
from restresponse.engines import EngineFailure, warps
from restresponse.engines.array_interfaces import ArrayInterface
from restresponse.engines.warp_interfaces import VOXEL_SIZE, NormalisationInput, displacements_of, write_warp

_FIELD = 2006  # NIfTI intent: FSL_FNIRT_DISPLACEMENT_FIELD, relative, in mm


def scaled_voxels(shape: Sequence[int], voxel_size: Sequence[float], affine: np.ndarray) -> np.ndarray:
    """Matrix (4, 4) from voxel indices to FSL's scaled voxels, in mm.

    Parameters
    ----------
    shape : (3,) voxels along each axis
    voxel_size : (3,) mm, as the header has it
    affine : (4, 4) array, voxel index to mm in RAS
    """
    matrix = np.diag([*np.asarray(voxel_size, float)[:3], 1.0])
    if np.linalg.det(np.asarray(affine, float)[:3, :3]) > 0:
        matrix[0, 3] = (shape[0] - 1) * matrix[0, 0]
        matrix[0, 0] *= -1
    return matrix


def frame_of(shape: Sequence[int], voxel_size: Sequence[float], affine: np.ndarray) -> np.ndarray:
    """Matrix (4, 4) from FSL's scaled voxels of an image to its world in RAS, mm; parameters as `scaled_voxels`."""
    return np.asarray(affine, float) @ np.linalg.inv(scaled_voxels(shape, voxel_size, affine))


def frame(path: Path | str) -> np.ndarray:
    """FSL's scaled voxels of an image to its world."""
    image = nib.load(path)
    return frame_of(image.shape, image.header.get_zooms(), image.affine)


def world_matrix(flirt: np.ndarray, source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """World of the source to world of the reference, RAS, of a FLIRT matrix; `source` and `reference` are frames."""
    return reference @ flirt @ np.linalg.inv(source)


def flirt_matrix(world: np.ndarray, source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The inverse of `world_matrix`."""
    return np.linalg.inv(reference) @ world @ source


def motion_matrices(stack: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Motion as `restresponse.engines.motion` has it, (n_scans, 4, 4), of MCFLIRT's matrices.

    MCFLIRT's matrices take each volume to the reference in scaled voxels; the house's take the reference to each volume
    in RAS. `frame` is that of the series.
    """
    return frame @ np.linalg.inv(stack) @ np.linalg.inv(frame)


def field_of_points(points: np.ndarray, affine: np.ndarray, source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """FNIRT's field for a grid of points: relative displacements in scaled voxels.

    Parameters
    ----------
    points : (n_x, n_y, n_z, 3) array, where each voxel of the reference's grid comes from, mm in RAS in the source's world
    affine : (4, 4) array, of the reference's grid
    source, reference : frames, (4, 4) arrays

    Returns
    -------
    (n_x, n_y, n_z, 3) float32 array
    """
    here = warps.world_of(warps.points_of(points.shape[:3], affine), np.linalg.inv(reference))
    there = warps.world_of(points.reshape(-1, 3), np.linalg.inv(source))
    return (there - here).reshape(points.shape).astype(np.float32)


def points_of_field(field: np.ndarray, affine: np.ndarray, source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The inverse of `field_of_points`, float64."""
    here = warps.world_of(warps.points_of(field.shape[:3], affine), np.linalg.inv(reference))
    return warps.world_of(here + field.reshape(-1, 3), source).reshape(field.shape)


def normalised_points(
    shape: tuple[int, int, int], affine: np.ndarray, matrix: np.ndarray, field: np.ndarray, field_affine: np.ndarray
) -> np.ndarray:
    """Where each voxel of a grid in MNI space lies in the T1w's world, mm in RAS, through a `Normalisation`.

    Parameters
    ----------
    shape, affine : the grid
    matrix : (4, 4) array, the normalisation's affine
    field, field_affine : displacements (n_x, n_y, n_z, 3) in mm in RAS and the affine of their grid

    Returns
    -------
    (*shape, 3) array
    """
    points = warps.points_of(shape, affine)
    same = field.shape[:3] == tuple(shape) and np.allclose(field_affine, affine)
    moved = points + (field.reshape(-1, 3) if same else warps.sample(field, field_affine, points))
    return warps.world_of(moved, matrix).reshape(*shape, 3)


def displacements_of_points(points: np.ndarray, affine: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The field (n_x, n_y, n_z, 3) in RAS that, before the affine `matrix`, gives `points`: inverse of `normalised_points`."""
    back = warps.world_of(points.reshape(-1, 3), np.linalg.inv(matrix))
    return (back - warps.points_of(points.shape[:3], affine)).reshape(points.shape).astype(np.float32)


def shift_sign(axis: int, affine: np.ndarray) -> int:
    """+1 where FSL counts a voxel axis as the file does, -1 where it reverses it."""
    return -1 if axis == 0 and np.linalg.det(np.asarray(affine, float)[:3, :3]) > 0 else 1


def direction(axis: int, sign: int, affine: np.ndarray) -> str:
    """`x`, `y-` …, as FUGUE and convertwarp name the direction that a shift goes in along a voxel axis of the file."""
    return "xyz"[axis] + ("" if sign * shift_sign(axis, affine) > 0 else "-")


class _FieldInput(NormalisationInput):
    voxel_size = traits.Float(mandatory=True, desc="of the grid, mm")
    source = File(mandatory=True, desc="image that the field leads to")
    onward = traits.Array(shape=(4, 4), mandatory=True, desc="mm in the T1w's world to mm in the source's")
    out_file = File(mandatory=True)


class Field(ArrayInterface):
    """FNIRT's field, on a grid in MNI space, of a `Normalisation` and what comes after it."""

    input_spec = _FieldInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        shape, affine = grid.grid(inputs.voxel_size)
        matrix = inputs.onward @ np.loadtxt(inputs.affine)
        points = normalised_points(shape, affine, matrix, *displacements_of(inputs))
        target = frame_of(shape, (inputs.voxel_size,) * 3, affine)
        image = nib.Nifti1Image(field_of_points(points, affine, frame(inputs.source), target), affine)
        image.header["intent_code"] = _FIELD
        image.to_filename(inputs.out_file)
        return {}


class _WarpOfFieldInput(BaseInterfaceInputSpec):
    in_file = File(desc="FNIRT's field on the 2 mm grid, the affine included; without it the warp is nowhere")
    source = File(mandatory=True, desc="T1w, to which the field leads")
    reference = File(mandatory=True, desc="template")
    matrix = traits.Array(shape=(4, 4), mandatory=True, desc="affine of the `Normalisation`")
    out_file = File(mandatory=True)


class WarpOfField(ArrayInterface):
    """The warp of a `Normalisation` of FNIRT's field; `EngineFailure` where it is not a number everywhere."""

    input_spec = _WarpOfFieldInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        shape, affine = grid.grid(VOXEL_SIZE)
        displacements = np.zeros((*shape, 3), np.float32)
        if isdefined(inputs.in_file):
            field = np.asarray(nib.load(inputs.in_file).dataobj, np.float32)
            points = points_of_field(field, affine, frame(inputs.source), frame(inputs.reference))
            displacements = displacements_of_points(points, affine, inputs.matrix)
        if not np.isfinite(displacements).all():
            raise EngineFailure("FNIRT's field is not a number everywhere: look at the T1w and its brain mask")
        write_warp(inputs.out_file, displacements, affine)
        return {}
