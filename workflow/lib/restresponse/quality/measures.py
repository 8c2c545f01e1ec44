"""Quality of one scan: how much it moved, how stable it is, how well it fits the template, what denoising left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.errors import DamagedFile, InputError
from restresponse.files import read_json, read_table, write_json, writing_folder
from restresponse.images import read_mask, read_series
from restresponse.layout import denoised_files, functional_files

if TYPE_CHECKING:
    import pandas

LEAST_SIGNAL = (
    0.2  # of the brain's median: a voxel whose mean is below has dropped out or lies outside the field of view
)
MEASURES = (
    "mean_framewise_displacement",
    "maximum_framewise_displacement",
    "mean_dvars",
    "mean_std_dvars",
    "tsnr",
    "coverage",
    "overlap",
    "brain_volume",
    "template_correlation",
    "dof_bandpass",
    "dof_residual",
    "n_outliers",
    "n_volumes",
)


def moments(series: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in time, each (n_x, n_y, n_z) float64, one volume at a time: no copy of the series."""
    n_scans = series.shape[3]
    mean = np.zeros(series.shape[:3])
    for volume in range(n_scans):
        mean += series[..., volume]
    mean /= n_scans
    squares = np.zeros_like(mean)
    for volume in range(n_scans):
        squares += (series[..., volume] - mean) ** 2
    return slope * mean + intercept, abs(slope) * np.sqrt(squares / n_scans)


def signal_mask(mean: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Voxels of the brain in which a scan has signal: its mean in time is above a fifth of the brain's median.

    Parameters
    ----------
    mean : (n_x, n_y, n_z) array, the scan's mean in time
    brain : (n_x, n_y, n_z) bool array, the template's brain

    Returns
    -------
    (n_x, n_y, n_z) bool array
    """
    inside = mean[brain & (mean > 0)]
    return brain & (mean > LEAST_SIGNAL * np.median(inside)) if inside.size else np.zeros_like(brain)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two masks, 0 to 1; 0 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 0.0


def temporal_snr(mean: np.ndarray, deviation: np.ndarray, signal: np.ndarray) -> float:
    """Median over the signal mask's voxels of mean / standard deviation in time; voxels that do not vary are left out."""
    varying = signal & (deviation > 0)
    return float(np.median(mean[varying] / deviation[varying])) if varying.any() else np.nan


def motion_measures(table: pandas.DataFrame) -> dict[str, float]:
    """Mean and greatest framewise displacement (mm), mean DVARS and standardised DVARS of a confounds table."""
    displacement = table["framewise_displacement"]
    found = {
        "mean_framewise_displacement": float(displacement.mean()),
        "maximum_framewise_displacement": float(displacement.max()),
    }
    for name in ("dvars", "std_dvars"):
        if name in table.columns:
            found[f"mean_{name}"] = float(table[name].mean())
    return found


def measure_batch(
    *,
    scans: Mapping[str, Sequence[str]],
    preprocessed: Sequence[str | Path],
    denoised: str | Path,
    group_mask: str | Path,
    folder: str | Path,
) -> None:
    """Measure the scans of a batch of participants, `{scan}.json` in `folder` each.

    `scans` are each participant's; `preprocessed` has a folder for each, in that order, `denoised` is the batch's.
    """
    named = [(scan, participant) for participant, names in scans.items() for scan in names]
    with writing_folder(folder) as temporary:
        for (scan, participant), folder_of_scan in zip(named, preprocessed, strict=True):
            given = functional_files(folder_of_scan, scan)
            measure_scan(
                *(given[name] for name in ("image", "mask", "confounds", "record")),
                denoised_files(denoised, scan)["record"],
                group_mask,
                temporary / f"{scan}.json",
                scan=scan,
                participant=participant,
            )


def measure_scan(
    image: str | Path,
    own_mask: str | Path,
    confounds: str | Path,
    record: str | Path,
    denoised_record: str | Path,
    group_mask: str | Path,
    measures: str | Path,
    *,
    scan: str,
    participant: str,
) -> None:
    """Measure one scan.

    Parameters
    ----------
    image : preprocessed image on the grid (smoothed, not denoised)
    own_mask : the scan's own brain mask, made before any template mask, carried to the grid
    confounds : its confounds table
    record, denoised_record : JSON records of preprocessing and of denoising
    group_mask : the template's brain on the grid
    measures : JSON to write: every measure of `MEASURES` (null where it could not be taken), `unknown`, why, where nobody can
        know it, `notes`, what is odd in the headers of its images, and `failed`, the reason or null
    scan, participant : names for the record
    """
    before, denoised = read_json(record), read_json(denoised_record)
    content: dict[str, Any] = {"scan": scan, "participant_id": participant, "status": "done", "failed": None}
    content |= dict.fromkeys(MEASURES)
    content["notes"] = [*(before.get("anatomical_notes") or []), *(before.get("notes") or [])]
    unknown = content["unknown"] = before.get("unknown", {})  # measure -> why nobody can know it
    content |= {name: denoised[name] for name in MEASURES if name in denoised}
    of_t1w = before.get("anatomical_quality", {})
    content |= {name: of_t1w[name] for name in ("brain_volume", "template_correlation") if name in of_t1w}
    try:
        if before.get("status") == "failed":
            raise InputError(before.get("reason") or "preprocessing failed without a reason")
        brain, own = read_mask(group_mask)[0], read_mask(own_mask)[0]
        series, slope, intercept = read_series(image)
        table = read_table(confounds)
        if series.shape[:3] != brain.shape or own.shape != brain.shape:
            raise DamagedFile(image, f"it is {series.shape} and its mask {own.shape}; expected the grid {brain.shape}")
        if len(table) != series.shape[3]:
            raise DamagedFile(confounds, f"{len(table)} rows; expected {series.shape[3]}, one a volume")
        mean, deviation = moments(series, slope, intercept)
        # a scan without a mean in time still varies
        signal = signal_mask(deviation if "tsnr" in unknown else mean, brain)
        content |= motion_measures(table)
        content |= {
            "n_volumes": series.shape[3],
            "tsnr": None if "tsnr" in unknown else temporal_snr(mean, deviation, signal),
            "coverage": float(signal.sum() / brain.sum()),
            "overlap": dice(own, brain),
        }
        if denoised.get("status") == "failed":
            content |= {"status": "failed", "failed": denoised.get("reason")}
    except InputError as error:
        content |= {"status": "failed", "failed": str(error)}
    write_json(measures, content)
