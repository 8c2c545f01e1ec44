"""Reading raw images with every way in which their data can be bad named, and the record of what became of them."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from restresponse.engines import Engine, EngineFailure, engine
from restresponse.errors import InputError
from restresponse.files import write_json, write_text

_FORMS_APART = 1.0  # mm; less is rounding: a qform cannot hold shears
_FORMS_TURNED = 30.0  # degrees; more is no registration of a head to another of its images, but another orientation
_SIZES_APART = 0.02  # of a voxel's edge
_SHEAR = 0.9e-4  # in what unit axes times their transpose differ from the identity; ITK, greedy's library, reads no image from 1e-4 on


def read_raw(
    path: str | Path, dimensions: int, what: str, content: Literal["acquired", "resampled", "mask"] = "acquired"
) -> tuple[np.ndarray, Any]:
    """Voxels and nibabel image of a scan.

    Parameters
    ----------
    path : NIfTI file
    dimensions : 3 or 4; a 4D image of one volume passes as 3D
    what : name for messages, `T1w` or `BOLD`
    content : of an image that was resampled since it was acquired, the field of view may end in another slice in each volume; a
        mask may be the same everywhere and have gaps

    Returns
    -------
    data : (n_x, n_y, n_z) or (n_x, n_y, n_z, n_scans) float32 array, finite
    image : nibabel image

    Raises
    ------
    InputError
        Truncated or unreadable, of another dimension, all NaN, constant, with empty slices among others, with an affine that
        is no affine, or with a qform that contradicts the sform in size or in left and right.
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
    if data.ndim == 3 and dimensions == 4:
        raise InputError(
            f"the {what} {path} is a single volume, of shape {image.shape}; expected 4 dimensions: give the right file, or set the "
            "scan aside with dataset.set_aside"
        )
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
    _check_forms(image, path, what)
    finite = np.isfinite(data)
    if not finite.any():
        raise InputError(f"the {what} {path} is NaN everywhere: export it again from the scanner's images")
    if not finite.all():
        data = np.where(finite, data, np.float32(0))
    if content == "mask":
        return data, image
    if data.min() == data.max():
        raise InputError(
            f"the {what} {path} is constant ({data.min():g} everywhere): export it again from the scanner's images"
        )
    _check_slices(data, path, what, content == "acquired")
    return data, image


def check_axes(image: Any, path: str | Path, what: str) -> None:
    """Raise `InputError` where the axes of a raw image's voxels are not at right angles; arguments as in `read_raw`.

    No scanner measures so, greedy's library refuses to read it, and what is a rotation between two images no longer is one.
    """
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.abs(axes @ axes.T - np.eye(3)).max() < _SHEAR:
        return
    off = float(np.rad2deg(np.arcsin(np.abs(axes.T @ axes - np.eye(3)).max())))
    remedy = "convert the image again from the scanner's, or restore the header from the original"
    if image.get_qform(coded=True)[1]:  # which can be of right angles alone
        remedy = f"its qform has right angles: set sform_code in the header to 0 so that the qform counts, or {remedy}"
    raise InputError(
        f"the sform in the header of the {what} {path} is sheared: the axes of its voxels are up to {off:.2g} degrees off right angles; "
        f"expected right angles, as every scanner has them (a program may have written an affine registration there): {remedy}"
    )


def header_notes(image: Any, path: str | Path, what: str) -> list[str]:
    """What a user should know of a raw image's header though it can be read: one sentence each; arguments as in `read_raw`."""
    if not any(form(coded=True)[1] for form in (image.get_sform, image.get_qform)):
        return [
            f"the header of the {what} {Path(path).name} does not say how the image lies (sform_code and qform_code are 0): its axes were "
            "taken to run from right to left, from back to front and from bottom to top, so that left and right may be exchanged: "
            "convert it again from the scanner's images"
        ]
    apart = _forms_apart(image)
    if apart is None or apart < _FORMS_APART:
        return []
    forms, turned = f"the sform and the qform in the header of the {what} {Path(path).name}", _forms_turned(image)
    if turned > _FORMS_TURNED:
        return [
            f"{forms} differ by a rotation of {turned:.0f} degrees: the image may lie upside down, or left and right may be "
            "exchanged; the sform was used: look at the image beside the scanner's own, and if the sform is wrong, convert it "
            "again from the scanner's images, or set sform_code in its header to 0 so that the qform counts"
        ]
    return [
        f"{forms} place it up to {apart:.1f} mm apart; the sform was used: if it is not the scanner's (a program may have "
        "written a registration there), restore it from the original"
    ]


def _forms_apart(image: Any) -> float | None:
    """How far apart sform and qform place any corner of the image, mm; None where the header has not both."""
    sform, qform = (form(coded=True)[0] for form in (image.get_sform, image.get_qform))
    if sform is None or qform is None:
        return None
    ends = [(0, length - 1) for length in image.shape[:3]]
    corners = np.array([[*corner, 1] for corner in itertools.product(*ends)], float).T
    return float(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max())


def _forms_turned(image: Any) -> float:
    """By how many degrees sform and qform, of one size and handedness, turn the image against each other."""
    u, _, v = np.linalg.svd(image.get_sform()[:3, :3] @ np.linalg.inv(image.get_qform()[:3, :3]))
    return float(np.rad2deg(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1))))


def _check_forms(image: Any, path: str | Path, what: str) -> None:
    """Raise `InputError` where sform and qform cannot both be true of one scan, wherever it lies."""
    if not (_forms_apart(image) or 0) >= _FORMS_APART:
        return
    sform, qform = image.get_sform()[:3, :3], image.get_qform()[:3, :3]
    sizes = [np.linalg.norm(form, axis=0) for form in (sform, qform)]
    if np.abs(sizes[0] / sizes[1] - 1).max() > _SIZES_APART:
        how = f"voxels of {_numbers(sizes[0])} mm in the sform and of {_numbers(sizes[1])} mm in the qform"
    elif np.sign(np.linalg.det(sform)) != np.sign(np.linalg.det(qform)):
        how = "left and right exchanged between sform and qform"
    else:
        return
    raise InputError(
        f"the header of the {what} {path} contradicts itself: {how}; expected both to say the same: convert it again from the "
        "scanner's images, or correct the header"
    )


def _check_slices(data: np.ndarray, path: str | Path, what: str, acquired: bool) -> None:
    """Raise `InputError` where a slice, or a volume, is zero among others that are not.

    Empty slices at the edges are padding; inside a head they are data that were lost.
    """
    series = data[..., None] if data.ndim == 3 else data
    lost = []
    filled = (series != 0).any(axis=(0, 1))  # (n_z, n_scans)
    empty = np.flatnonzero(~filled.any(axis=0))
    if len(empty):
        lost.append(f"{len(empty)} of {series.shape[3]} volumes ({_some(empty)})")
    whole = filled[:, filled.any(axis=0)]
    between = whole.any(axis=1, keepdims=True) if acquired else whole
    below, above = np.logical_or.accumulate(between), np.logical_or.accumulate(between[::-1])[::-1]
    among = below & above & ~whole
    if among.any():
        slices = np.flatnonzero(among.any(axis=1))
        times = f" in {int(among.any(axis=0).sum())} of {series.shape[3]} volumes" if data.ndim == 4 else ""
        lost.append(f"{len(slices)} of {series.shape[2]} slices along k ({_some(slices)}){times}")
    if data.ndim == 3:
        for axis, name in ((0, "i"), (1, "j")):
            planes = data.any(axis=tuple(other for other in range(3) if other != axis))
            first, last = np.flatnonzero(planes)[[0, -1]]
            holes = first + np.flatnonzero(~planes[first : last + 1])
            if len(holes):
                lost.append(f"{len(holes)} of {len(planes)} slices along {name} ({_some(holes)})")
    if lost:
        raise InputError(
            f"the {what} {path} is zero in {' and in '.join(lost)}, counted from 0; expected data in every slice of the head: "
            "export it again from the scanner's images, or set the scan aside with dataset.set_aside"
        )


def _some(numbers: np.ndarray) -> str:
    return ", ".join(str(number) for number in numbers[:6]) + (", ..." if len(numbers) > 6 else "")


def _numbers(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)


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
    facts : dict to which the job adds `quality` and other facts for the record; its `notes` are printed
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
        for note in facts.get("notes", []):
            print(f"note: {note}")
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
