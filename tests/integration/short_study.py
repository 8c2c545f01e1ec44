"""A study that runs in seconds: four made-up scans in MNI space, taken over, denoised and measured; group ICA and dual regression."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from restresponse.files import write_image, write_table
from restresponse.grid import brain_mask, grid

PARTICIPANTS = [f"sub-{number:02d}" for number in range(1, 5)]
VOXEL_SIZE, VOLUMES, ORDER = 12, 60, 3
SETTINGS = {
    "batch": 2,
    "dataset": {"bids_dir": None, "derivatives": "preprocessed"},
    "functional": {
        "voxel_size": VOXEL_SIZE,
        "smoothing_fwhm": 0,
        "denoising": {"wm_components": 0, "csf_components": 0, "motion_parameters": 6}
        | dict.fromkeys(("outlier_displacement", "outlier_global_signal")),
    },
    "quality": {"minimum_dof": 3},
    "folds": {"n_folds": 2},
    "group_ica": {"n_components": ORDER, "reduction": 8, "restarts": 2},
    "classifier": {"inner_folds": 2, "arms": {"asc": {"models": ["linear"]}, "ssc": None, "rsp": None}},
}
GROUP = f"results/group_ica/all/order-{ORDER}"
MAPS = [f"results/dual_regression/all/order-{ORDER}/asc/batch-{number:02d}" for number in (1, 2)]
TARGETS = [f"{GROUP}/components.npy", *MAPS]


def write_study(folder: Path) -> Path:
    """The images with their masks and confounds, the table of participants, and the config `study.yaml`. Images are links."""
    random = np.random.default_rng(0)
    brain, (shape, affine) = brain_mask(VOXEL_SIZE), grid(VOXEL_SIZE)
    sources = random.laplace(size=(ORDER, int(brain.sum()))) ** 3
    sources /= sources.std(axis=1, keepdims=True)
    root, store = folder / "preprocessed", folder / "store"
    rows = ["participant_id\tpain_pre\tpain_post"]
    for number, name in enumerate(PARTICIPANTS):
        rows.append(f"{name}\t8\t{2 if number % 2 else 8}")
        courses = random.normal(size=(VOLUMES, ORDER)).cumsum(axis=0)
        courses = (courses - courses.mean(axis=0)) / courses.std(axis=0)
        series = np.zeros((*shape, VOLUMES), np.float32)
        series[brain] = (1000 + 10 * (courses @ sources + random.normal(size=(VOLUMES, sources.shape[1])))).T
        func = root / name / "func"
        func.mkdir(parents=True)
        for kind, data in (("preproc_bold", series), ("brain_mask", brain)):
            file = f"{name}_task-rest_space-MNI152_desc-{kind}.nii.gz"
            write_image(store / file, data, affine, repetition_time=2.6 if data.ndim == 4 else None)
            (func / file).symlink_to(store / file)
        moved = pd.DataFrame(
            {f"{kind}_{axis}": 0.001 * random.normal(size=VOLUMES) for kind in ("trans", "rot") for axis in "xyz"}
        )
        write_table(func / f"{name}_task-rest_desc-confounds_timeseries.tsv", moved)
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "short", "DatasetType": "derivative"}))
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def digests(folder: Path, *parts: str) -> dict[str, str]:
    """Digest of every file below parts of a folder, by path; what differs from run to run by nature is left out."""
    found = {}
    for part in parts:
        root = folder / part
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # a job that lives on may rename it
                if path.is_file():
                    found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
