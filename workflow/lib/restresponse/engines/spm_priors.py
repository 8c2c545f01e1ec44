"""Tissue priors for SPM's unified segmentation in the template's space, in which atlas, group mask and other engines are.

SPM's own, TPM.nii, are of another space, some 2.6 mm away on average. The three tissues of the brain are the template's;
what a head has around it (bone, soft tissue, air), which the template lacks, is SPM's own, brought there once.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import grid
from restresponse.engines import greedy, programs, tissues, warps

VOXEL_SIZE = 1.0  # mm, as the template has
SHARPNESS = 2.5  # power of the template's maps, which the average over people blurs: else fluid takes the cortex
FLOOR = 1e-3  # of each class, so that a misplaced map cannot forbid it
_REGISTRATION_VOXEL = 2.0  # mm
_CONTRAST = (0.6, 1.0)  # of GM and WM in the images that are registered: the fluid around the brain is in SPM's alone


def write(path: Path, own: Path) -> Path:
    """Write the six classes of `own`, SPM's TPM.nii, in the template's space: (181, 217, 181, 6) float32 that sum to 1.

    The registration leaves its files in the folder of `path`, which must be a job's own.

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
    image = nib.as_closest_canonical(nib.load(own))
    classes = np.asarray(image.dataobj, np.float32)
    places = _places(path.parent, _brain(_REGISTRATION_VOXEL, 1)[..., :2], classes[..., :2], image.affine)
    shape, affine = grid.grid(VOXEL_SIZE)
    made = composed(_brain(VOXEL_SIZE, SHARPNESS), _sampled(classes[..., 3:], image.affine, places, shape))
    out = nib.Nifti1Image(made, affine)
    out.header.set_xyzt_units("mm", "sec")
    out.to_filename(path)
    return path


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


def _places(folder: Path, brain: np.ndarray, own: np.ndarray, own_affine: np.ndarray) -> np.ndarray:
    """Where the points of the grid lie in the space of SPM's maps, (n, 3) mm, by an affine between the two brains.

    A warp that the brain alone determines goes astray around it, where it would be needed: in a test it missed by 2.6 mm
    what the affine missed by 0.6 mm.
    """
    fine = grid.grid(_REGISTRATION_VOXEL)[1]
    for name, maps, affine in (("priors_fixed.nii", brain, fine), ("priors_moving.nii", own, own_affine)):
        nib.Nifti1Image(maps @ np.array(_CONTRAST, np.float32), affine).to_filename(folder / name)
    greedy.LinearRegistration(
        fixed="priors_fixed.nii",
        moving="priors_moving.nii",
        out_file="priors.mat",
        degrees_of_freedom=12,
        metric="NCC 4x4x4",
        iterations="100x50x20",
    ).run(cwd=str(folder))
    shape, affine = grid.grid(VOXEL_SIZE)
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    return warps.world_of(points, np.loadtxt(folder / "priors.mat"))


def _sampled(maps: np.ndarray, affine: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Maps (…, n_maps) at places (n, 3) in mm, linear; beyond the edge, the edge's."""
    from scipy import ndimage

    index = warps.world_of(places, np.linalg.inv(affine)).T
    found = [ndimage.map_coordinates(maps[..., k], index, order=1, mode="nearest") for k in range(maps.shape[-1])]
    return np.stack(found, axis=-1).reshape(*shape, -1)
