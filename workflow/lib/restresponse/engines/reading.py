"""Reading raw images with every way in which their data can be bad named, and the record of what became of them."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.engines import Engine, EngineFailure, engine
from restresponse.errors import InputError
from restresponse.files import write_json, write_text


def read_raw(path: str | Path, dimensions: int, what: str) -> tuple[np.ndarray, Any]:
    """Voxels and nibabel image of a raw scan.

    Parameters
    ----------
    path : NIfTI file
    dimensions : 3 or 4; a 4D image of one volume passes as 3D
    what : name for messages, `T1w` or `BOLD`

    Returns
    -------
    data : (n_x, n_y, n_z) or (n_x, n_y, n_z, n_scans) float32 array, finite
    image : nibabel image

    Raises
    ------
    InputError
        Truncated or unreadable, of another dimension, all NaN, constant, or with an affine that is no affine.
    """
    import nibabel as nib

    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (
        EOFError,
        zlib.error,
        ValueError,
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
    ) as error:
        raise InputError(_unreadable(path, what, error)) from error
    except OSError as error:
        if error.errno is not None:  # the disk's or the system's failure, not the file's
            raise
        raise InputError(_unreadable(path, what, error)) from error
    if dimensions == 3 and data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != dimensions or min(data.shape[:3]) < 4:
        raise InputError(
            f"the {what} {path} has shape {image.shape}; expected {dimensions} dimensions and at least 4 voxels along each "
            "axis: give the right file, or set the scan aside with dataset.set_aside"
        )
    if dimensions == 4 and data.shape[3] < 4:
        raise InputError(
            f"the {what} {path} has {data.shape[3]} volumes; expected at least 4: set it aside with dataset.set_aside"
        )
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-6:
        raise InputError(f"the {what} {path} has an affine without volume in its header: correct the header")
    finite = np.isfinite(data)
    if not finite.any():
        raise InputError(f"the {what} {path} is NaN everywhere: export it again from the scanner's images")
    if not finite.all():
        data = np.where(finite, data, np.float32(0))
    if data.min() == data.max():
        raise InputError(
            f"the {what} {path} is constant ({data.min():g} everywhere): export it again from the scanner's images"
        )
    return data, image


@contextmanager
def processing(
    name: str, settings: Mapping[str, Any], outputs: Mapping[str, str | Path], further: Mapping[str, Any]
) -> Iterator[tuple[Engine, dict[str, Any]]]:
    """A job's working folder, engine and record; data that fail end in a record that says so and in empty outputs.

    Parameters
    ----------
    name : the engine's name
    settings : the engine's own part of the config's section `engines`
    outputs : paths of the job's outputs; `record` is the JSON of what was done
    further : facts for the record

    Yields
    ------
    engine : works in a folder beside the outputs, removed at the end
    facts : dict to which the job adds `quality` and other facts for the record
    """
    from restresponse.provenance import versions

    target = Path(outputs["record"]).parent
    target.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(target)
    folder = Path(tempfile.mkdtemp(prefix=f".work-{platform.node()}-{os.getpid()}-", dir=target)).resolve()
    facts: dict[str, Any] = {}
    try:
        works = engine(name, folder, settings)
        content = {"status": "done", "reason": None, "engine": name, **further}
        try:
            yield works, facts
        except (InputError, EngineFailure) as error:
            content |= {"status": "failed", "reason": str(error)}
            print(f"failed: {error}")
            for key, path in outputs.items():
                if key != "record":
                    write_text(path, "")
        methods = [step["method"] for step in works.steps]
        content |= {"steps": works.steps, "methods": methods, **facts, "versions": versions()}
        write_json(outputs["record"], content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_abandoned(target: Path) -> None:
    """Remove working folders of killed jobs; one whose process lives, or ran on another machine, is left alone."""
    start = f".work-{platform.node()}-"
    for folder in target.glob(f"{start}*"):
        try:
            os.kill(int(folder.name.removeprefix(start).split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:  # alive, another user's
            continue


def _unreadable(path: str | Path, what: str, error: Exception) -> str:
    return (
        f"the {what} {path} cannot be read to its end ({type(error).__name__}: {' '.join(str(error).split())[:160]}); expected "
        "a whole NIfTI image: copy it again, or set the scan aside with dataset.set_aside"
    )
