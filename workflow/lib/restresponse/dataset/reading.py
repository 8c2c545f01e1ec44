"""The dataset as the workflow sees it: one row a BOLD run, with the T1w image and the timing that belong to it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restresponse.dataset.discovery import Image, find_images
from restresponse.dataset.fieldmaps import DIRECTIONS, FieldMaps, total_readout_time
from restresponse.dataset.header import Header, read_header
from restresponse.dataset.participants import MISSING, check_filter, near_miss, read_participants
from restresponse.dataset.problems import Problems
from restresponse.dataset.sidecars import Sidecars, read_object
from restresponse.dataset.timing import repetition_time, slice_timing
from restresponse.errors import InputError

SET_ASIDE = "or name the scan in dataset.set_aside"


@dataclass(frozen=True)
class Dataset:
    """A dataset, raw or preprocessed elsewhere.

    Attributes
    ----------
    scans : one dict a scan that is to be read, with the columns of `results/dataset/scans.tsv`
    set_aside : one dict (`scan`, `participant_id`) a scan that the config sets aside
    anatomicals : path of the T1w image by its BIDS stem
    participants : rows of participants.tsv, all values text
    participants_file : its path
    notes : what a user should know though nothing is wrong, one sentence each
    origin : of images that were preprocessed elsewhere, the programs that their dataset names; None where it names none
    """

    scans: list[dict[str, Any]]
    set_aside: list[dict[str, str]]
    anatomicals: dict[str, str]
    participants: list[dict[str, str]]
    participants_file: str
    notes: list[str]
    origin: str | None = None


def read_dataset(bids_dir: str | Path | None, settings: Mapping[str, Any], unwarp: str = "auto") -> Dataset:
    """Read a BIDS dataset without reading a voxel: the raw one, or images preprocessed elsewhere (`derivatives`).

    Parameters
    ----------
    bids_dir : path
        Root of the raw dataset; the paths in the result begin with it. With `derivatives` it may be None.
    settings : mapping
        The section `dataset` of the config.
    unwarp : str
        `functional.unwarp` of the config: what is wrong with field maps is a problem where it is `fieldmap` and the scan has
        no whole one beside, a note there and where it is `auto`, and not looked at otherwise.

    Raises
    ------
    InputError
        With every problem found in files, names, sidecars and headers.
    """
    if settings["derivatives"] is not None:
        from restresponse.dataset.derivatives import read_derivatives

        return read_derivatives(bids_dir, settings)
    root, problems = Path(bids_dir or ".").expanduser(), Problems()
    if not root.is_dir():
        raise InputError(
            f"dataset.bids_dir: no folder {root} (looked from {Path.cwd()}); expected the root of a raw BIDS dataset: set dataset.bids_dir"
        )
    _check_description(root / "dataset_description.json", problems)
    participants = read_participants(root / "participants.tsv", problems)
    check_filter(root / "participants.tsv", participants, settings["include"], problems)
    images = find_images(root, problems)
    runs = runs_of(root, images, settings, problems)
    aside = scans_set_aside(
        [image for image in images if image.suffix == "bold"], runs, settings["set_aside"], problems
    )
    runs = [run for run in runs if run.stem not in aside]

    check_known([run.participant for run in runs], participants, root / "participants.tsv", problems)
    notes: list[str] = []
    anatomicals = _anatomicals(runs, [image for image in images if image.suffix == "T1w"], problems, notes)
    sidecars = Sidecars(root)
    maps = FieldMaps(root, sidecars)
    rows = [_row(run, anatomicals.get(run.stem), sidecars, maps, settings, unwarp, problems, notes) for run in runs]
    problems.raise_any(f"The dataset {root} cannot be used")

    scanned = {run.participant for run in runs} | {row["participant_id"] for row in aside.values()}
    note_participants_without_scan(participants, scanned, notes)
    untimed = [row["scan"] for row in rows if row["slice_timing_source"] == "none"]
    if untimed:
        notes.append(
            f"no SliceTiming in the sidecars of {len(untimed)} of {len(rows)} scans; slice timing is not corrected there unless dataset.slice_timing gives it: {some_of(untimed)}"
        )
    undirected = [row["scan"] for row in rows if row["phase_encoding_direction"] == MISSING]
    if undirected and unwarp == "auto":
        notes.append(
            f"no usable PhaseEncodingDirection in the sidecars of {len(undirected)} of {len(rows)} scans; distortion is not corrected there: {some_of(undirected)}"
        )
    return Dataset(
        scans=rows,
        set_aside=list(aside.values()),
        anatomicals={image.stem: str(image.path) for image in anatomicals.values()},
        participants=participants,
        participants_file=str(root / "participants.tsv"),
        notes=list(dict.fromkeys(notes)),
    )


def note_participants_without_scan(participants: list[dict[str, str]], scanned: set[str], notes: list[str]) -> None:
    """Note who is in the table of participants and has no scan."""
    without = [row["participant_id"] for row in participants if row["participant_id"] not in scanned]
    if without:
        notes.append(
            f"{len(without)} of {len(participants)} participants in participants.tsv have no scan: {some_of(without)}"
        )


def some_of(names: list[str]) -> str:
    """The first eight of the names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _check_description(path: Path, problems: Problems) -> None:
    try:
        content = read_object(path)
    except InputError as error:
        inside = sorted(
            folder.name
            for folder in path.parent.iterdir()
            if (folder / path.name).is_file() and not folder.name.startswith(".")
        )
        hint = (
            f"; there is one in {', '.join(inside[:3])}: set dataset.bids_dir to that folder"
            if inside
            else "; every BIDS dataset has one: is this its root?"
        )
        problems.add(str(path), f"{error}{'' if path.is_file() and path.stat().st_size else hint}")
        return
    if content.get("DatasetType", "raw") != "raw":
        problems.add(
            str(path), f"DatasetType is {content['DatasetType']}; expected the raw dataset: set dataset.bids_dir to it"
        )


def runs_of(root: Path, images: list[Image], settings: Mapping[str, Any], problems: Problems) -> list[Image]:
    """BOLD runs of the task and session; one that is no plain run of its own becomes a problem."""
    bold = [image for image in images if image.suffix == "bold"]
    task, session = settings["task"], settings["session"]
    of_task = [
        image for image in bold if image.entities.get("task") == task and image.entities.get("part", "mag") == "mag"
    ]
    if not of_task:
        found = sorted({image.entities["task"] for image in bold if "task" in image.entities})
        seen = f"tasks found: {', '.join(found)}" if found else "no sub-*/[ses-*/]func/*_bold.nii[.gz] at all"
        problems.add(
            "dataset.task", f"no BOLD scan of task {task} in {root}; {seen}; set dataset.task{near_miss(task, found)}"
        )
        return []
    labels = sorted({image.session for image in of_task if image.session})
    if session is not None:
        runs = [image for image in of_task if image.session == session]
        if not runs:
            problems.add(
                "dataset.session",
                f"no scan of task {task} in session {session}; sessions found: {', '.join(labels) or 'none'}: set dataset.session",
            )
    else:
        runs = of_task
        mixed = {image.participant for image in runs if image.session} & {
            image.participant for image in runs if not image.session
        }
        if len(labels) > 1 or mixed:
            beside = f" and scans without a session of {some_of(sorted(mixed))}" if mixed else ""
            problems.add(
                "dataset.session",
                f"the scans of task {task} are of sessions {', '.join(labels)}{beside}; only scans from before treatment may be used: set dataset.session to one of them",
            )
    for run in runs:
        if "echo" in run.entities:
            problems.add(
                str(run.path),
                "one echo of a multi-echo scan; expected one image a run: combine the echoes first (e.g. with tedana)",
            )
        if {"space", "desc"} & run.entities.keys():
            problems.add(
                str(run.path),
                "a derivative (space- or desc- in its name) among raw scans; move it out of the raw dataset",
            )
    return runs


def scans_set_aside(
    bold: list[Image], runs: list[Image], names: list[str], problems: Problems
) -> dict[str, dict[str, str]]:
    """`scan` and `participant_id` of each run that `names` sets aside, by its name; a name of no scan is a problem."""
    stems = {image.stem for image in bold}
    for name in names:
        if name not in stems:
            near = difflib.get_close_matches(name, stems, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.add(
                "dataset.set_aside",
                f"no scan {name} in the dataset; expected names such as sub-01_task-rest_run-1{hint}",
            )
    aside = {run.stem: {"scan": run.stem, "participant_id": run.participant} for run in runs if run.stem in names}
    if runs and all(run.stem in aside for run in runs):
        problems.add(
            "dataset.set_aside", f"all {len(runs)} scans are set aside; expected scans to read: shorten the list"
        )
    return aside


def check_known(scanned: list[str], participants: list[dict[str, str]], table: Path, problems: Problems) -> None:
    """Add the participants who have a scan and no line in the table of participants."""
    known = {row["participant_id"] for row in participants}
    for participant in dict.fromkeys(scanned) if known else ():
        if participant not in known:
            same = next((name for name in known if _bare(name) == _bare(participant)), None)
            hint = f"; {same} there: is it the same person?" if same else ""
            problems.add(participant, f"has a scan but no line in {table}; add it, {SET_ASIDE}{hint}")


def _bare(participant: str) -> str:
    """The label as people confuse it: without case and leading zeros."""
    return participant.removeprefix("sub-").lstrip("0").lower()


def _anatomicals(runs: list[Image], t1w: list[Image], problems: Problems, notes: list[str]) -> dict[str, Image]:
    """The T1w image of each scan: of its session if there is one, else any of the participant's; of several the first by name."""
    chosen = {}
    by_participant: dict[str, list[Image]] = {}
    for image in t1w:
        by_participant.setdefault(image.participant, []).append(image)
    for run in runs:
        own = by_participant.get(run.participant, [])
        candidates = [image for image in own if image.session == run.session] or own
        if not candidates:
            problems.add(
                run.stem, f"no T1w image of its participant (sub-*/[ses-*/]anat/*_T1w.nii[.gz]); add it, {SET_ASIDE}"
            )
            continue
        chosen[run.stem] = candidates[0]
        if len(candidates) > 1:
            notes.append(
                f"{run.participant} has {len(candidates)} T1w images for {run.stem}; used: {candidates[0].path.name}"
            )
        if candidates[0].session != run.session:
            notes.append(f"{run.stem} has no T1w image of its session; used: {candidates[0].path.name}")
    for image in {image.stem: image for image in chosen.values()}.values():
        try:
            shape = read_header(image.path).shape
            if len(shape) != 3:
                problems.add(
                    str(image.path), f"{len(shape)} dimensions {shape}; expected a 3D T1w image: convert it again"
                )
        except InputError as error:
            problems.add(str(image.path), str(error))
    return chosen


def header_of_series(path: Path, problems: Problems) -> Header | None:
    """The header of a 4D image, or None where a problem was added."""
    try:
        header = read_header(path)
    except InputError as error:
        problems.add(str(path), f"{error}, {SET_ASIDE}")
        return None
    if len(header.shape) != 4:
        what = "a single volume" if len(header.shape) == 3 else f"{len(header.shape)} dimensions"
        problems.add(
            str(path), f"{what} (shape {header.shape}); expected a 4D BOLD series: convert it again, {SET_ASIDE}"
        )
        return None
    return header


def _row(
    run: Image,
    t1w: Image | None,
    sidecars: Sidecars,
    maps: FieldMaps,
    settings: Mapping[str, Any],
    unwarp: str,
    problems: Problems,
    notes: list[str],
) -> dict[str, Any] | None:
    """The scan's row, or None where a problem stands in its way."""
    header, sidecar = header_of_series(run.path, problems), None
    try:
        sidecar, files = sidecars.of(run.path.parent, f"{run.stem}_bold")
    except InputError as error:
        problems.add(run.stem, f"{error}, {SET_ASIDE}")
    else:
        if not files:
            problems.add(
                run.stem,
                f"no sidecar: neither {run.stem}_bold.json beside it nor one above it (task-{run.entities['task']}_bold.json); add it, {SET_ASIDE}",
            )
            sidecar = None
    if sidecar is None:
        return None
    tr = repetition_time(run.stem, sidecar, header, problems, notes)
    if header is None or tr is None:
        return None
    times, source = slice_timing(run.stem, sidecar, header, tr, settings["slice_timing"], problems, notes)
    encoding = _encoding(run, sidecar, header.shape, maps, unwarp, problems, notes)
    return {
        "scan": run.stem,
        "participant_id": run.participant,
        "session": run.session or MISSING,
        "task": run.entities["task"],
        "run": run.entities.get("run", MISSING),
        "bold": str(run.path),
        "space": MISSING,  # these three are of images that were preprocessed elsewhere
        "mask": MISSING,
        "confounds": MISSING,
        "anat": t1w.stem if t1w else MISSING,
        "t1w": str(t1w.path) if t1w else MISSING,
        "repetition_time": tr,
        "slice_timing": json.dumps(times) if times else MISSING,
        "slice_timing_source": source,
        **encoding,
        "n_volumes": header.shape[3],
        "set_aside": False,
    }


def _encoding(
    run: Image,
    sidecar: Mapping[str, Any],
    shape: tuple[int, ...],
    maps: FieldMaps,
    unwarp: str,
    problems: Problems,
    notes: list[str],
) -> dict[str, Any]:
    """The scan's columns on phase encoding and field map."""
    direction, troubles = sidecar.get("PhaseEncodingDirection"), []
    if direction not in DIRECTIONS:
        if unwarp not in ("auto", "none"):
            found = (
                "no PhaseEncodingDirection in its sidecars"
                if direction is None
                else f"PhaseEncodingDirection is {direction!r}"
            )
            troubles.append(
                f"{found}; expected one of {', '.join(DIRECTIONS)}, without which distortion cannot be corrected: add it, {SET_ASIDE}"
            )
        direction = None
    lines = None if direction is None else shape["ijk".index(direction[0])]
    readout = total_readout_time(sidecar, run.stem, troubles, lines)
    field_map = None
    if unwarp in ("auto", "fieldmap"):
        field_map, found, told = maps.of(run, sidecar)
        if field_map:  # nothing is missing: what is wrong is with others beside it
            notes += [f"{run.stem}: {trouble}" for trouble in found]
        else:
            troubles += found
        notes += told
        if field_map and readout is None:
            troubles.append(
                "it has a field map but neither TotalReadoutTime nor EffectiveEchoSpacing in its sidecars; expected the read-out's time in s: add it"
            )
        if not field_map and unwarp == "fieldmap":
            troubles.append(
                "functional.unwarp is fieldmap and there is no field map that names the scan in IntendedFor or B0FieldIdentifier: add it, "
                f"set functional.unwarp to auto, {SET_ASIDE}"
            )
    for trouble in troubles:
        if unwarp == "fieldmap" or (unwarp in ("registration", "motion") and direction is None):
            problems.add(run.stem, trouble)
        elif unwarp == "auto":
            notes.append(f"{run.stem}: {trouble}")
    return {
        "phase_encoding_direction": direction or MISSING,
        "total_readout_time": readout or MISSING,
        "fieldmap": json.dumps(field_map, sort_keys=True) if field_map else MISSING,
    }
