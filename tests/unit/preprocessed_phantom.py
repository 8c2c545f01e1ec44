"""One phantom participant at the demo's size, preprocessed once for the tests of `anatomical` and `functional`."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from engine_watch import voxels_in_interfaces_alone

from restresponse.anatomical import normalise_anatomical
from restresponse.engines import TISSUES
from restresponse.engines.embedded import Embedded
from restresponse.files import write_json
from restresponse.functional.preprocess import preprocess_scan
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings

PARTICIPANT = "sub-01"
VOXEL_SIZE = 4
ANATOMICAL = {"engine": "embedded", "bias_correction": True, "segmentation_iterations": 20, "voxel_size": VOXEL_SIZE}
FUNCTIONAL = {"engine": "embedded", "voxel_size": VOXEL_SIZE, "slice_timing": True, "smoothing_fwhm": 5}
FUNCTIONAL |= {"unwarp": "auto", "phase_encoding_direction": "j-"}


def anatomical_outputs(folder: Path) -> dict[str, Path]:
    """Paths of the outputs of `normalise_anatomical` in a folder."""
    names = ("T1w", "brain_mask", *TISSUES, "warp", "T1w_MNI", *(f"{tissue}_MNI" for tissue in TISSUES))
    outputs = {name: folder / f"{name}.nii.gz" for name in names}
    return outputs | {"affine": folder / "affine.mat", "record": folder / "anatomical.json"}


def functional_outputs(folder: Path) -> dict[str, Path]:
    """Paths of the outputs of `preprocess_scan` in a folder."""
    outputs = {"image": "bold.nii.gz", "mask": "mask.nii.gz", "confounds": "confounds.tsv"}
    outputs |= {"confounds_facts": "confounds.json", "record": "functional.json"}
    return {name: folder / file for name, file in outputs.items()}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bids`, `bids_truth` and, in `results`, what preprocessing made of them; made once in a session.

    While it is made, the engine is watched; `steps.json` has the names of its steps that were run.
    """
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "preprocessed_phantom"
    with (folder.parent / "preprocessed_phantom.lock").open("w") as lock:  # held by the worker that makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "steps.json").exists():
            _preprocess(folder)
    return folder


def _preprocess(folder: Path) -> None:
    make_cohort(folder / "bids", CohortSettings(participants=1, responders=1, volumes=60, seed=11))
    with voxels_in_interfaces_alone(Embedded) as seen:
        preprocess_again(folder, folder / "results")
    write_json(folder / "steps.json", sorted(seen))


def preprocess_again(folder: Path, results: Path) -> None:
    """Preprocess the participant of `folder` into `results`."""
    bids = folder / "bids" / PARTICIPANT
    sidecar = json.loads((bids / "func" / f"{PARTICIPANT}_task-rest_bold.json").read_text())
    normalise_anatomical(bids / "anat" / f"{PARTICIPANT}_T1w.nii.gz", anatomical_outputs(results), **ANATOMICAL)
    preprocess_scan(
        bids / "func" / f"{PARTICIPANT}_task-rest_bold.nii.gz",
        anatomical_outputs(results),
        functional_outputs(results),
        repetition_time=sidecar["RepetitionTime"],
        slice_times=sidecar["SliceTiming"],
        **FUNCTIONAL,
    )


def noise_image(path: Path, shape: tuple[int, ...], affine: np.ndarray | None = None) -> Path:
    """Write an image of uniform noise with voxels of 3 x 3 x 4 mm, or of another affine."""
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    nib.Nifti1Image(data, np.diag([3.0, 3, 4, 1]) if affine is None else affine).to_filename(path)
    return path


def noise_anatomical(folder: Path) -> dict[str, Path]:
    """Outputs of `normalise_anatomical` that say they are done and hold noise, for a scan that fails before it needs more."""
    outputs = anatomical_outputs(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in outputs.items():
        if path.suffix == ".gz":
            noise_image(path, (8, 8, 8, 1, 3) if name == "warp" else (8, 8, 8))
    np.savetxt(outputs["affine"], np.eye(4))
    write_json(outputs["record"], {"status": "done", "reason": None})
    return outputs
