"""Tissue priors for SPM's unified segmentation in the template's space, in which atlas, group mask and other engines are.

SPM's own, TPM.nii, are of another space, some 2.6 mm away on average. The three tissues of the brain are the template's;
what a head has around it (bone, soft tissue, air), which the template lacks, is SPM's own, brought there once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined

from restresponse import grid
from restresponse.engines import greedy, programs, tissues, warps
from restresponse.engines.array_interfaces import ArrayInterface, write

VOXEL_SIZE = 1.0  # mm, as the template has
SHARPNESS = 2.5  # power of the template's maps, which the average over people blurs: else fluid takes the cortex
FLOOR = 1e-3  # of each class, so that a misplaced map cannot forbid it
_REGISTRATION_VOXEL = 2.0  # mm
_CONTRAST = (0.6, 1.0)  # of GM and WM in the images that are registered: the fluid around the brain is in SPM's alone


def make(path: Path, own: Path) -> Path:
    """Write the six classes of `own`, SPM's TPM.nii, in the template's space: (181, 217, 181, 6) float32 that sum to 1.

    What is around the brain is brought there by an affine between the two brains: a warp that the brain alone determines
    goes astray around it, where it would be needed; in a test it missed by 2.6 mm what the affine missed by 0.6 mm. The
    registration leaves its files in the folder of `path`, which must be a job's own; both are whole paths.

    Raises
    ------
    OSError
        The maps are not SPM's: the machine is set up wrongly, and no scan is to blame.
    """
    if found := programs.wrong_maps(own):
        raise OSError(
            f"the tissue maps of the SPM that engines.spm.command runs are not SPM's: TPM.nii {found}; expected {programs.CLASSES} "
            "classes, one a volume: restore SPM's own file, or name a folder of SPM that has it in engines.spm.folder"
        )
    brains = {"fixed": "priors_fixed.nii", "moving": "priors_moving.nii"}
    steps = (
        BrainContrast(out_file=brains["fixed"]),
        BrainContrast(in_file=own, out_file=brains["moving"]),
        registration(out_file="priors.mat", **brains),
        Priors(in_file=own, matrix="priors.mat", out_file=path.name),
    )
    for step in steps:
        step.run(cwd=str(path.parent))
    return path


def registration(**files: str) -> greedy.LinearRegistration:
    """The affine between two brains of `BrainContrast`, `fixed` and `moving`, into `out_file`."""
    return greedy.LinearRegistration(degrees_of_freedom=12, metric="NCC 4x4x4", iterations="100x50x20", **files)


class _BrainContrastInput(BaseInterfaceInputSpec):
    in_file = File(desc="tissue maps, the first two GM and WM; the template's where it is not given")
    out_file = File(mandatory=True)


class BrainContrast(ArrayInterface):
    """A brain as bright as its tissues' shares tell, to register one set of tissue maps to another."""

    input_spec = _BrainContrastInput

    def compute(self) -> dict[str, Any]:
        if isdefined(self.inputs.in_file):
            classes, affine = _classes(self.inputs.in_file)
        else:
            classes, affine = _brain(_REGISTRATION_VOXEL, 1), grid.grid(_REGISTRATION_VOXEL)[1]
        nib.Nifti1Image(classes[..., :2] @ np.array(_CONTRAST, np.float32), affine).to_filename(self.inputs.out_file)
        return {}


class _PriorsInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="SPM's TPM.nii")
    matrix = File(mandatory=True, desc="text, (4, 4): mm of the template to mm of SPM's maps")
    out_file = File(mandatory=True)


class Priors(ArrayInterface):
    """Six classes in the template's space: the brain's are the template's, the others SPM's."""

    input_spec = _PriorsInput

    def compute(self) -> dict[str, Any]:
        classes, own = _classes(self.inputs.in_file)
        shape, affine = grid.grid(VOXEL_SIZE)
        places = warps.world_of(warps.points_of(shape, affine), np.loadtxt(self.inputs.matrix))
        made = composed(_brain(VOXEL_SIZE, SHARPNESS), _sampled(classes[..., 3:], own, places, shape))
        write(self.inputs.out_file, made, affine)
        return {}


def composed(brain: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Six classes that sum to 1, none of them 0: the brain's three, and what they leave in the proportions of `around`.

    Parameters
    ----------
    brain : (n_x, n_y, n_z, 3), shares of GM, WM and CSF
    around : (n_x, n_y, n_z, 3), of bone, soft tissue and air
    """
    rest = np.clip(1 - brain.sum(axis=-1, keepdims=True), 0, 1)
    parts = np.clip(around, 0, 1) + 1e-6
    parts *= rest / parts.sum(axis=-1, keepdims=True)
    whole = np.concatenate([np.clip(brain, 0, 1), parts], axis=-1)
    whole = whole / whole.sum(axis=-1, keepdims=True) + FLOOR
    return (whole / whole.sum(axis=-1, keepdims=True)).astype(np.float32)


def _brain(voxel_size: float, sharpness: float) -> np.ndarray:
    """The template's GM, WM and CSF on the grid, sharpened."""
    maps, affine = grid.template_maps(("GM", "WM", "brain"))
    shares = np.stack(list(tissues.template_priors(*maps).values())) ** sharpness
    shares *= maps[2] / np.maximum(shares.sum(axis=0), 1e-6)
    return np.stack([grid.resample(share, affine, *grid.grid(voxel_size)) for share in shares], axis=-1)


def _classes(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Tissue maps (n_x, n_y, n_z, n_maps), float32, in RAS order, and their affine."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj, np.float32), image.affine


def _sampled(maps: np.ndarray, affine: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Maps (…, n_maps) at places (n, 3) in mm, linear; beyond the edge, the edge's."""
    from scipy import ndimage

    index = warps.world_of(places, np.linalg.inv(affine)).T
    found = [ndimage.map_coordinates(maps[..., k], index, order=1, mode="nearest") for k in range(maps.shape[-1])]
    return np.stack(found, axis=-1).reshape(*shape, -1)
