"""One BOLD scan from raw to the preprocessed image in MNI space, with its own brain mask and its confounds.

Slice timing, realignment, unwarping, coregistration; then every transform in one interpolation, confounds from that
image, smoothing, and the template's brain as mask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse import grid
from restresponse.engines import TISSUES, EngineFailure, Normalisation
from restresponse.engines.masks import dice
from restresponse.engines.reading import check_axes, header_notes, processing, read_raw
from restresponse.errors import InputError
from restresponse.files import read_json, save_image, whole, write_image, write_json, write_table
from restresponse.functional.confounds import (
    column_facts,
    confounds,
    eroded_tissue_masks,
    volumes_before_steady_state,
)
from restresponse.functional.fieldmaps import notes_on
from restresponse.functional.unwarping import phase_encoding, read_field_map, unwarped

LEAST_OVERLAP = 0.5  # Dice of the scan's own mask with the template's brain below which the registration has failed
_RANGE = 32767  # of a signed 16-bit integer
_COARSEST = 0.1  # step of those integers, of the median voxel's standard deviation in time
_SPARSE = (slice(None, None, 3),) * 3  # voxels that tell it


def preprocess_scan(
    bold: str | Path,
    anatomical: Mapping[str, str | Path],
    outputs: Mapping[str, str | Path],
    *,
    repetition_time: float,
    slice_times: Sequence[float] | str | None,
    engine: str,
    engine_settings: Mapping[str, Any] | None = None,
    voxel_size: float,
    slice_timing: bool,
    smoothing_fwhm: float,
    unwarp: str = "none",
    phase_encoding_direction: str | None = None,
    total_readout_time: float | str | None = None,
    field_map: Mapping[str, Any] | str | None = None,
) -> None:
    """Preprocess one scan.

    Data that fail (unreadable, 3D, constant, NaN, registration off the template, a failed T1w) end in a record of status
    `failed` with the reason and in empty files for all other outputs.

    Parameters
    ----------
    bold : raw 4D image
    anatomical : outputs of `anatomical.normalise_anatomical`: `T1w`, `brain_mask`, `affine`, `warp`, `GM_MNI`, `WM_MNI`,
        `CSF_MNI` and `record`.
    outputs : paths by name: `image` (smoothed, on the grid, zero outside the template's brain; 16-bit integers with a
        scale), `mask` (the scan's own EPI mask carried to the grid), `confounds`, `confounds_facts` and `record`.
    repetition_time : s
    slice_times : s, one for each slice along k, or the same as the scans table has it (JSON); None or `n/a` where they are
        not known
    engine : name of the engine
    engine_settings : the engine's own part of the config's section `engines`
    voxel_size : of the grid, mm
    slice_timing : whether slice timing is corrected where the times are known
    smoothing_fwhm : mm; 0 means no smoothing
    unwarp : how susceptibility distortion is corrected: `auto`, `fieldmap`, `registration`, `motion` or `none`
    phase_encoding_direction : BIDS `j-` and so on; None or `n/a` where it is not known
    total_readout_time : s; None or `n/a` where it is not known
    field_map : as in the scans table (JSON, or what it holds); None or `n/a` where there is none
    """
    import nibabel as nib

    further = {"source": str(bold), "repetition_time": repetition_time}
    with processing(engine, engine_settings or {}, outputs, further) as (works, facts):
        before = read_json(anatomical["record"])
        facts["anatomical_notes"] = before.get("notes", [])
        if before["status"] == "failed":
            raise InputError(f"its T1w image failed: {before['reason']}")
        facts["anatomical_quality"] = before.get("quality", {})
        data, image = read_raw(bold, 4, "BOLD")
        check_axes(image, bold, "BOLD")
        facts["n_volumes"] = data.shape[3]
        facts["notes"] = header_notes(image, bold, "BOLD")
        if unwarp in ("auto", "fieldmap"):
            facts["notes"] += notes_on(read_field_map(field_map))
        check_signal(data, bold)
        not_steady = facts["volumes_before_steady_state"] = volumes_before_steady_state(data)
        raw = _copy(data, image, repetition_time, works.folder / "bold.nii")
        del data
        local = {name: works.folder / f"T1w_{name}.nii" for name in ("T1w", "brain_mask", "warp")}
        for name, path in local.items():
            with whole(anatomical[name]):
                nib.Nifti1Image.from_image(nib.load(anatomical[name])).to_filename(path)
        local["affine"] = works.folder / "T1w_affine.mat"
        local["affine"].write_text(Path(anatomical["affine"]).read_text())
        normalisation = Normalisation(local["affine"], local["warp"])

        times = json.loads(slice_times) if isinstance(slice_times, str) and slice_times != "n/a" else slice_times
        if slice_timing and times not in (None, "n/a"):
            raw = works.slice_timing(raw, list(times), repetition_time)
        else:
            why = "switched off" if not slice_timing else "the times of the slices are not known"
            works.add("slice timing", "none", None, {"why": why}, f"Slice timing was not corrected ({why}).")
        realignment = works.realign(raw)
        phase = phase_encoding(phase_encoding_direction, total_readout_time)
        straight = unwarped(
            works, raw, realignment, local["T1w"], local["brain_mask"], phase, unwarp, read_field_map(field_map)
        )
        distortion, own_mask, coregistration = straight
        resampled = works.resample(raw, realignment, coregistration, normalisation, voxel_size, distortion)
        # the mask is the undistorted reference's where there is a distortion, so the shift is not for it
        carried = works.resample(own_mask, None, coregistration, normalisation, voxel_size)

        own = np.asarray(nib.load(carried).dataobj) > 0.5
        brain = grid.brain_mask(voxel_size)
        overlap = dice(own, brain)
        facts["quality"] = {"mask_dice": overlap}
        facts["coregistration"] = np.loadtxt(coregistration)
        if overlap < LEAST_OVERLAP:
            raise EngineFailure(
                f"registration failed: the scan's own brain mask overlaps the template's brain by a Dice of {overlap:.2f}; "
                f"expected more than {LEAST_OVERLAP}: look at the scan, its T1w and the field of view"
            )
        tissues = {}
        for name in TISSUES:
            with whole(anatomical[f"{name}_MNI"]):
                tissues[name] = np.asarray(nib.load(anatomical[f"{name}_MNI"]).dataobj, np.float32)
        unsmoothed = np.asarray(nib.load(resampled).dataobj, np.float32)
        _, affine = grid.grid(voxel_size)
        masks = eroded_tissue_masks(tissues["GM"], tissues["WM"], tissues["CSF"], brain & own)
        facts["tissue_masks"] = masks.pop("done", {})
        table = confounds(unsmoothed, affine, repetition_time, realignment.motion, masks, not_steady=not_steady)
        works.add(
            "confounds", "restresponse", None, {"n_components": 10},
            "Framewise displacement, DVARS, the global signal and principal components of white matter and of "
            "cerebrospinal fluid (aCompCor) were computed from the image before smoothing.",
        )  # fmt: skip
        del unsmoothed

        smoothed = works.smooth(resampled, smoothing_fwhm) if smoothing_fwhm > 0 else resampled
        series = np.asarray(nib.load(smoothed).dataobj, np.float32)
        series[~brain] = 0
        write_series(outputs["image"], series, affine, repetition_time)
        write_image(outputs["mask"], own, affine)
        write_table(outputs["confounds"], table)
        write_json(outputs["confounds_facts"], column_facts(table, facts["tissue_masks"]))


def check_signal(data: np.ndarray, bold: str | Path) -> None:
    """Raise `InputError` where hardly any voxel's signal varies in time."""
    varying = data.max(axis=3) > data.min(axis=3)
    if varying.sum() < 100:
        raise InputError(
            f"the BOLD {bold} does not change over time in {100 * (1 - varying.mean()):.3g} % of its voxels; expected a time "
            "series: export it again, or set it aside with dataset.set_aside"
        )


def _copy(data: np.ndarray, image: object, repetition_time: float, path: Path) -> Path:
    """The scan as an uncompressed float image with one affine, in the engine's folder."""
    import nibabel as nib

    copy = nib.Nifti1Image(data, image.affine)  # type: ignore[attr-defined]
    copy.header.set_xyzt_units("mm", "sec")
    copy.header.set_zooms((*copy.header.get_zooms()[:3], repetition_time))
    copy.to_filename(path)
    return path


def write_series(path: str | Path, series: np.ndarray, affine: np.ndarray, repetition_time: float) -> None:
    """A series as 16-bit integers with a scale: half the size of floats, at a step far below the noise; zero stays zero.

    Where a few voxels are so much brighter than the rest that the step is not below the noise, as floats.
    """
    import nibabel as nib

    scale = float(max(series.max(), -series.min())) / _RANGE
    deviation = series[_SPARSE].std(axis=-1)
    fine = scale <= _COARSEST * float(np.median(deviation[deviation > 0])) if deviation.any() else True
    if fine:
        stored = np.empty(series.shape, np.int16, order="F")
        for volume in range(
            series.shape[3]
        ):  # one at a time: the whole series twice more would be the job's peak of memory
            stored[..., volume] = np.rint(series[..., volume] / np.float32(scale))
    image = nib.Nifti1Image(stored if fine else series, affine)
    if fine:
        image.header.set_slope_inter(scale, 0)
    image.set_sform(affine, code=4)
    image.set_qform(affine, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], repetition_time))
    save_image(path, image)
