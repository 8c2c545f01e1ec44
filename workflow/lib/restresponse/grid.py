"""CONN's MNI152 grid at any voxel size, and the template's brain on it.

The template is nilearn's MNI152 (2009a symmetric, skull-stripped, 1 mm), which its package carries: nothing is downloaded.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import InputError

BOUNDING_BOX = np.array([[-90.0, -126.0, -72.0], [90.0, 90.0, 108.0]])  # mm, CONN's and SPM's


def grid(voxel_size: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine of CONN's grid: 91 x 109 x 91 at 2 mm, 46 x 55 x 46 at 4 mm.

    Parameters
    ----------
    voxel_size : float
        Edge of an isotropic voxel in mm, 1 to 12.

    Returns
    -------
    shape : (3,) tuple of int
    affine : (4, 4) array, voxel index to mm
    """
    if not 1 <= voxel_size <= 12:
        raise InputError(f"voxel_size is {voxel_size} mm; expected 1 to 12 mm: set functional.voxel_size accordingly")
    extent = BOUNDING_BOX[1] - BOUNDING_BOX[0]
    shape = tuple(int(n) for n in np.ceil(np.round(extent / voxel_size, 6)).astype(int) + 1)
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = BOUNDING_BOX[0]
    return shape, affine


def template_image(name: str, voxel_size: float) -> np.ndarray:
    """A template map (`"T1w"`, `"GM"`, `"WM"` or `"brain"`) on the grid: local means, float32 of `shape`; brain is 0 to 1."""
    return _template_image(name, float(voxel_size)).copy()


@functools.lru_cache(maxsize=16)
def _template_image(name: str, voxel_size: float) -> np.ndarray:
    maps, affine = template_maps((name,))
    return resample(maps[0], affine, *grid(voxel_size))


def template_maps(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Template maps (n_names, n_x, n_y, n_z) as distributed, at 1 mm, greatest value 1, and their affine; see `template_image`."""
    import nibabel as nib

    maps = []
    for name in names:
        file = "t1" if name == "brain" else {"T1w": "t1", "GM": "gm", "WM": "wm"}[name]
        image = nib.load(_template_folder() / f"mni_icbm152_{file}_tal_nlin_sym_09a_converted.nii.gz")
        data = np.asarray(image.dataobj.get_unscaled()).astype(np.float32)  # bytes in RAS order, of no offset
        data /= data.max()
        # 0.2 is nilearn's own threshold of its brain mask
        maps.append((data > 0.2).astype(np.float32) if name == "brain" else data)
    return np.stack(maps), image.affine


def _template_folder() -> Path:
    """The folder of nilearn's templates, found without importing nilearn: that import takes longer than the reading."""
    found = importlib.util.find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("nilearn is not installed; its MNI152 template is needed: see envs/requirements.txt")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data"


def brain_mask(voxel_size: float) -> np.ndarray:
    """The template's brain on the grid, bool of `shape`: voxels at least half inside. The same for every cohort."""
    return template_image("brain", voxel_size) >= 0.5


def resample(
    data: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], target_affine: np.ndarray
) -> np.ndarray:
    """Resample a 3D image between two grids of parallel axes: linear, on a local mean where the target is coarser.

    Linear in the data, so it commutes with sums of maps. Outside the image is 0.
    """
    from scipy import ndimage

    source = np.asarray(data, np.float32)
    ratio = np.abs(np.diag(target_affine)[:3] / np.diag(affine)[:3])
    widths = [max(1, 2 * int(np.floor(r / 2)) + 1) if r > 1 else 1 for r in ratio]
    for axis, width in enumerate(widths):
        if width > 1:
            source = ndimage.uniform_filter1d(source, width, axis=axis, mode="constant")
    mapping = np.linalg.inv(affine) @ target_affine
    return ndimage.affine_transform(
        source, np.diag(mapping)[:3], mapping[:3, 3], output_shape=shape, order=1, mode="constant"
    )
