"""SPM's deformations and grids, and the house's: the same transform written in two ways.

SPM's y_*.nii holds for each voxel of a grid in MNI space the position in mm in the T1w's world; a `Normalisation` has an
affine and the displacements before it. SPM writes grids whose first axis runs from right to left.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import grid
from restresponse.engines import warps

VOXEL_SIZE = 2  # mm, of the grid of a `Normalisation`


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
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), fine)
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


def write_warp(path: Path, field: np.ndarray) -> Path:
    """Write displacements (91, 109, 91, 3) in RAS as the warp of a `Normalisation`."""
    return _write_vectors(path, warps.displacements_of(field))


def write_spm(path: Path, affine: Path, warp: Path | None) -> Path:
    """Write the affine and the warp of a `Normalisation` as a deformation of SPM's."""
    shape, fine = grid.grid(VOXEL_SIZE)
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), fine)
    if warp is not None:
        points += warps.field_of(np.asarray(nib.load(warp).dataobj, np.float32)).reshape(-1, 3)
    positions = warps.world_of(points, np.loadtxt(affine))
    return _write_vectors(path, positions.reshape(*shape, 1, 3).astype(np.float32))


def onto_grid(path: Path, voxel_size: float) -> None:
    """Bring an image that SPM wrote on the grid's bounding box to the grid's own axes and shape; NaN becomes 0.

    Where the voxel size does not divide the box, SPM's grid may have one voxel more.
    """
    shape, affine = grid.grid(voxel_size)
    image = nib.as_closest_canonical(nib.load(path))
    first = np.rint(warps.world_of(affine[None, :3, 3], np.linalg.inv(image.affine))[0]).astype(int)
    window = tuple(slice(start, start + size) for start, size in zip(first, shape, strict=True))
    data = np.nan_to_num(np.asarray(image.dataobj[window], np.float32))
    placed = image.affine.copy()
    placed[:3, 3] = warps.world_of(first[None].astype(float), image.affine)[0]
    if first.min() < 0 or data.shape[:3] != shape or not np.allclose(placed, affine, atol=1e-3):
        raise ValueError(
            f"SPM wrote {path.name} on the grid {image.shape[:3]}, {image.affine.tolist()}; expected {shape}"
        )
    out = nib.Nifti1Image(data, affine)
    out.header.set_xyzt_units("mm", "sec")
    out.to_filename(path)


def carried(mask: np.ndarray, through: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask on another grid, linear; `through` takes that grid's voxels to the mask's."""
    from scipy import ndimage

    return ndimage.affine_transform(
        np.asarray(mask, np.float32), through[:3, :3], through[:3, 3], output_shape=shape[:3], order=1
    )


def _write_vectors(path: Path, vectors: np.ndarray) -> Path:
    image = nib.Nifti1Image(vectors, grid.grid(VOXEL_SIZE)[1])
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path
