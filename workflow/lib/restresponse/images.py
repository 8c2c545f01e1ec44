"""Reading the series of a scan, as stored or inside a mask, without a copy too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import DamagedFile, InputError
from restresponse.files import read_table, whole

_VOLUMES = 8  # read at a time


def read_mask(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Mask (bool, `(n_x, n_y, n_z)`) and affine (4, 4) of a mask image."""
    import nibabel as nib

    with whole(path):
        image = nib.load(path)
        return np.asarray(image.dataobj) > 0, image.affine


def read_series(path: str | Path) -> tuple[np.ndarray, float, float]:
    """A 4D image as stored (n_x, n_y, n_z, n_scans), with the slope and the intercept that make its values."""
    import nibabel as nib

    with whole(path):
        proxy = nib.load(path).dataobj
        return np.asanyarray(proxy.get_unscaled()), float(proxy.slope), float(proxy.inter)


def masked_series(path: str | Path, mask: np.ndarray) -> np.ndarray:
    """Series of a 4D image inside `mask`, `(n_scans, n_voxels)` float32 in the mask's C order; not finite values become 0.

    Raises `InputError` where the grid is not the mask's.
    """
    return finite_series(path, mask)[0]


def finite_series(path: str | Path, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The series of `masked_series` and which voxels had a value that was not finite, `(n_voxels,)` bool."""
    import nibabel as nib

    with whole(path):
        image = nib.load(path, keep_file_open=True)  # a compressed file is read on from where it is, not from its start
    if image.shape[:3] != mask.shape or len(image.shape) != 4:
        raise InputError(
            f"{path} has shape {image.shape}; expected {mask.shape} and time: it was made on another grid, "
            "remove it and run again"
        )
    places = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    data = np.empty((image.shape[3], len(places)), np.float32)
    with whole(path):
        # Some volumes at a time: whole, the image would be several times what is inside the mask.
        for start in range(0, len(data), _VOLUMES):
            volumes = np.asarray(image.dataobj[..., start : start + _VOLUMES], dtype=np.float32)
            flat = volumes.reshape(-1, volumes.shape[3], order="F").T
            flat.take(places, axis=1, out=data[start : start + len(flat)], mode="clip")
    # The sum over time is finite only where every value is, and needs no array of the data's size.
    faulty = ~np.isfinite(data.sum(axis=0, dtype=np.float64))
    if faulty.any():
        data[:, faulty] = np.nan_to_num(data[:, faulty], nan=0.0, posinf=0.0, neginf=0.0)
    return data, faulty


def included_scans(inclusion: str | Path, scans: Mapping[str, str | Path] | Sequence[str]) -> list[str]:
    """The scans among `scans` that the inclusion table keeps, in the order given; one that it does not list is damage."""
    table = read_table(inclusion, text_columns=("scan", "participant_id", "reason"))
    unlisted = sorted(set(scans) - set(table["scan"]))
    if unlisted:
        raise DamagedFile(inclusion, f"{len(unlisted)} scans are not in it, e.g. {unlisted[0]}")
    kept = set(table.loc[table["included"].astype(str).str.lower() == "true", "scan"])
    return [scan for scan in scans if scan in kept]
