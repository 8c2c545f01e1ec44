"""What engines share: interfaces run in the job's working folder, and whether a failed program failed on the data or the machine did."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from restresponse.engines import Engine, EngineFailure
from restresponse.engines.array_interfaces import ArrayInterface

_LEAST_DISK = 50e6  # bytes; a program that failed with less than this free failed because of the disk
_KILLED = ("Return code: -9", "Return code: 137", "Return code: -7", "Return code: 135", "bad_alloc")
_NOT_STARTED = ("Return code: 126", "Return code: 127", 'No command "')  # of a shell, of the loader, of nipype
_CRASHED = ("Return code: -11", "Return code: 139", "Return code: -6", "Return code: 134")


class Header(NamedTuple):
    """Where an image's voxels lie: its shape, affine (4, 4) and voxel size (3,) in mm."""

    shape: tuple[int, ...]
    affine: np.ndarray
    voxel_size: np.ndarray


class InFolder(Engine):
    """An engine whose steps are nipype interfaces that run in its working folder.

    It reads headers, matrices and what interfaces say; voxels are read and written in interfaces alone.
    """

    def _name(self, path: Path) -> str:
        """The name of a file of the working folder; a file from elsewhere is an error of the program."""
        return str(Path(path).relative_to(self.folder))

    def _header(self, path: Path | str) -> Header:
        """The grid of an image of the folder."""
        image = nib.load(self.folder / path)
        return Header(image.shape, image.affine, np.array(image.header.get_zooms()[:3], float))

    def _found(self, interface: type[ArrayInterface], out_file: str | None = None, **inputs: Any) -> Any:
        """The outputs of one of the house's interfaces, run in the working folder."""
        names = {} if out_file is None else {"out_file": out_file}
        return interface(**names, **inputs).run(cwd=str(self.folder)).outputs

    def _made(self, interface: type[ArrayInterface], out_file: str, **inputs: Any) -> Path:
        """The image that one of the house's interfaces writes as `out_file`."""
        return Path(self._found(interface, out_file, **inputs).out_file)


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
