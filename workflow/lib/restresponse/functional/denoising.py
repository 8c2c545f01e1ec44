"""Denoising: confounds and what lies outside the frequency band are projected out, degrees of freedom counted.

The denoised image has a mean of zero in time. The projection is a basis in time that can be applied to any series:
`denoise(series, projection(table, repetition_time, settings))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.errors import DamagedFile, InputError
from restresponse.files import (
    read_json,
    read_table,
    whole,
    write_image,
    write_json,
    write_table,
    write_text,
    writing_folder,
)
from restresponse.functional.confounds import MOTION
from restresponse.images import read_series
from restresponse.layout import denoised_files, functional_files
from restresponse.provenance import versions

if TYPE_CHECKING:
    import pandas

_CHUNK = 10_000  # voxels at a time
_DEPENDENT = 1e-8  # a regressor of unit norm with less than this left is a combination of the others
_COLUMNS: dict[str, tuple[str, ...]] = {  # part of the denoising -> how its columns' names begin
    "motion": ("trans_", "rot_"),
    "white_matter": ("w_comp_cor",),
    "csf": ("c_comp_cor",),
    "linear_trend": ("linear_trend",),
    "outlier_volumes": ("motion_outlier",),
}
PARTS = ("mean", "bandpass", *_COLUMNS)
_ROUNDING = 1e-7  # of a voxel's size: a residual below this is float32's rounding and becomes zero


def outlier_volumes(table: pandas.DataFrame, displacement: float | None, global_signal: float | None) -> np.ndarray:
    """Indices (from 0) of the volumes that moved too far, whose global signal jumped, or that came before the steady state.

    Parameters
    ----------
    table : pandas.DataFrame
        Confounds, with `framewise_displacement` (mm) and `global_signal`. Volumes before the steady state are those of its
        columns `non_steady_state_outlier00` .., where either threshold is set.
    displacement : float or None
        mm of framewise displacement above which a volume is an outlier; None: none is.
    global_signal : float or None
        Robust SD (interquartile range / 1.349) of the scan-to-scan change of the global signal above which a volume is
        an outlier; None: none is. A change counts for the volume that it arrives at.
    """
    found = np.zeros(len(table), bool)
    if displacement is not None:
        found |= np.nan_to_num(_column(table, "framewise_displacement")) > displacement
    if global_signal is not None and len(table) > 2:
        change = np.diff(_column(table, "global_signal"))
        known = change[np.isfinite(change)]
        if len(known):
            middle = np.median(known)
            spread = np.subtract(*np.percentile(known, [75, 25])) / 1.349 or known.std()
            found[1:] |= np.abs(change - middle) > global_signal * spread
    early = [name for name in table.columns if name.startswith("non_steady_state_outlier")]
    if early and (displacement is not None or global_signal is not None):
        found |= (table[early].to_numpy(np.float64) > 0).any(axis=1)
    return np.flatnonzero(found)


def regressors(table: pandas.DataFrame, settings: Mapping[str, Any]) -> pandas.DataFrame:
    """The confounds that `settings` (the config's `functional.denoising`) name, one row a volume; what is missing is 0.

    Columns have fMRIPrep's names, `motion_outlier00` .. for the outlier volumes too, and `linear_trend`. Fewer aCompCor
    components than asked are taken as they are; none at all, or another missing column, is an ``InputError``. A column
    without one value (motion that is not known) is left out.
    """
    import pandas as pd

    count = settings["motion_parameters"]
    if count not in (0, 6, 12, 24):
        raise InputError(
            f"functional.denoising.motion_parameters is {count}; expected 0, 6, 12 (with first differences) or 24"
        )
    suffixes = ("", "_derivative1", "_power2", "_derivative1_power2")[: {0: 0, 6: 1, 12: 2, 24: 4}[count]]
    chosen = {f"{name}{suffix}": _column(table, f"{name}{suffix}") for suffix in suffixes for name in MOTION}
    for prefix, key in (("w_comp_cor", "wm_components"), ("c_comp_cor", "csf_components")):
        names = [name for name in table.columns if name.startswith(f"{prefix}_")][: settings[key]]
        if settings[key] and not names:
            raise InputError(
                f"the confounds table has no column {prefix}_00; expected {settings[key]} components: "
                f"set functional.denoising.{key} to 0 or give a table that holds them"
            )
        chosen |= {name: _column(table, name) for name in names}
    if settings["detrend"]:
        chosen["linear_trend"] = np.linspace(-1, 1, len(table))
    outliers = outlier_volumes(table, settings["outlier_displacement"], settings["outlier_global_signal"])
    for number, volume in enumerate(outliers):
        chosen[f"motion_outlier{number:02d}"] = (np.arange(len(table)) == volume).astype(float)
    return pd.DataFrame(chosen, index=range(len(table))).dropna(axis=1, how="all").fillna(0.0)


def projection(
    table: pandas.DataFrame, repetition_time: float, settings: Mapping[str, Any]
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Orthonormal basis in time of everything that denoising takes out.

    Parameters
    ----------
    table : pandas.DataFrame, n_scans rows
        Confounds in fMRIPrep's names (`functional.confounds`).
    repetition_time : float, s
    settings : mapping
        The config's `functional.denoising`. `bandpass_low` None: no filter; `bandpass_high` None: no upper limit.

    Returns
    -------
    basis : (n_scans, rank) array
        For `bandpass: simultaneous`, and without a filter: mean, regressors and the discrete cosines outside the band,
        together. For `bandpass: after` two bases, to be applied one after the other: mean and regressors; the band's
        complement. That order brings confounds back into the series (Lindquist et al. 2019, HBM 40:2358).
    """
    outside, band = _band(len(table), repetition_time, settings["bandpass_low"], settings["bandpass_high"])
    design = _unit_columns(regressors(table, settings).to_numpy())
    if settings["bandpass"] == "simultaneous" or settings["bandpass_low"] is None:
        return np.column_stack([outside, band @ _range(band.T @ design)])
    if settings["bandpass"] == "after":
        mean = np.full((len(table), 1), len(table) ** -0.5)
        return np.column_stack([mean, _range(design)]), outside
    raise InputError(f"functional.denoising.bandpass is {settings['bandpass']!r}; expected 'simultaneous' or 'after'")


def degrees_of_freedom(table: pandas.DataFrame, repetition_time: float, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Dimensions in time that are left by the band alone, and by band and regressors together.

    The second is n_scans less the rank of the combined design (mean, frequencies outside the band, regressors),
    whatever the order in which they are taken out.
    """
    _, band = _band(len(table), repetition_time, settings["bandpass_low"], settings["bandpass_high"])
    taken = _range(band.T @ _unit_columns(regressors(table, settings).to_numpy())).shape[1]
    return band.shape[1], band.shape[1] - taken


def dof_costs(table: pandas.DataFrame, repetition_time: float, settings: Mapping[str, Any]) -> dict[str, int]:
    """Degrees of freedom that each part of the denoising costs, in the order of `PARTS`; n_scans less all is the residue.

    A dimension that two parts share (a drift that the filter takes and that the motion follows) is counted for the first
    of them: the filter comes first, so the others' costs are what they take of the band.
    """
    outside, band = _band(len(table), repetition_time, settings["bandpass_low"], settings["bandpass_high"])
    design = regressors(table, settings)
    part_of = {name: next(part for part, start in _COLUMNS.items() if name.startswith(start)) for name in design}
    costs = {"mean": 1, "bandpass": outside.shape[1] - 1}
    taken = 0
    for place, part in enumerate(_COLUMNS, start=1):
        so_far = [name for name in design if part_of[name] in tuple(_COLUMNS)[:place]]
        rank = _range(band.T @ _unit_columns(design[so_far].to_numpy())).shape[1]
        costs[part], taken = rank - taken, rank
    return costs


def denoise(series: np.ndarray, basis: np.ndarray | tuple[np.ndarray, ...]) -> np.ndarray:
    """Series (n_scans, n) less their part in the basis (n_scans, rank); of several bases, one after the other."""
    for part in basis if isinstance(basis, tuple) else (basis,):
        series = series - part @ (part.T @ series)
    return series


def denoise_image(data: np.ndarray, basis: np.ndarray | tuple[np.ndarray, ...]) -> int:
    """Denoise a (n_x, n_y, n_z, n_scans) float32 image in place, voxels in chunks; returns how many voxels vary.

    Voxels that are constant, or whose whole signal is confound, become exactly 0. Raises ``InputError`` where the image
    is not finite or nothing varies.
    """
    n_scans = data.shape[-1]
    voxels = data.reshape(-1, n_scans)
    if not np.shares_memory(voxels, data):
        raise ValueError("the image must be contiguous so that it can be denoised in place")
    smallest, largest = voxels.min(axis=1), voxels.max(axis=1)
    finite = np.isfinite(smallest) & np.isfinite(largest)
    if not finite.all():
        raise InputError(
            f"{(~finite).sum()} voxels of the preprocessed image are not finite; expected numbers everywhere: "
            "look at the raw image and its sidecar"
        )
    voxels[smallest == largest] = 0
    varying = np.flatnonzero(smallest != largest)
    left = 0
    for start in range(0, len(varying), _CHUNK):
        chosen = varying[start : start + _CHUNK]
        part = voxels[chosen].astype(np.float64)
        clean = denoise(part.T, basis).T
        clean[np.sqrt((clean**2).mean(axis=1)) < _ROUNDING * np.abs(part).max(axis=1)] = 0
        left += int(clean.any(axis=1).sum())
        voxels[chosen] = clean
    if left == 0:
        raise InputError("no voxel of the preprocessed image has a signal left; expected a BOLD series that varies")
    return left


def denoise_batch(
    scans: Mapping[str, str | Path],
    folder: str | Path,
    *,
    repetition_times: Mapping[str, float],
    settings: Mapping[str, Any],
) -> None:
    """Denoise each scan of `scans` (scan -> folder of its preprocessed files) into one folder, see `layout.denoised_files`."""
    with writing_folder(folder) as temporary:
        for scan, source in scans.items():
            given, made = functional_files(source, scan), denoised_files(temporary, scan)
            denoise_scan(
                *(given[name] for name in ("image", "confounds", "record")),
                *(made[name] for name in ("image", "record", "design", "design_facts")),
                scan=scan,
                repetition_time=repetition_times[scan],
                settings=settings,
            )


def denoise_scan(
    image: str | Path,
    confounds: str | Path,
    record: str | Path,
    denoised: str | Path,
    denoised_record: str | Path,
    design: str | Path,
    design_facts: str | Path,
    *,
    scan: str,
    repetition_time: float,
    settings: Mapping[str, Any],
) -> None:
    """Denoise one scan: preprocessed image, confounds and record in; denoised image, its record and its regressors out.

    A scan whose record says that it failed, or that leaves no degree of freedom, gets a record of status `failed` with
    the reason and an image of zero bytes. `design` is the TSV of the regressors, `design_facts` the JSON beside it.
    """
    import nibabel as nib

    content: dict[str, Any] = {"scan": scan, "settings": dict(settings), "repetition_time": float(repetition_time)}
    try:
        before = read_json(record)
        if before.get("status") == "failed":
            raise InputError(before.get("reason") or "preprocessing failed without a reason")
        table = read_table(confounds)
        with whole(image):
            n_volumes = nib.load(image).shape[-1]
        if n_volumes != len(table):
            raise DamagedFile(confounds, f"{len(table)} rows; expected {n_volumes}, one a volume")
        chosen = regressors(table, settings)
        outliers = outlier_volumes(table, settings["outlier_displacement"], settings["outlier_global_signal"])
        dof_bandpass, dof_residual = degrees_of_freedom(table, float(repetition_time), settings)
        content |= {
            "regressors": list(chosen.columns),
            "n_volumes": len(table),
            "n_outliers": len(outliers),
            "outlier_volumes": outliers,
            "dof_bandpass": dof_bandpass,
            "dof_cost": dof_costs(table, float(repetition_time), settings),
            "dof_residual": dof_residual,
        }
        write_table(design, chosen)
        write_json(design_facts, _design_facts(chosen, outliers, settings))
        if dof_residual <= 0:
            raise InputError(
                f"no degree of freedom is left after denoising: the band holds {dof_bandpass} dimensions of "
                f"{len(table)} volumes and {chosen.shape[1]} regressors ({len(outliers)} of them outlier volumes) take "
                "all; expected a longer scan, less motion or fewer regressors (functional.denoising)"
            )
        stored, slope, intercept = read_series(image)
        data = np.empty(stored.shape, np.float32)
        for volume in range(stored.shape[-1]):  # scaled one by one: no second copy of the series in floats
            data[..., volume] = stored[..., volume] * np.float32(slope) + np.float32(intercept)
        del stored
        content["n_voxels"] = denoise_image(data, projection(table, float(repetition_time), settings))
        write_image(denoised, data, nib.load(image).affine, repetition_time=float(repetition_time))
        content |= {"status": "done", "reason": None, "methods": [_sentence(chosen, content)]}
    except InputError as error:
        write_text(denoised, "")
        for path in () if "regressors" in content else (design, design_facts):
            write_text(path, "")
        content |= {"status": "failed", "reason": str(error)}
    write_json(denoised_record, {**content, "versions": versions()})


def _band(n_scans: int, repetition_time: float, low: float | None, high: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal discrete cosines (n_scans, n) outside and inside the band; the mean is always outside."""
    number = np.arange(n_scans)
    cosines = np.cos(np.pi * np.outer(number + 0.5, number) / n_scans) * np.sqrt(2 / n_scans)
    cosines[:, 0] = n_scans**-0.5
    inside = number > 0
    if low is not None:
        frequency = number / (2 * n_scans * repetition_time)
        inside &= frequency >= low * (1 - 1e-6)
        inside &= frequency <= (np.inf if high is None else high) * (1 + 1e-6)
    return cosines[:, ~inside], cosines[:, inside]


def _unit_columns(design: np.ndarray) -> np.ndarray:
    """Columns less their mean, of unit norm; constant columns are dropped."""
    centred = design - design.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    varies = norm > 1e-12 * (1 + np.abs(design).max(axis=0, initial=0))
    return centred[:, varies] / norm[varies]


def _range(design: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns' span."""
    if not design.size:
        return np.zeros((design.shape[0], 0))
    vectors, values, _ = np.linalg.svd(design, full_matrices=False)
    return vectors[:, values > _DEPENDENT]


def _design_facts(
    design: pandas.DataFrame, outliers: np.ndarray, settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What each regressor is; what is not in the confounds table itself is described."""
    facts: dict[str, dict[str, Any]] = {
        name: {"Description": "column of the confounds table; what is missing there is 0"} for name in design.columns
    }
    if "linear_trend" in facts:
        facts["linear_trend"] = {"Description": "straight line from -1 to 1 over the scan"}
    for number, volume in enumerate(outliers):
        facts[f"motion_outlier{number:02d}"] = {
            "Description": f"1 at volume {volume} (counted from 0), 0 elsewhere",
            "FramewiseDisplacementThreshold": settings["outlier_displacement"],
            "GlobalSignalThreshold": settings["outlier_global_signal"],
        }
    return facts


def _column(table: pandas.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        raise InputError(
            f"the confounds table has no column {name}; expected fMRIPrep's names: give such a table or leave that "
            "part of functional.denoising out"
        )
    return table[name].to_numpy(np.float64)


def _sentence(design: pandas.DataFrame, content: Mapping[str, Any]) -> str:
    settings = content["settings"]
    white, fluid, outliers = (
        sum(c.startswith(p) for c in design.columns) for p in ("w_comp", "c_comp", "motion_outlier")
    )
    parts = []
    if white or fluid:
        parts.append(f"{white} white-matter and {fluid} CSF components (aCompCor)")
    moving = sum(name.startswith(_COLUMNS["motion"]) for name in design.columns)
    if moving:
        parts.append(f"{moving} motion parameters")
    if outliers:
        parts.append(f"{outliers} outlier volume" + "s" * (outliers > 1))
    if settings["detrend"]:
        parts.append("a linear trend")
    text = "Denoising took out " + (", ".join(parts) or "the mean alone")
    if settings["bandpass_low"] is not None:
        how = "in the same projection" if settings["bandpass"] == "simultaneous" else "after the regression"
        low, high = settings["bandpass_low"], settings["bandpass_high"]
        band = f"above {low} Hz" if high is None else f"{low} to {high} Hz"
        text += f"; the band kept was {band}, filtered {how}"
    if settings["motion_parameters"] and not moving:
        text += "; head motion is not known and was not regressed out"
    return f"{text}, which left {content['dof_residual']} of {content['n_volumes']} degrees of freedom."
