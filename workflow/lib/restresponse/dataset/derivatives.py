"""Images that were preprocessed elsewhere: fMRIPrep's layout and names, or any BIDS derivatives with BOLD in MNI space.

They become rows of the table of scans, with the brain mask and the confounds that came with them, where these exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restresponse.dataset.discovery import Image, find_images
from restresponse.dataset.header import Header, read_header, with_content
from restresponse.dataset.participants import MISSING, check_filter, near_miss, read_participants
from restresponse.dataset.problems import Problems
from restresponse.dataset.reading import (
    SET_ASIDE,
    Dataset,
    check_known,
    header_of_series,
    note_participants_without_scan,
    runs_of,
    scans_set_aside,
    some_of,
)
from restresponse.dataset.sidecars import Sidecars, read_object
from restresponse.dataset.tables import SCAN_COLUMNS
from restresponse.dataset.timing import repetition_time
from restresponse.errors import InputError

_STANDARD = ("MNI", "IXI549Space")  # how the names of the spaces begin that count as MNI space; the latter is SPM12's
_OF_PROCESSING = ("space", "cohort", "res", "den", "desc")  # entities that a derivative's name has beyond its scan's
_CONFOUNDS = ("desc-confounds_timeseries", "desc-confounds_regressors")  # fMRIPrep's name, and the one before 20.2
_OF_SURFACES = ("*_bold.dtseries.nii", "*_bold.func.gii")


def read_derivatives(bids_dir: str | Path | None, settings: Mapping[str, Any]) -> Dataset:
    """Read a folder of preprocessed images without reading a voxel.

    Parameters
    ----------
    bids_dir : path or None
        The raw dataset, where there is one: its participants.tsv is used. Else the derivatives folder holds it.
    settings : mapping
        The section `dataset` of the config; `derivatives` is the folder.

    Raises
    ------
    InputError
        With every problem found in files, names, sidecars and headers.
    """
    root, problems, notes = Path(settings["derivatives"]).expanduser(), Problems(), []
    if not root.is_dir():
        raise InputError(
            f"dataset.derivatives: no folder {root} (looked from {Path.cwd()}); expected the root of preprocessed BIDS derivatives, "
            "with sub-* in it: set dataset.derivatives, or null to start from raw images"
        )
    origin = _origin(root / "dataset_description.json", problems, notes)
    table = _table_of_participants(root, bids_dir, notes)
    participants = read_participants(table, problems)
    check_filter(table, participants, settings["include"], problems)
    found = [image for image in find_images(root, problems) if image.suffix == "bold"]
    standard = [image for image in found if image.entities.get("space", "").startswith(_STANDARD)]
    if not standard:
        problems.add("dataset.derivatives", _nothing_in_standard_space(root, found))
        problems.raise_any(f"The derivatives {root} cannot be used")
    candidates = [_of_scan(image) for image in standard]
    original = {image.path: image for image in standard}
    wanted = runs_of(root, candidates, settings, problems)
    aside = scans_set_aside(candidates, wanted, settings["set_aside"], problems)
    wanted = [run for run in wanted if run.stem not in aside]
    runs = _one_a_scan(_in_one_space(wanted, original, settings["space"], problems), original, problems, notes)

    check_known([run.participant for run in runs], participants, table, problems)
    sidecars = Sidecars(root)
    rows = [_row(run, original[run.path], sidecars, problems, notes) for run in runs]
    problems.raise_any(f"The derivatives {root} cannot be used")
    _note_what_is_missing(rows, notes)
    scanned = {row["participant_id"] for row in [*rows, *aside.values()]}
    note_participants_without_scan(participants, scanned, notes)
    return Dataset(
        scans=rows,
        set_aside=list(aside.values()),
        anatomicals={},
        participants=participants,
        participants_file=str(table),
        notes=list(dict.fromkeys(notes)),
        origin=origin,
    )


def space_of(image: Image) -> str:
    """The space of an image as fMRIPrep writes it, cohort and resolution included: `MNIPediatricAsym:cohort-1:res-2`."""
    resolution = image.entities.get("res")
    return _template_of(image) + (f":res-{resolution}" if resolution else "")


def _template_of(image: Image) -> str:
    """The space without the resolution: a template of several cohorts is another for each."""
    cohort = image.entities.get("cohort")
    return image.entities["space"] + (f":cohort-{cohort}" if cohort else "")


def _origin(path: Path, problems: Problems, notes: list[str]) -> str | None:
    """The programs that made the derivatives, from GeneratedBy (or PipelineDescription, as it was before BIDS 1.4)."""
    if not path.exists():
        notes.append(f"no {path}; which program made the images is not known")
        return None
    try:
        content = read_object(path)
    except InputError as error:
        problems.add(str(path), f"{error}, or remove it")
        return None
    if content.get("DatasetType") == "raw":
        problems.add(
            str(path),
            "DatasetType is raw; expected derivatives: set dataset.bids_dir to this folder, and dataset.derivatives to null",
        )
    listed = content.get("GeneratedBy") or [content.get("PipelineDescription")]
    programs = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    named = [" ".join(str(entry[key]) for key in ("Name", "Version") if entry.get(key)) for entry in programs]
    return ", ".join(name for name in named if name) or None


def _table_of_participants(root: Path, bids_dir: str | Path | None, notes: list[str]) -> Path:
    """participants.tsv of the raw dataset where it is there, else of the derivatives."""
    own = root / "participants.tsv"
    if bids_dir is None:
        return own
    raw = Path(bids_dir).expanduser() / "participants.tsv"
    if not raw.exists() and own.exists():
        notes.append(f"no {raw}; the participants are those of {own}")
        return own
    return raw


def _nothing_in_standard_space(root: Path, found: list[Image]) -> str:
    spaces = sorted({image.entities.get("space", "none in the name") for image in found})
    if spaces:
        seen = f"spaces of the {len(found)} BOLD images there: {', '.join(spaces)}"
    elif any(next(root.glob(f"sub-*/**/{pattern}"), None) for pattern in _OF_SURFACES):
        seen = "the BOLD there is on surfaces (GIFTI, CIFTI) alone, and every step here works on volumes"
    else:
        inside = sorted({folder.parent.name for folder in root.glob("*/sub-*") if folder.is_dir()})
        hint = f" (but sub-* in {', '.join(inside[:3])}: set dataset.derivatives to that folder?)" if inside else ""
        seen = f"there is no BOLD image at all{hint}"
    return (
        f"no sub-*/[ses-*/]func/*_space-MNI152*_bold.nii[.gz] in {root}; {seen}: give images in MNI152 space (fMRIPrep: --output-spaces "
        f"MNI152NLin2009cAsym:res-2), or name their space (_space-MNI152_desc-preproc_bold.nii.gz) if they are in it"
    )


def _of_scan(image: Image) -> Image:
    """The image under the name of its scan: without the entities that the processing added."""
    kept = {key: label for key, label in image.entities.items() if key not in _OF_PROCESSING}
    return Image("_".join(f"{key}-{label}" for key, label in kept.items()), image.suffix, image.path, kept)


def _in_one_space(
    runs: list[Image], original: Mapping[Path, Image], wanted: str | None, problems: Problems
) -> list[Image]:
    """The images in the space that the config names, or in the only one there; anything else is a problem."""
    space = {run.path: space_of(original[run.path]) for run in runs}
    spaces = sorted(set(space.values()))
    parts = set((wanted or "").split(":"))
    chosen = [run for run in runs if wanted is None or parts == set(space[run.path].split(":"))]
    chosen = chosen or [run for run in runs if parts <= set(space[run.path].split(":"))]
    if runs and not chosen:
        problems.add(
            "dataset.space",
            f"no BOLD image in space {wanted}; spaces found: {', '.join(spaces)}: set dataset.space{near_miss(str(wanted), spaces)}",
        )
    left = sorted({space[run.path] for run in chosen})
    if len(left) > 1:
        problems.add(
            "dataset.space",
            f"BOLD images in several spaces: {', '.join(left)}; expected one space for all scans: set dataset.space to one of them",
        )
        return []
    for scan in sorted({run.stem for run in runs} - {run.stem for run in chosen}) if chosen else ():
        problems.add(scan, f"no BOLD image in space {left[0]}; expected one for every scan: add it, {SET_ASIDE}")
    return chosen


def _one_a_scan(runs: list[Image], original: Mapping[Path, Image], problems: Problems, notes: list[str]) -> list[Image]:
    """Of several images of one scan in one space the one with desc-preproc."""
    by_scan: dict[str, list[Image]] = {}
    for run in runs:
        by_scan.setdefault(run.stem, []).append(run)
    chosen = []
    for scan, images in by_scan.items():
        preprocessed = [image for image in images if original[image.path].entities.get("desc") == "preproc"]
        if len(images) > 1 and len(preprocessed) != 1:
            problems.add(
                scan,
                f"several images in one space ({', '.join(image.path.name for image in images)}), and not one of them desc-preproc; "
                "expected one image a scan: move the others out of the derivatives",
            )
            continue
        one = preprocessed[0] if preprocessed else images[0]
        if not preprocessed:
            notes.append(f"{scan} has no image with desc-preproc; used: {one.path.name}")
        chosen.append(one)
    return chosen


def _row(run: Image, image: Image, sidecars: Sidecars, problems: Problems, notes: list[str]) -> dict[str, Any] | None:
    """The scan's row, or None where a problem stands in its way."""
    header = header_of_series(run.path, problems)
    try:
        sidecar, _ = sidecars.of(run.path.parent, f"{image.stem}_bold")
    except InputError as error:
        problems.add(run.stem, f"{error}, {SET_ASIDE}")
        return None
    if header is None:
        return None
    mask = _mask(image, header, problems)
    confounds = _confounds(run, header, problems)
    if "RepetitionTime" not in sidecar and header.repetition_time is not None:
        sidecar = sidecar | {"RepetitionTime": header.repetition_time}
    tr = repetition_time(run.stem, sidecar, header, problems, notes)
    if tr is None:
        return None
    known = {
        "scan": run.stem,
        "participant_id": run.participant,
        "session": run.session or MISSING,
        "task": run.entities["task"],
        "run": run.entities.get("run", MISSING),
        "bold": str(run.path),
        "space": _template_of(image),
        "mask": str(mask) if mask else MISSING,
        "confounds": str(confounds) if confounds else MISSING,
        "repetition_time": tr,
        "n_volumes": header.shape[3],
        "set_aside": False,
    }
    return dict.fromkeys(SCAN_COLUMNS, MISSING) | known  # what is of raw images alone is not known


def _mask(image: Image, header: Header, problems: Problems) -> Path | None:
    """The brain mask that came with the image, if any; one that does not fit is a problem."""
    stem = "_".join(part for part in image.stem.split("_") if not part.startswith("desc-"))
    for ending in (".nii.gz", ".nii"):
        path = image.path.with_name(f"{stem}_desc-brain_mask{ending}")
        if not path.exists() and not path.is_symlink():
            continue
        try:
            shape = read_header(path).shape
        except InputError as error:
            problems.add(str(path), f"{error}, or remove it: the mask is then made from the image")
            return None
        if shape != header.shape[:3]:
            problems.add(
                str(path),
                f"its shape is {shape} and the image's {header.shape[:3]}; expected the mask on the image's grid: copy the right one, "
                "or remove it: the mask is then made from the image",
            )
        return path
    return None


def _confounds(run: Image, header: Header, problems: Problems) -> Path | None:
    """The table of confounds that came with the scan, if any; one with another number of rows is a problem."""
    for name in _CONFOUNDS:
        path = run.path.with_name(f"{run.stem}_{name}.tsv")
        if not path.exists() and not path.is_symlink():
            continue
        try:
            with_content(path)
        except InputError as error:
            problems.add(str(path), f"{error}, or remove it: the scan then counts as one whose motion is not known")
            return None
        rows = sum(1 for line in path.read_bytes().splitlines() if line.strip()) - 1
        if rows != header.shape[3]:
            problems.add(
                str(path),
                f"{rows} rows and the image {header.shape[3]} volumes; expected one row a volume: copy both again from the same run, {SET_ASIDE}",
            )
        return path
    return None


def _note_what_is_missing(rows: list[dict[str, Any]], notes: list[str]) -> None:
    for column, consequence in (
        ("mask", "came without a brain mask; it is made from the image"),
        ("confounds", "came without confounds; head motion is not known there and is neither regressed out nor judged"),
    ):
        without = [row["scan"] for row in rows if row[column] == MISSING]
        if without:
            notes.append(f"{len(without)} of {len(rows)} scans {consequence}: {some_of(without)}")
