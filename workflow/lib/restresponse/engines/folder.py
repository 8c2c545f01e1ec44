"""What engines share: images in the job's working folder, and whether a failed program failed on the data or the machine did."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import grid
from restresponse.engines import Engine, EngineFailure, Normalisation, warps

_LEAST_DISK = 50e6  # bytes; a program that failed with less than this free failed because of the disk
_WARP_VOXEL = 2.0  # mm, of a `Normalisation`'s grid
_KILLED = ("Return code: -9", "Return code: 137", "Return code: -7", "Return code: 135", "bad_alloc")
_NOT_STARTED = ("Return code: 126", "Return code: 127", 'No command "')  # of a shell, of the loader, of nipype
_CRASHED = ("Return code: -11", "Return code: 139", "Return code: -6", "Return code: 134")


class InFolder(Engine):
    """An engine whose steps read and write images in its working folder."""

    def _name(self, path: Path) -> str:
        """The name of a file of the working folder; a file from elsewhere is an error of the program."""
        return str(Path(path).relative_to(self.folder))

    def _read(self, path: Path | str) -> np.ndarray:
        return np.asarray(nib.load(self.folder / path).dataobj, np.float32)

    def _write(self, name: str, data: np.ndarray, affine: np.ndarray) -> Path:
        image = nib.Nifti1Image(data, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(self.folder / name)
        return self.folder / name

    def _write_warp(self, name: str, field: np.ndarray, affine: np.ndarray) -> Path:
        """A field (n_x, n_y, n_z, 3) of displacements in RAS as `engines.Normalisation` has it."""
        image = nib.Nifti1Image(warps.displacements_of(field), affine)
        image.header.set_intent("vector")
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(self.folder / name)
        return self.folder / name

    def _displacements(self, normalisation: Normalisation) -> tuple[np.ndarray, np.ndarray]:
        """Displacements (n_x, n_y, n_z, 3) of a normalisation, in mm in RAS, and the affine of their grid."""
        if normalisation.warp is None:
            shape, affine = grid.grid(_WARP_VOXEL)
            return np.zeros((*shape, 3), np.float32), affine
        image = nib.load(normalisation.warp)
        return warps.field_of(np.asarray(image.dataobj, np.float32)), image.affine


def failure_of(program: str, said: str, words: str, folder: Path, *, killed: bool | None = None) -> Exception:
    """The error to raise where a program failed: the machine's (`MemoryError`, `OSError`) or the data's (`EngineFailure`).

    Parameters
    ----------
    program : its name for the message
    said : all that is known of its end; `killed` is read from it where it is not given
    words : its own last words
    folder : where it wrote
    """
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    marks = (*_KILLED, *_CRASHED) if limited else _KILLED  # under a limit of memory a program that gets none may crash
    if any(mark in said for mark in marks) if killed is None else killed:
        return MemoryError(f"{program} was killed or ran out of memory:\n{said}")
    if shutil.disk_usage(folder).free < _LEAST_DISK:
        return OSError(errno.ENOSPC, f"no space left where {program} writes", str(folder))
    if any(mark in said for mark in _NOT_STARTED):
        return OSError(
            f"{program} did not start; expected its program and the libraries it needs: install it again: {words}"
        )
    return EngineFailure(f"{program} failed: {words}")
