"""The made-up cohort of the fabricated results: its config, its tables, its scans with their records and quality measures.

14 participants, the first seven of them responders. sub-13's scan failed, sub-14 has no label, one scan of sub-02 was
set aside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from restresponse.files import write_array, write_image, write_json, write_table
from restresponse.grid import brain_mask, grid
from restresponse.layout import denoised_files, functional_files
from restresponse.quality.inclusion import decide_inclusion

ROOT = Path(__file__).resolve().parents[2]
PARTICIPANTS = [f"sub-{number:02d}" for number in range(1, 15)]
RESPONDERS = set(PARTICIPANTS[:7])
FAILED, UNLABELLED = "sub-13", "sub-14"
REASON = "the image is truncated: 1000 of 5000 bytes; expected a whole file: copy it again"
UNWARPED = (
    "Susceptibility distortion was corrected with the field map: the signal was moved along the phase-encoding axis."
)
WARPED = "Susceptibility distortion was not corrected (there is no field map for the scan)."  # of the first participant
VOXEL_SIZE, ORDER, N_VOLUMES = 12, 4, 40


def batch_of(batches: dict[str, list[str]], participant: str) -> str:
    """The batch of a participant."""
    return next(batch for batch, members in batches.items() if participant in members)


def scan_of(participant: str) -> str:
    """Name of the participant's one scan."""
    return f"{participant}_task-rest"


def tiny_config() -> dict[str, Any]:
    """The repository's config, made small: two folds, four components, one network and one linear model."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["functional"]["voxel_size"] = VOXEL_SIZE
    config["folds"]["n_folds"] = 2
    config["batch"] = 5
    config["group_ica"] |= {"n_components": ORDER, "reduction": 10, "restarts": 3}
    config["quality"] |= {"minimum_dof": 5}
    config["classifier"]["inner_folds"] = 2
    config["classifier"]["arms"] = {
        "asc": {"input": "components", "select": False, "models": ["voxnet", "linear"]},
        "ssc": {"input": "components", "select": True, "p": 0.1, "maps": "refit", "models": ["voxnet", "linear"]},
        "rsp": {"input": "volumes", "volumes": 20, "models": ["voxnet"]},
    }
    config["metrics"] |= {"resamples": 200, "explanation": False}
    return config


def write_dataset() -> None:
    """The tables of scans, participants and labels."""
    rng = np.random.default_rng(1)
    scans = [
        {
            "scan": scan_of(name),
            "participant_id": name,
            "repetition_time": 2.6,
            "n_volumes": N_VOLUMES,
            "set_aside": False,
        }
        for name in PARTICIPANTS
    ]
    aside = {"scan": "sub-02_task-rest_run-2", "participant_id": "sub-02", "set_aside": True}
    write_table("results/dataset/scans.tsv", pd.DataFrame([*scans, aside]))
    people = pd.DataFrame(
        {
            "participant_id": PARTICIPANTS,
            "included": True,
            "age": rng.integers(40, 75, len(PARTICIPANTS)).astype(float),
            "sex": ["FM"[number % 2] for number in range(len(PARTICIPANTS))],
            "pain_pre": rng.integers(5, 10, len(PARTICIPANTS)),
        }
    )
    people.loc[3, "age"] = np.nan
    write_table("results/dataset/participants.tsv", people)
    labelled = [name for name in PARTICIPANTS if name != UNLABELLED]
    response = [int(name in RESPONDERS) for name in labelled]
    change = [60.0, 55.0, 45.0, 70.0, np.nan, 65.0, 40.0, 5.0, 10.0, 25.0, 0.0, -10.0, 15.0]  # sub-05's is not known
    write_table(
        "results/dataset/labels.tsv",
        pd.DataFrame({"participant_id": labelled, "response": response, "pain_change": change}),
    )


def write_scans(batches: dict[str, list[str]]) -> None:
    """Masks, denoised images, records, quality measures, and the decisions."""
    brain, (shape, affine) = brain_mask(VOXEL_SIZE), grid(VOXEL_SIZE)
    write_image("results/quality/group_mask.nii.gz", brain, affine)
    rng, noise = np.random.default_rng(2), np.random.default_rng(3)
    sources = rng.laplace(size=(ORDER, int(brain.sum()))) ** 3
    sources /= sources.std(axis=1, keepdims=True)
    measures = []
    for name in PARTICIPANTS:
        scan = scan_of(name)
        folder = Path(f"results/functional/{scan}")
        cleaned = Path(f"results/functional/denoised/{batch_of(batches, name)}")
        failed = REASON if name == FAILED else None
        status = {"status": "failed" if failed else "done", "reason": failed}
        done = ["Volumes were realigned to the first by a rigid transform."]
        done += [WARPED if name == PARTICIPANTS[0] else UNWARPED]
        write_json(folder / f"{scan}.json", {"scan": scan, **status, "methods": [] if failed else done})
        dof = {"n_volumes": N_VOLUMES, "dof_bandpass": 30, "dof_residual": 24, "n_outliers": 1}
        sentence = f"Denoising took out 6 motion parameters, which left 24 of {N_VOLUMES} degrees of freedom."
        write_json(
            cleaned / f"{scan}_desc-denoised.json",
            {"scan": scan, **status, "methods": [] if failed else [sentence], **(dof if not failed else {})},
        )
        anatomical = {"status": "done", "reason": None, "methods": ["The T1w image was corrected for bias (N4)."]}
        write_json(f"results/anatomical/{name}/{name}.json", anatomical)
        displacement = np.abs(rng.normal(0.1, 0.05, N_VOLUMES))
        numbers = {
            "mean_framewise_displacement": displacement.mean(),
            "maximum_framewise_displacement": displacement.max(),
            "mean_dvars": 20.0,
            "mean_std_dvars": 1.1,
            "tsnr": 60.0,
            "coverage": 0.97,
            "overlap": 0.91,
            **dof,
        }
        path = Path(f"results/quality/scans/{batch_of(batches, name)}/{scan}.json")
        content = {"scan": scan, "participant_id": name, "status": status["status"], "failed": failed}
        write_json(path, content | (dict.fromkeys(numbers) if failed else numbers))
        measures.append(path)
        image = Path(denoised_files(cleaned, scan)["image"])
        confounds = functional_files(folder, scan)["confounds"]
        write_table(confounds, pd.DataFrame({"global_signal": 100 + noise.normal(size=N_VOLUMES)}))
        if failed:
            image.write_bytes(b"")
            continue
        strength = np.ones(ORDER) + 0.1 * rng.normal(size=ORDER)
        strength[0] += 0.5 * (name in RESPONDERS)
        courses = np.cumsum(rng.normal(size=(N_VOLUMES, ORDER)), axis=0)
        courses = (courses - courses.mean(axis=0)) / courses.std(axis=0)
        values = (courses * strength) @ sources + rng.normal(size=(N_VOLUMES, sources.shape[1]))
        series = np.zeros((*shape, N_VOLUMES), np.float32)
        series[brain] = values.T
        write_image(image, series, affine, repetition_time=2.6)
        volumes = Path(f"results/classifier/volumes/{batch_of(batches, name)}/{name}.npy")
        write_array(volumes, values[: 12 if name == "sub-04" else 20].astype(np.float32))
    decide_inclusion(
        measures,
        "results/quality/inclusion.tsv",
        settings=tiny_config()["quality"],
        minimum_dof=5,
        set_aside=[("sub-02_task-rest_run-2", "sub-02")],
    )
