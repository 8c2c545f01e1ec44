"""The page of one scan: whether it is used and why, where it lies, what it looks like in time, what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.files import read_json, read_table, whole, writing_folder
from restresponse.images import read_series
from restresponse.layout import anatomical_files, denoised_files, functional_files
from restresponse.quality.inclusion import limits_of, not_judged, reasons_against
from restresponse.quality.measures import moments, signal_mask
from restresponse.quality.pages.averages import Sums, maps_of_scan
from restresponse.quality.pages.montage import OUTLINE_UNIT, Montage, window
from restresponse.quality.pages.mosaic import Mosaic, Picture
from restresponse.quality.pages.traces import carpet, draw, panels_of
from restresponse.quality.pages.words import PARTS, WORDS, measure_rows, render, shown

if TYPE_CHECKING:
    import pandas

TISSUES = ("GM", "WM", "CSF")
_OUTLINED = (("WM", "#ffd23f", "yellow: white matter (probability 0.5)"), ("CSF", "#6ab7ff", "blue: CSF (0.5)"))


def files_by_scan(
    given: Mapping[str, Any], scans: Sequence[str], anatomicals: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """The files of each scan's page, by the names of `write_scan_page`, from the folders of a batch.

    Parameters
    ----------
    given : `measures` and `denoised`, folders; `preprocessed`, a folder for each of `scans`; `anatomical`, one for each of
        `anatomicals`; `group_mask`
    scans : of the batch
    anatomicals : the T1w image of each scan that has one
    """
    found = {}
    for scan, folder in zip(scans, given["preprocessed"], strict=True):
        files = functional_files(folder, scan)
        found[scan] = {
            "measures": f"{given['measures']}/{scan}.json",
            "own_mask": files["mask"],
            "denoised_record": denoised_files(given["denoised"], scan)["record"],
            "group_mask": str(given["group_mask"]),
            **{name: files[name] for name in ("image", "confounds", "record")},
        }
    for (scan, anat), folder in zip(anatomicals.items(), given["anatomical"], strict=True):
        files = anatomical_files(folder, anat)
        found[scan] |= {"anatomical_record": files["record"], "T1w": files["T1w_MNI"]}
        found[scan] |= {name: files[f"{name}_MNI"] for name in TISSUES}
    return found


def write_scan_pages(files: Mapping[str, Mapping[str, str | Path]], folder: str | Path, **settings: Any) -> None:
    """Write the page of each scan of `files` (scan -> its files, see `write_scan_page`), `{scan}.html` in `folder`, and the sums
    over those that are used."""
    sums = Sums()
    with writing_folder(folder) as temporary:
        for scan, own in files.items():
            sums.add(write_scan_page(own, temporary / f"{scan}.html", **settings))
        sums.write(temporary)


def write_scan_page(
    files: Mapping[str, str | Path], page: str | Path, *, settings: Mapping[str, Any], minimum_dof: int
) -> dict[str, np.ndarray]:
    """Write the page of one scan; return what it adds to the averages of all (`averages.maps_of_scan`), nothing if it is not used.

    Parameters
    ----------
    files : `measures` (JSON of `measure_scan`) and what it was measured on, named as there: `image`, `own_mask`, `confounds`,
        `record`, `denoised_record`, `group_mask`. Of its T1w, on the same grid: `T1w`, `GM`, `WM`, `CSF`, and
        `anatomical_record`; any of these may be missing or empty, and the page does without.
    page : HTML to write, one file that loads nothing
    settings : the config's section `quality`; from it the decision is made as for the inclusion table
    minimum_dof : least residual degrees of freedom, used where `settings["minimum_dof"]` is None
    """
    found, before, denoised = (read_json(files[name]) for name in ("measures", "record", "denoised_record"))
    t1w = read_json(files["anatomical_record"]) if _exists(files.get("anatomical_record")) else {}
    limits = limits_of(settings, minimum_dof)
    content: dict[str, Any] = {
        "scan": found["scan"],
        "failed": found["failed"],
        "reasons": reasons_against(found, limits),
        "not_judged": not_judged(found, limits),
        "measures": measure_rows(found, limits),
        "anatomical_measures": anatomical_rows(t1w),
        "unwarping": unwarping(before),
        "notes": [*(t1w.get("notes") or []), *(before.get("notes") or [])],
        "censored": censored(denoised),
        "dof": degrees(denoised, limits["minimum_dof"]),
        "steps": {"T1w image": step_rows(t1w), "BOLD scan": step_rows(before)},
        "denoising": denoised.get("methods") or [],
        "settings": list((denoised.get("settings") or {}).items()),
        "pictures": None,
        "stills": [],
        "time": None,
    }
    averaged: dict[str, np.ndarray] = {}
    if _exists(files["image"]) and _exists(files["own_mask"]):
        series, slope, intercept = read_series(files["image"])
        (brain, affine), (own, _) = _load(files["group_mask"]), _load(files["own_mask"])
        if series.shape[:3] == brain.shape == own.shape:
            mean, deviation = moments(series, slope, intercept)
            maps = {name: _load(files[name])[0] for name in ("T1w", *TISSUES) if _exists(files.get(name))}
            no_mean = "tsnr" in found.get("unknown", {})  # taken out before: what is left of it is rounding
            signal = signal_mask(deviation if no_mean else mean, brain > 0)
            content["pictures"] = pictures(deviation if no_mean else mean, brain > 0, own > 0, affine, maps) | {
                "no_mean": no_mean
            }
            content["stills"] = stills(mean, None if no_mean else deviation, signal, affine, maps)
            table = read_table(files["confounds"]) if _exists(files["confounds"]) else None
            content["time"] = in_time(series, signal, maps, table, before, denoised)
            if not content["reasons"]:
                averaged = maps_of_scan(mean, None if no_mean else deviation, signal, maps.get("T1w"), brain > 0)
    render("scan.html.j2", page, content)
    return averaged


def pictures(
    seen: np.ndarray, brain: np.ndarray, own: np.ndarray, affine: np.ndarray, maps: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Images and outlines of the montage, each once: the template places them where they are wanted.

    `seen` (n_x, n_y, n_z), the scan's mean in time or what stands for it; `brain` the template's, `own` the scan's mask; `maps` what
    there is of `T1w`, `GM`, `WM` and `CSF` on the same grid.
    """
    from restresponse.grid import template_image

    montage = Montage(brain | own, affine)
    template = template_image("T1w", float(affine[0, 0]))
    images = {
        "epi": montage.photograph(seen, 0.0, 1.25 * window(seen, own | brain)[1]),
        "template": montage.photograph(template, 0.0, 1.15 * window(template, brain)[1]),
    }
    if "T1w" in maps:
        images["t1w"] = montage.photograph(maps["T1w"], 0.0, 1.15 * window(maps["T1w"], brain)[1])
    outlines = {"brain": montage.outline(brain), "own": montage.outline(own)}
    outlines |= {name.lower(): montage.outline(maps[name]) for name in TISSUES if name in maps}
    return {
        "unit": OUTLINE_UNIT,
        "width": montage.width,
        "height": montage.height,
        "images": images,
        "outlines": outlines,
        "labels": [
            {
                "x": round(cell.left + 2),
                "y": round(cell.top + cell.height - 3),
                "text": f"{'xyz'[cell.axis]} {cell.place:.0f}",
            }
            for cell in montage.cells
        ],
        "sides": _sides(montage),
    }


def stills(
    mean: np.ndarray,
    deviation: np.ndarray | None,
    signal: np.ndarray,
    affine: np.ndarray,
    maps: Mapping[str, np.ndarray],
) -> list[Picture]:
    """What needs no switching: the T1w image with its tissues, and the temporal SNR.

    Of a scan whose mean was taken out the `deviation` is None, and there is no temporal SNR; the rest as in `pictures`.
    """
    mosaic, found = Mosaic(affine, dots=140, font=7), []  # as wide as the page
    if "T1w" in maps:
        outlined = [one for one in _OUTLINED if one[0] in maps]
        outlines = {colour: maps[name] for name, colour, _ in outlined} | {"#ff7a59": mosaic.brain}
        said = ", ".join([*(words for _, _, words in outlined), "orange: the template's brain"])
        words = "T1w image with the outlines of its tissues" if outlined else "T1w image"
        top = 1.15 * window(maps["T1w"], mosaic.brain)[1]
        image = mosaic.draw(maps["T1w"], top, outlines=outlines)
        found.append(Picture(words, f"{said[0].upper()}{said[1:]}.", image))
    if deviation is not None:
        ratio = np.divide(mean, deviation, out=np.zeros_like(mean), where=signal & (deviation > 0))
        ratio[~np.isfinite(ratio)] = 0
        there = ratio[ratio > 0]
        top = float(np.percentile(there, 98)) if there.size else 1.0
        said = (
            f"{top:.0f} is its 98th percentile. Grey: no signal"
            if there.size
            else "there is none: no signal, or none that varies"
        )
        tells = f"Mean / standard deviation in time of the preprocessed image, over the template; {said}."
        image = mosaic.draw(ratio, top, colours="magma", above=1e-6, bar="temporal SNR")
        found.append(Picture("Temporal signal-to-noise ratio", tells, image))
    return found


def in_time(
    series: np.ndarray,
    signal: np.ndarray,
    maps: Mapping[str, np.ndarray],
    table: pandas.DataFrame | None,
    before: Mapping[str, Any],
    denoised: Mapping[str, Any],
) -> dict[str, Any]:
    """The drawing of everything that runs in time, and what its caption needs."""
    masks = {"brain": signal}
    if all(name in maps for name in TISSUES):
        likeliest = np.argmax([maps[name] for name in TISSUES], axis=0)
        enough = np.max([maps[name] for name in TISSUES], axis=0) > 0.5
        masks = {name: signal & enough & (likeliest == number) for number, name in enumerate(TISSUES)}
    rows, blocks = carpet(series, masks)
    limit = denoised.get("settings", {}).get("outlier_displacement")
    panels = [] if table is None else panels_of(table, limit)
    outliers = denoised.get("outlier_volumes") or []
    return {
        "drawing": draw(panels, rows, blocks, outliers, series.shape[3], before.get("repetition_time")),
        "by_tissue": "GM" in blocks,
        "limit": limit,
        "n_outliers": len(outliers),
    }


def degrees(denoised: Mapping[str, Any], least: float | None) -> dict[str, Any] | None:
    """What each part of the denoising costs, for a table and a bar; None where it was not counted."""
    costs, total = denoised.get("dof_cost"), denoised.get("n_volumes")
    if not costs or not total:
        return None
    left = denoised["dof_residual"]
    rows = [{"part": PARTS[part][0], "colour": PARTS[part][1], "cost": cost} for part, cost in costs.items()]
    for row in rows:
        row["share"] = f"{100 * row['cost'] / total:.2f}"
    return {
        "rows": rows,
        "total": total,
        "left": left,
        "left_share": f"{100 * left / total:.2f}",
        "least": None if least is None else f"{least:g}",
        "enough": least is None or left >= least,
    }


def censored(denoised: Mapping[str, Any]) -> str | None:
    """The outlier volumes in words; None where denoising did not get that far."""
    volumes = denoised.get("outlier_volumes")
    if volumes is None:
        return None
    if not volumes:
        return "No volume was censored."
    named = ", ".join(str(volume) for volume in volumes[:40]) + (", …" if len(volumes) > 40 else "")
    were = "was" if len(volumes) == 1 else "were"
    return f"{len(volumes)} of {denoised['n_volumes']} volumes {were} censored in denoising (counted from 0): {named}."


def unwarping(record: Mapping[str, Any]) -> str | None:
    """What was done against susceptibility distortion, in the record's own words."""
    said = [
        step["method"] for step in record.get("steps") or [] if "unwarp" in step["step"] or "distortion" in step["step"]
    ]
    return " ".join(said) or None


def anatomical_rows(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The measures of the T1w's normalisation that its record holds and the scan's measures do not."""
    words = {
        "template_dice": "T1w: brain mask with the template's (Dice)",
        "grey_matter_dice": "T1w: grey matter with the template's (Dice)",
    }
    found = {name: value for name, value in (record.get("quality") or {}).items() if name not in WORDS}
    return [
        {"words": words.get(name, f"T1w: {name.replace('_', ' ')}"), "value": shown(found[name], 3)} for name in found
    ]


def step_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps of a record: name, tool, parameters as text, seconds, sentence."""
    return [
        {
            "step": step["step"],
            "tool": " ".join(str(part) for part in (step.get("tool"), step.get("version")) if part),
            "parameters": "; ".join(
                f"{name}: {_text(value)}" for name, value in (step.get("parameters") or {}).items()
            ),
            "seconds": "" if step.get("seconds") is None else f"{step['seconds']:.1f}",
            "method": step.get("method") or "",
        }
        for step in record.get("steps") or []
    ]


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6 and all(isinstance(item, int | float) for item in value):
        return f"{len(value)} values, {min(value):g} to {max(value):g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _sides(montage: Montage) -> list[dict[str, Any]]:
    first = next(cell for cell in montage.cells if cell.axis == 2)
    middle = round(first.top + first.height / 2)
    return [
        {"x": round(first.left + 2), "y": middle, "text": "L"},
        {"x": round(first.left + first.width - 9), "y": middle, "text": "R"},
    ]


def _exists(path: str | Path | None) -> bool:
    return bool(path) and Path(path).is_file() and Path(path).stat().st_size > 0


def _load(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel as nib

    with whole(path):
        image = nib.load(path)
        return np.asarray(image.dataobj, np.float32), image.affine
