"""BIDS field maps as off-resonance in Hz on the grid of the EPI reference, the same for every engine.

This is the stage's own work on what was scanned, as its confounds are; of the engine it takes brain masks and a registration.
A field map is a mapping as the scans table holds it: `kind` (`phasediff`, `phases`, `epi` or `fieldmap`), `files` by their
BIDS suffix, and what the kind needs: `echo_times` (s), `units`, or, for each EPI, `directions` and `readouts` (s).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.engines import Engine, EngineFailure, PhaseEncoding
from restresponse.engines.reading import check_axes, header_notes, read_raw
from restresponse.voxel_axes import change_of_axes, direction_along

HERTZ_OF = {"Hz": 1.0, "rad/s": 1 / (2 * np.pi), "T": 42.577478518e6}  # of protons
_SMOOTHING = 2.0  # mm, of the field inside the brain
_SPREAD = (32.0, 16.0, 8.0, 4.0)  # mm, over which the field goes on beyond the brain, the narrowest that reaches
_FAINT = 0.15  # of the brain's median magnitude, below which the phase is noise
_FILLED = 0.9  # least part of a turn that a phase image's values go over: with a wrap, or noise of the air, all
_FILLED_OF_BITS = 0.97  # where half the range is another scale, for which a masked phase without wraps might pass
_BITS = range(10, 17)  # of a phase as scanners store it
_FRACTIONS = ((-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5))  # of a turn or of half of one, which would pass for radians
_AROUND = 8.0  # mm around the brain in which reversed EPIs are compared


def prepare_field(works: Engine, reference: Path, phase: PhaseEncoding, field_map: Mapping[str, Any]) -> Path:
    """The field of a scan.

    Parameters
    ----------
    works : engine, whose brain mask and rigid registration are used
    reference : of the realignment
    phase : of the scan
    field_map : see the module

    Returns
    -------
    image on the reference's grid, float32, Hz, smoothed, going on smoothly beyond the brain

    Raises
    ------
    EngineFailure
        The images do not fit together.
    InputError
        An image cannot be read.
    """
    kind = field_map["kind"]
    with works.step("field map", *_described(field_map)) as facts:
        if kind == "epi":
            magnitude, hertz, mask = _of_reversed(works, reference, phase, field_map)
        elif kind == "fieldmap":
            magnitude, hertz, mask = _ready_made(works, field_map)
        else:
            magnitude, hertz, mask = _of_phases(works, field_map, facts)
        return _onto_reference(works, reference, magnitude, hertz, mask, facts)


def notes_on(field_map: Mapping[str, Any] | None) -> list[str]:
    """What a user should know of the headers of a field map's images, a sentence each; one that cannot be read is told of elsewhere."""
    import nibabel as nib

    notes = []
    for path in [] if field_map is None else field_map["files"].values():
        try:
            notes += header_notes(nib.load(path), path, "field map")
        except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError):
            continue
    return notes


def hertz_of_phase(phase: np.ndarray, mask: np.ndarray, interval: float) -> np.ndarray:
    """Off-resonance in Hz of an unwrapped phase difference in rad between echoes `interval` s apart; the median's turn is 0."""
    turns = phase / (2 * np.pi)
    return (turns - np.round(np.median(turns[mask]))) / interval


def radians(stored: np.ndarray, path: str | Path = "the phase image") -> tuple[np.ndarray, list[float]]:
    """Wrapped phase in rad of a stored image, and the range of a turn that its values were taken for.

    The scale is known by the range, most of which noise and wraps fill: radians as they are; 0 to 4095 or -4096 to 4095 (or other
    powers of two), whose middle is phase 0; milliradians or degrees, -half a turn to half a turn or 0 to a turn, whose 0 is phase 0.

    Raises
    ------
    EngineFailure
        The values fit none of these, or fractions of a turn as well as radians.
    """
    low, high = float(stored.min()), float(stored.max())
    if high - low <= 2.1 * np.pi and not any(np.allclose([low, high], part, atol=0.01) for part in _FRACTIONS):
        return stored.astype(np.float32), [-np.pi, np.pi] if low < -0.05 * np.pi else [0.0, 2 * np.pi]
    for turn in (2e3 * np.pi, 360.0):
        for bottom in (-turn / 2, 0.0):
            if _fits(low, high, bottom, bottom + turn, _FILLED):
                return (stored / turn * 2 * np.pi).astype(np.float32), [bottom, bottom + turn]
    for bits in _BITS:
        for bottom in (-(2**bits), 0):
            if _fits(low, high, bottom, 2**bits, _FILLED_OF_BITS):
                half = (2**bits - bottom) / 2
                return ((stored - bottom - half) / half * np.pi).astype(np.float32), [float(bottom), 2.0**bits - 1]
    raise EngineFailure(
        f"{path} has values from {low:g} to {high:g}, which are no known scale of a wrapped phase; expected radians over a turn, 0 to 4095 or "
        "-4096 to 4095 (or another power of two), or milliradians or degrees over a turn, each filled but for a few per cent: store it so"
    )


def _fits(low: float, high: float, bottom: float, top: float, filled: float) -> bool:
    """Whether values fill a range and do not leave it, but for rounding."""
    turn = top - bottom
    return high - low >= filled * turn and low >= bottom - 0.01 * turn and high <= top + 0.01 * turn


def continued(field: np.ndarray, mask: np.ndarray, voxel_size: np.ndarray) -> np.ndarray:
    """A field smoothed inside its mask and carried on beyond it: the mean of what is near, the wider the farther."""
    from scipy import ndimage

    weight = mask.astype(np.float32)
    values = np.where(mask, field, 0).astype(np.float32)
    out = np.full(field.shape, np.median(field[mask]), np.float32)
    for width in (*_SPREAD, _SMOOTHING):
        near = ndimage.gaussian_filter(weight, width / voxel_size, truncate=3)
        mean = ndimage.gaussian_filter(values, width / voxel_size, truncate=3) / np.maximum(near, 1e-6)
        share = np.clip(near / 0.2, 0, 1)
        out = share * mean + (1 - share) * out
    return out


def _described(field_map: Mapping[str, Any]) -> tuple[str, str | None, dict[str, Any], str]:
    """Of the step that makes the field: tool, version, parameters and method."""
    from restresponse import __version__
    from restresponse.engines import niimath

    kind = field_map["kind"]
    tool, version, facts = "restresponse", __version__, {"kind": kind}
    if kind == "epi":
        facts["images"] = len(field_map["files"])
        way = "The field was estimated from EPIs read out in opposite directions, by symmetric registration along that axis."
    elif kind == "fieldmap":
        facts["units"] = field_map["units"]
        way = "The field map was read."
    else:
        tool, version = "niimath", niimath.VERSION
        facts["echo_times"] = list(field_map["echo_times"])
        way = (
            "The phase difference of the field map was unwrapped (ROMEO, niimath) and divided by the echoes' distance."
        )
    return tool, version, facts, f"{way} It was carried to the EPI reference by rigid registration."


def _of_phases(
    works: Engine, field_map: Mapping[str, Any], facts: dict[str, Any]
) -> tuple[Path, np.ndarray, np.ndarray]:
    """Of a phase difference or two phases, whose scale is added to `facts`: the magnitude as a file, Hz and brain on its grid."""
    from restresponse.engines import niimath
    from restresponse.engines.folder import failure_of

    files, times = field_map["files"], field_map["echo_times"]
    magnitude, image, mask = _magnitude(works, files.get("magnitude1") or files["magnitude2"])
    phases, facts["turn"] = [], {}
    for name in ("phasediff",) if field_map["kind"] == "phasediff" else ("phase1", "phase2"):
        phase, facts["turn"][name] = radians(_same_grid(files[name], image), files[name])
        phases.append(phase)
    if field_map["kind"] == "phases":
        first, second = phases
        phase = np.angle(np.exp(1j * (second - first).astype(np.complex64))).astype(np.float32)
    _save(works, "fieldmap_phase.nii", phase, image.affine)
    _save(works, "fieldmap_mask.nii", mask.astype(np.uint8), image.affine)
    interface = niimath.PhaseUnwrapping(
        in_file="fieldmap_phase.nii",
        magnitude=magnitude.name,
        mask="fieldmap_mask.nii",
        out_file="fieldmap_unwrapped.nii",
    )
    try:
        interface.run(cwd=str(works.folder))
        unwrapped = _read(works.folder / "fieldmap_unwrapped.nii")
    except (RuntimeError, FileNotFoundError) as error:
        raise failure_of(f"the unwrapping of the phases of {files}", str(error), str(error), works.folder) from error
    return magnitude, hertz_of_phase(unwrapped, mask, times[1] - times[0]), mask


def _ready_made(works: Engine, field_map: Mapping[str, Any]) -> tuple[Path, np.ndarray, np.ndarray]:
    """Of a field in Hz, rad/s or T: the magnitude as a file, Hz and brain on its grid."""
    magnitude, image, mask = _magnitude(works, field_map["files"]["magnitude"])
    hertz = _same_grid(field_map["files"]["fieldmap"], image) * HERTZ_OF[field_map["units"]]
    return magnitude, hertz, mask


def _of_reversed(
    works: Engine, reference: Path, phase: PhaseEncoding, field_map: Mapping[str, Any]
) -> tuple[Path, np.ndarray, np.ndarray]:
    """Of EPIs read out both ways: the one read out like the scan as a file, Hz where each place is shown in it, and its brain."""
    import nibabel as nib
    from scipy import ndimage

    from restresponse.engines import shifts, unwarping

    files, directions, readouts = (field_map[key] for key in ("files", "directions", "readouts"))
    scan = nib.load(reference)
    ways: dict[int, tuple[str, Any]] = {}
    for name, direction in directions.items():
        image = _mean_volume(files[name])
        way = direction_along(direction, image.affine, scan.affine)
        if "ijk".index(way[0]) == phase.axis:
            ways.setdefault(
                -1 if way.endswith("-") else 1, (name, image.as_reoriented(change_of_axes(image.affine, scan.affine)))
            )
    if -phase.sign not in ways:
        raise EngineFailure(
            f"no EPI of the field map is read out against the scan; found {', '.join(directions.values())} on their images' axes"
        )
    if phase.sign in ways:  # moved to the reference by what both show
        name, like_scan = ways[phase.sign]
        readout = readouts[name]
    else:
        like_scan, readout = scan, phase.readout
    first = np.asarray(like_scan.dataobj, np.float32)
    name, against = ways[-phase.sign]
    through = np.linalg.inv(against.affine) @ like_scan.affine
    turned = np.abs(through[:3, :3] / np.linalg.norm(through[:3, :3], axis=0))
    if turned[phase.axis, phase.axis] < 0.9:
        raise EngineFailure("the EPIs of the field map lie otherwise than each other: their phase-encoding axes differ")
    second = ndimage.affine_transform(
        np.asarray(against.dataobj, np.float32), through[:3, :3], through[:3, 3], output_shape=first.shape, order=1
    )
    path = _save(works, "fieldmap_epi.nii", first, like_scan.affine)
    size = np.linalg.norm(like_scan.affine[:3, :3], axis=0)
    mask = _brain(works, path)
    region = ndimage.distance_transform_edt(~mask, sampling=size) < _AROUND
    last = [np.ascontiguousarray(np.moveaxis(array, phase.axis, -1)) for array in (first, second, region)]
    order = np.array([*np.delete(size, phase.axis), size[phase.axis]])
    shift = unwarping.against_reversed(last[0], last[1], readouts[name] / readout, last[2], order)
    brain = shifts.undistorted(np.moveaxis(mask, phase.axis, -1).astype(np.float32), shift) > 0.5
    return path, np.moveaxis(shift, -1, phase.axis) / (readout * phase.sign), np.moveaxis(brain, -1, phase.axis)


def _onto_reference(
    works: Engine, reference: Path, magnitude: Path, hertz: np.ndarray, mask: np.ndarray, facts: dict[str, Any]
) -> Path:
    """Carry the field to the reference by rigid registration of what was scanned with it, which is added to `facts`."""
    import nibabel as nib
    from scipy import ndimage

    image, target = nib.load(magnitude), nib.load(reference)
    size = np.linalg.norm(image.affine[:3, :3], axis=0)
    if mask.sum() < 100:
        raise EngineFailure("no brain was found in the images of the field map")
    brain = _save(works, "fieldmap_brain.nii", mask.astype(np.uint8), image.affine)
    start = len(works.steps)
    reference_mask = works.functional_mask(reference)
    matrix = np.loadtxt(works.align(reference, reference_mask, magnitude, brain))
    del works.steps[start:]
    through = np.linalg.inv(image.affine) @ np.linalg.inv(matrix) @ target.affine
    carried = ndimage.affine_transform(
        continued(hertz, mask, size), through[:3, :3], through[:3, 3],
        output_shape=target.shape[:3], order=1, mode="nearest",
    )  # fmt: skip
    facts["to_reference"] = matrix.tolist()
    return _save(works, "fieldmap_hertz.nii", carried.astype(np.float32), target.affine)


def _magnitude(works: Engine, path: str) -> tuple[Path, Any, np.ndarray]:
    """The magnitude as a file of the working folder, its image, and its brain."""
    data, image = read_raw(path, 3, "magnitude")
    check_axes(image, path, "magnitude")
    saved = _save(works, "fieldmap_magnitude.nii", data, image.affine)
    mask = _brain(works, saved)
    mask &= data > _FAINT * np.median(data[mask])
    return saved, image, mask


def _brain(works: Engine, path: Path) -> np.ndarray:
    """The engine's brain mask of an image, as a part of the field map's step and none of its own."""
    import nibabel as nib

    start = len(works.steps)
    mask = np.asarray(nib.load(works.functional_mask(path)).dataobj) > 0
    del works.steps[start:]
    return mask


def _same_grid(path: str, image: Any) -> np.ndarray:
    data, other = read_raw(path, 3, "field map")
    check_axes(other, path, "field map")
    if data.shape != image.shape[:3] or not np.allclose(other.affine, image.affine, atol=0.01):
        raise EngineFailure(
            f"{path} has another grid than its magnitude: {data.shape} and {image.shape[:3]}, or another position"
        )
    return data


def _mean_volume(path: str) -> Any:
    """The mean of the volumes of an EPI, as an image."""
    import nibabel as nib

    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj, np.float32)
    except (EOFError, zlib.error, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise EngineFailure(f"{path} cannot be read: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the disk's or the system's failure, not the file's
            raise
        raise EngineFailure(f"{path} cannot be read: {error}") from error
    data = data.mean(axis=3) if data.ndim == 4 else data
    if data.ndim != 3 or not np.isfinite(data).all() or data.min() == data.max():
        raise EngineFailure(f"{path} is no EPI of a head: shape {image.shape}, or constant, or not of numbers")
    check_axes(image, path, "field map's EPI")
    return nib.Nifti1Image(data, image.affine)


def _read(path: Path) -> np.ndarray:
    import nibabel as nib

    return np.asarray(nib.load(path).dataobj, np.float32)


def _save(works: Engine, name: str, data: np.ndarray, affine: np.ndarray) -> Path:
    import nibabel as nib

    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(works.folder / name)
    return works.folder / name
