"""From SPM's MNI space to the house's: the space of SPM's tissue maps is not that of the template the networks lie on.

Both are averages of many heads, of other heads and made in another way; inside the brain the same structure lies 2.6 mm apart
on average (95 %: 5.2 mm). SPM's maps are registered to the template's, and SPM's deformation is continued by that.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import grid
from restresponse.engines import greedy, masks, warps

_VOXEL_SIZE = 2  # mm
_MARGIN = 5  # voxels kept around the template's brain
_GREY = 0.7  # of white matter's brightness, in the image that is made of both maps


def places_in_spm(maps: Path, folder: Path) -> np.ndarray:
    """Where each voxel of the 2 mm grid lies in SPM's space: (91, 109, 91, 3) float32, mm in RAS.

    Parameters
    ----------
    maps : SPM's tissue maps, TPM.nii, (n_x, n_y, n_z, 6): grey matter and white matter first
    folder : where the registration writes its files
    """
    theirs = nib.load(maps)
    grey, white = (np.asarray(theirs.dataobj[..., index], np.float32) for index in (0, 1))
    _write(folder / "spm_maps.nii", _GREY * grey + white, theirs.affine)
    shape, affine = grid.grid(_VOXEL_SIZE)
    window = masks.window(grid.brain_mask(_VOXEL_SIZE), _MARGIN)
    ours = _GREY * grid.template_image("GM", _VOXEL_SIZE) + grid.template_image("WM", _VOXEL_SIZE)
    _write(folder / "template_maps.nii", ours[window], masks.cornered(affine, window))
    images = {"fixed": "template_maps.nii", "moving": "spm_maps.nii"}
    greedy.LinearRegistration(
        **images, out_file="spm_space.mat", degrees_of_freedom=12, metric="NCC 4x4x4", iterations="60x30x0"
    ).run(cwd=str(folder))
    greedy.DeformableRegistration(**images, initial="spm_space.mat", out_file="spm_space.nii").run(cwd=str(folder))
    field = warps.field_of(np.asarray(nib.load(folder / "spm_space.nii").dataobj, np.float32))
    field = np.pad(
        field, [*((part.start, n - part.stop) for part, n in zip(window, shape, strict=True)), (0, 0)], mode="edge"
    )
    points = warps.world_of(np.indices(shape).reshape(3, -1).T.astype(float), affine) + field.reshape(-1, 3)
    return warps.world_of(points, np.loadtxt(folder / "spm_space.mat")).reshape(*shape, 3).astype(np.float32)


def _write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    nib.Nifti1Image(data.astype(np.float32), affine).to_filename(path)
