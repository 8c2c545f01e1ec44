"""The whole cohort: tables, participants one by one or several at once, and the files that say it is whole, last."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import re
from pathlib import Path
from typing import Any

import numpy as np

from restresponse import __version__
from restresponse.errors import InputError
from restresponse.files import read_json, write_json, write_table, write_text
from restresponse.networks import network_names
from restresponse.phantom.field_maps import field_map_files
from restresponse.phantom.networks import group_maps
from restresponse.phantom.participant import generator_of, make_participant, write_maps
from restresponse.phantom.settings import EFFECT_SIGNS, RESPONSE_THRESHOLD, CohortSettings

_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{8}-")

_README = """Synthetic resting-state cohort
==============================

Made by restresponse.phantom: {participants} participants, {responders} of them responders to a treatment (a fall of pain of at
least 30 %). No person's data are in it. Heads are the MNI152 template under a random warp; the BOLD series hold 8 planted networks.
What was planted is not in this folder but beside it.

Made with: python -m restresponse.phantom {command}
"""


def make_cohort(bids: str | Path, settings: CohortSettings, truth: str | Path | None = None, jobs: int = 1) -> bool:
    """Write the cohort to `bids` and its truth to `truth` (default: `bids` with `_truth` behind its name).

    A cohort of the same arguments that is already whole is left as it is; one that was cut short is completed.

    Returns
    -------
    made : bool, False where the cohort was already there

    Raises
    ------
    InputError
        If either folder holds anything else, or the truth would lie inside the BIDS folder.
    """
    bids = Path(bids)
    truth = bids.with_name(f"{bids.name}_truth") if truth is None else Path(truth)
    if truth.resolve().is_relative_to(bids.resolve()):
        raise InputError(
            f"the truth folder {truth} lies inside the BIDS folder {bids}; give one outside it with --truth"
        )
    if _is_whole(bids, truth, settings):
        return False
    write_json(truth / "arguments.json", settings.record())
    responders = draw_response(settings)
    tasks = [
        (bids, truth, name, index, bool(responders[index]), settings)
        for index, name in enumerate(participant_names(settings))
        if not _is_done(bids, truth, name, settings)
    ]
    for task in tasks:
        _clear_temporaries(bids / task[2], truth / task[2])
    if jobs > 1 and len(tasks) > 1:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
            for future in concurrent.futures.as_completed([pool.submit(make_participant, *task) for task in tasks]):
                future.result()
    else:
        for task in tasks:
            make_participant(*task)
    _write_tables(bids, settings, responders)
    maps, affine = group_maps(settings.truth_voxel_size)
    write_maps(truth / "group_maps.nii.gz", maps, affine)
    write_json(
        truth / "cohort.json",
        {
            "arguments": settings.record(),
            "networks": list(network_names()),
            "effect": settings.effect,
            "effect_on": settings.effect_on,
            "effect_signs": EFFECT_SIGNS if settings.effect > 0 else {},
            "responders": {name: bool(responders[index]) for index, name in enumerate(participant_names(settings))},
        },
    )
    _write_description(bids, settings)
    return True


def participant_names(settings: CohortSettings) -> list[str]:
    """`sub-01` and so on; three digits from 100 participants on."""
    width = max(2, len(str(settings.participants)))
    return [f"sub-{number:0{width}d}" for number in range(1, settings.participants + 1)]


def draw_response(settings: CohortSettings) -> np.ndarray:
    """Who responds: (N,) bool, in random order."""
    order = np.random.default_rng([settings.seed, 999_983]).permutation(settings.participants)
    return order < settings.responders


def participants_table(settings: CohortSettings, responders: np.ndarray) -> list[dict[str, Any]]:
    """Age, sex and pain before and after; the fall of pain agrees with the 30 % rule, and nothing else knows the group."""
    rows = []
    for index, name in enumerate(participant_names(settings)):
        generator = generator_of(settings.seed, index, "table")
        age = int(np.clip(np.rint(generator.normal(61, 9)), 35, 85))
        sex = "F" if generator.random() < 0.45 else "M"
        before = round(float(generator.uniform(4.0, 9.5)), 1)
        share = generator.random()
        fall = 0.36 + 0.49 * share if responders[index] else -0.12 + 0.36 * share
        after = round(min(10.0, before * (1 - fall)), 1)
        rows.append({"participant_id": name, "age": age, "sex": sex, "pain_pre": before, "pain_post": after})
    return rows


def _is_whole(bids: Path, truth: Path, settings: CohortSettings) -> bool:
    """Whether the cohort is there; refuses folders that hold another one or anything else."""
    occupied = [
        folder for folder in (bids, truth) if folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    ]
    if not occupied:
        return False
    marker = truth / "arguments.json"
    remedy = f"give an empty folder, or remove {' and '.join(str(folder) for folder in occupied)}"
    if not marker.is_file():
        raise InputError(
            f"{occupied[0]} is not empty and {marker} does not say that it is a cohort of this generator; {remedy}"
        )
    stored, wanted = read_json(marker), settings.record()
    if stored != wanted:
        differing = [
            f"{key} {stored.get(key)!r} instead of {value!r}"
            for key, value in wanted.items()
            if stored.get(key) != value
        ]
        raise InputError(f"{occupied[0]} holds a cohort made with other arguments ({'; '.join(differing)}); {remedy}")
    whole = all(_is_done(bids, truth, name, settings) for name in participant_names(settings))
    return whole and (bids / "dataset_description.json").is_file() and (truth / "cohort.json").is_file()


def _is_done(bids: Path, truth: Path, name: str, settings: CohortSettings) -> bool:
    images = ("anat", "T1w"), ("func", "task-rest_bold")
    files = [
        bids / name / kind / f"{name}_{image}{ending}" for kind, image in images for ending in (".nii.gz", ".json")
    ]
    files += [
        bids / name / "fmap" / f"{image}{ending}"
        for image in field_map_files(settings.field_map, name)
        for ending in (".nii.gz", ".json")
    ]
    return all(file.is_file() for file in (*files, truth / name / "participant.json"))


def _clear_temporaries(*folders: Path) -> None:
    """Remove what a killed run left half-written."""
    for folder in folders:
        for path in folder.rglob(".*") if folder.is_dir() else ():
            if path.is_file() and _TEMPORARY.match(path.name):
                path.unlink()


def _write_tables(bids: Path, settings: CohortSettings, responders: np.ndarray) -> None:
    import pandas as pd

    write_table(bids / "participants.tsv", pd.DataFrame(participants_table(settings, responders)))
    scale = "0 (none) to 10 (worst imaginable), numeric rating"
    write_json(
        bids / "participants.json",
        {
            "age": {"Description": "Age", "Units": "year"},
            "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
            "pain_pre": {"Description": f"Pain before treatment: {scale}"},
            "pain_post": {
                "Description": f"Pain after treatment: {scale}; responders fall by at least {RESPONSE_THRESHOLD:g} %"
            },
        },
    )


def _write_description(bids: Path, settings: CohortSettings) -> None:
    record = settings.record()
    sizes = " ".join(f"{size:g}" for size in record.pop("bold_voxel_size"))
    record.pop("version")
    command = " ".join(
        ["OUT", f"--bold-voxel-size {sizes}", *(f"--{key.replace('_', '-')} {value}" for key, value in record.items())]
    )
    text = _README.format(participants=settings.participants, responders=settings.responders, command=command)
    write_text(bids / "README", text)
    write_json(
        bids / "dataset_description.json",
        {
            "Name": "Synthetic resting-state cohort with known truth",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": ["restresponse.phantom"],
            "GeneratedBy": [{"Name": "restresponse.phantom", "Version": __version__}],
        },
    )
