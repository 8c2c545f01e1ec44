"""One scan that was preprocessed elsewhere, taken over: onto the grid, with the mask and the confounds it came with.

What it came without is computed from the image where it can be; what cannot be known (head motion) is said so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse import grid
from restresponse.dataset.sidecars import read_object
from restresponse.engines import Engine
from restresponse.engines.masks import dice
from restresponse.engines.reading import header_notes, processing, read_raw
from restresponse.engines.tissues import template_priors
from restresponse.errors import InputError
from restresponse.files import parse_table, write_image, write_json, write_table
from restresponse.functional.confounds import MOTION, column_facts, confounds, eroded_tissue_masks
from restresponse.functional.interpolation import onto_grid
from restresponse.functional.preprocess import LEAST_OVERLAP, check_signal, write_series

if TYPE_CHECKING:
    import pandas

NOT_KNOWN = "n/a"
_WHOLE = {f"{name}{ending}" for name in MOTION for ending in ("", "_derivative1", "_power2", "_derivative1_power2")} | {
    "framewise_displacement", "dvars", "std_dvars", "global_signal", "w_comp_cor_00", "c_comp_cor_00",
}  # fmt: skip  # columns of a table to which nothing need be added
_LEAST_MEAN = (
    1.0  # of the standard deviation in time: a brain whose mean is below has lost its mean to earlier denoising
)


def adopt_scan(
    bold: str | Path,
    outputs: Mapping[str, str | Path],
    *,
    mask: str | Path = NOT_KNOWN,
    given_confounds: str | Path = NOT_KNOWN,
    space: str,
    origin: str | None,
    repetition_time: float,
    engine: str,
    engine_settings: Mapping[str, Any] | None = None,
    voxel_size: float,
    smoothing_fwhm: float,
) -> None:
    """Take over one preprocessed scan in the place of `preprocess.preprocess_scan`, with the same outputs.

    Data that fail end in a record of status `failed` and in empty files, as there.

    Parameters
    ----------
    bold : 4D image in MNI space, on any grid
    outputs : paths by name: `image`, `mask`, `confounds`, `confounds_facts` and `record`. The record has `unknown`: quality
        measure -> why nobody can know it.
    mask : brain mask on the image's grid; `n/a`: it is made from the image
    given_confounds : table with fMRIPrep's columns; `n/a`, or what it lacks: computed from the image where that is possible
    space : of the image, for the record
    origin : the programs that made the image, for the record; None where they are not known
    repetition_time : s
    engine, engine_settings : software that smooths, and makes the mask where there is none
    voxel_size : of the grid, mm
    smoothing_fwhm : mm; 0 means no smoothing
    """
    import nibabel as nib

    further = {"source": str(bold), "repetition_time": repetition_time, "space": space, "origin": origin}
    with processing(engine, engine_settings or {}, outputs, further) as (works, facts):
        data, image = read_raw(bold, 4, "BOLD", "resampled")
        facts["n_volumes"] = data.shape[3]
        facts["notes"] = header_notes(image, bold, "BOLD")
        check_signal(data, bold)
        works.add("preprocessing", origin or "not known", None, {"space": space},
                  f"The images were preprocessed elsewhere ({origin or 'by a program that their dataset does not name'}) "
                  f"and were taken over in {space} space.")  # fmt: skip
        shape, affine = grid.grid(voxel_size)
        brain = grid.brain_mask(voxel_size)
        own = onto_grid(_own_mask(works, mask, data, image), image.affine, shape, affine) > 0.5
        overlap = dice(own, brain)
        facts["quality"] = {"mask_dice": overlap}
        if overlap < LEAST_OVERLAP:
            raise InputError(
                f"the brain mask of {bold} overlaps the template's brain by a Dice of {overlap:.2f}; expected more than {LEAST_OVERLAP}, "
                f"as of an image in MNI space: is it in {space}, as its name says, and is the mask its own?"
            )
        series = onto_grid(data, image.affine, shape, affine)
        _say_how_resampled(works, np.shares_memory(series, data), voxel_size)
        del data

        facts["unknown"] = _lost_mean(series, brain & own)
        given = None if str(given_confounds) == NOT_KNOWN else _read_confounds(given_confounds, series.shape[3])
        facts["tissue_masks"] = {}
        if given is not None and _known(given) >= _WHOLE:
            table, added = given, []
        else:
            maps = {name: grid.template_image(name, voxel_size) for name in ("GM", "WM", "brain")}
            tissues = template_priors(maps["GM"], maps["WM"], maps["brain"])
            masks = eroded_tissue_masks(tissues["GM"], tissues["WM"], tissues["CSF"], brain & own)
            facts["tissue_masks"] = masks.pop("done", {})
            table, added = complete_confounds(given, series, affine, repetition_time, masks)
        facts |= {"confounds": str(given_confounds), "computed_confounds": added}
        if table["framewise_displacement"].isna().all():
            facts["unknown"] |= dict.fromkeys(
                ("mean_framewise_displacement", "maximum_framewise_displacement"), "no head motion came with the images"
            )
        works.add("confounds", "restresponse" if added else "none", None, {"computed": added}, _said_of(given, added))

        if smoothing_fwhm > 0:
            unsmoothed = works.folder / "adopted.nii"
            nib.Nifti1Image(series, affine).to_filename(unsmoothed)
            series = np.asarray(nib.load(works.smooth(unsmoothed, smoothing_fwhm)).dataobj, np.float32)
        else:
            works.add("smoothing", "none", None, {"fwhm": 0}, "The images were not smoothed after that.")
        series[~brain] = 0
        write_series(outputs["image"], series, affine, repetition_time)
        write_image(outputs["mask"], own, affine)
        write_table(outputs["confounds"], table)
        described = column_facts(table, facts["tissue_masks"])
        write_json(outputs["confounds_facts"], described | _described_there(given_confounds, set(added)))


def complete_confounds(
    given: pandas.DataFrame | None,
    image: np.ndarray,
    affine: np.ndarray,
    repetition_time: float,
    masks: Mapping[str, np.ndarray],
) -> tuple[pandas.DataFrame, list[str]]:
    """The table of confounds that a scan came with, with what it lacks computed from the image.

    Parameters
    ----------
    given : n_scans rows, fMRIPrep's columns; they are kept as they are, but for columns without one value. None: nothing came.
    image : (n_x, n_y, n_z, n_scans) float32 array before smoothing
    affine, repetition_time, masks : as in `confounds.confounds`

    Returns
    -------
    table : n_scans rows with every column that `confounds.confounds` makes. Motion that was not given is missing throughout,
        and so is the framewise displacement then.
    computed : names of the columns that were computed
    """
    import pandas as pd

    n_scans = image.shape[-1]
    motion = np.full((n_scans, 6), np.nan)
    if given is not None and set(MOTION) <= set(given.columns):
        motion = given[list(MOTION)].to_numpy(np.float64)
    own = confounds(image, affine, repetition_time, motion, masks)
    if given is None:
        return own, [name for name in own.columns if own[name].notna().any()]
    there = _known(given)
    for prefix in ("w_comp_cor_", "c_comp_cor_", "a_comp_cor_"):  # components of two origins are not put into one set
        if any(name.startswith(prefix) for name in there):
            there |= {name for name in own.columns if name.startswith(prefix)}
    missing = [name for name in own.columns if name not in there]
    table = pd.concat([given.drop(columns=missing, errors="ignore"), own[missing]], axis=1)
    table.attrs = dict(own.attrs)
    return table, [name for name in missing if own[name].notna().any()]


def _known(table: pandas.DataFrame) -> set[str]:
    """Names of the columns that hold a value."""
    return {name for name in table.columns if table[name].notna().any()}


def _own_mask(works: Engine, mask: str | Path, data: np.ndarray, image: Any) -> np.ndarray:
    """The scan's brain on its own grid, float32 0 or 1: as given, else from the mean image, else where the signal varies."""
    import nibabel as nib

    if str(mask) != NOT_KNOWN:
        found, carrier = read_raw(mask, 3, "brain mask", "mask")
        if found.shape != data.shape[:3] or not np.allclose(carrier.affine, image.affine, atol=1e-2):
            raise InputError(
                f"the brain mask {mask} lies on another grid than its image; expected the same voxels in the same place: copy the "
                "right one, or remove it: the mask is then made from the image"
            )
        works.add(
            "functional mask",
            "none",
            None,
            {"source": str(mask)},
            "The brain mask is the one that came with the images.",
        )
        return (found > 0.5).astype(np.float32)
    mean, deviation = data.mean(axis=3, dtype=np.float64), data.std(axis=3, dtype=np.float64)
    varying = deviation > 0
    if _has_lost_its_mean(mean[varying], deviation[varying]):
        works.add("functional mask", "restresponse", None, {"rule": "the signal varies"},
                  "No brain mask came with the images, which have no mean in time: it is where their signal varies.")  # fmt: skip
        return varying.astype(np.float32)
    reference = works.folder / "mean.nii"
    nib.Nifti1Image(mean.astype(np.float32), image.affine).to_filename(reference)
    return np.asarray(nib.load(works.functional_mask(reference)).dataobj, np.float32)


def _has_lost_its_mean(mean: np.ndarray, deviation: np.ndarray) -> bool:
    return bool(np.median(np.abs(mean)) < _LEAST_MEAN * np.median(deviation))


def _lost_mean(series: np.ndarray, inside: np.ndarray) -> dict[str, str]:
    """Of a scan whose mean in time was taken out before: what can then not be measured, and why."""
    voxels = series[inside]
    if not _has_lost_its_mean(voxels.mean(axis=1, dtype=np.float64), voxels.std(axis=1, dtype=np.float64)):
        return {}
    return {"tsnr": "the images came without their mean in time"}


def _say_how_resampled(works: Engine, same: bool, voxel_size: float) -> None:
    text = (
        f"They lie on the grid of {voxel_size:g} mm and were not interpolated."
        if same
        else f"They were interpolated once (cubic B-spline) onto a grid of {voxel_size:g} mm in MNI space."
    )
    works.add("resampling", "none" if same else "restresponse", None, {"voxel_size": voxel_size}, text)


def _read_confounds(path: str | Path, n_scans: int) -> pandas.DataFrame:
    import pandas as pd

    try:
        table = parse_table(path)
    except ValueError as error:  # pandas' errors of parsing and of decoding
        raise InputError(
            f"the confounds {path} are no table that can be read ({' '.join(str(error).split())[:160]}); expected tab-separated text: "
            "copy the table again, or remove it: the scan then counts as one whose motion is not known"
        ) from error
    words = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    if words or len(table) != n_scans:
        found = f"no numbers in {', '.join(words[:5])}" if words else f"{len(table)} rows"
        raise InputError(
            f"the confounds {path} have {found}; expected {n_scans} rows, one a volume, of numbers and n/a: copy the table again, or "
            "remove it: the scan then counts as one whose motion is not known"
        )
    table = table.astype(np.float64)
    infinite = [name for name in table.columns if np.isinf(table[name]).any()]
    moving = [name for name in MOTION if name in _known(table)]
    gaps = [name for name in moving if table[name].isna().any()]
    if infinite or gaps or len(moving) not in (0, len(MOTION)):
        if infinite:
            found = f"infinite values in {', '.join(infinite[:5])}"
        elif gaps:
            found = f"n/a in some volumes of {', '.join(gaps)}"
        else:
            found = f"the head motion {', '.join(moving)} alone"
        raise InputError(
            f"the confounds {path} have {found}; expected numbers, and all of {', '.join(MOTION)} in every volume or none of them: copy "
            "the table again, or remove those columns, or the table: the scan then counts as one whose motion is not known"
        )
    return table


def _said_of(given: pandas.DataFrame | None, added: list[str]) -> str:
    kinds = [
        words
        for words, start in (
            ("framewise displacement", "framewise"),
            ("DVARS", "dvars"),
            ("the global signal", "global_signal"),
            ("aCompCor of white matter", "w_comp_cor"),
            ("aCompCor of cerebrospinal fluid", "c_comp_cor"),
        )
        if any(name.startswith(start) for name in added)
    ]
    listed = " and ".join(filter(None, (", ".join(kinds[:-1]), *kinds[-1:])))
    was = "was" if len(kinds) == 1 else "were"
    computed = f"{listed} {was} computed from the image before smoothing (tissues: the template's)" if kinds else ""
    if given is None:
        return f"No confounds came with the images, so head motion is not known; {computed}."
    return "The confounds are those that came with the images" + (f"; {computed}." if computed else ".")


def _described_there(path: str | Path, added: set[str]) -> dict[str, Any]:
    """What the JSON beside the given table says of its columns; a damaged one says nothing."""
    facts = Path(path).with_suffix(".json")
    if str(path) == NOT_KNOWN or not facts.is_file():
        return {}
    try:
        content = read_object(facts)
    except InputError:
        return {}
    return {name: entry for name, entry in content.items() if name not in added}
