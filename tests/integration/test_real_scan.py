"""A real person's raw scan, whole head with neck, made by no one here: it must land on the template's brain."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.engines import TISSUES, masks
from restresponse.files import read_json
from restresponse.functional.preprocess import preprocess_scan

VOXEL_SIZE = 4


def test_own_brain_mask_of_a_real_scan_lies_on_the_templates_brain(shared_data: Path, tmp_path: Path):
    person = shared_data / "pumi-minitest" / "sub-001"
    names = ("T1w", "brain_mask", *TISSUES, "warp", "T1w_MNI", *(f"{tissue}_MNI" for tissue in TISSUES))
    anatomical = {name: tmp_path / f"{name}.nii.gz" for name in names}
    anatomical |= {"affine": tmp_path / "affine.mat", "record": tmp_path / "anatomical.json"}
    normalise_anatomical(
        person / "anat" / "sub-001_T1w.nii.gz",
        anatomical,
        engine="embedded",
        bias_correction=True,
        segmentation_iterations=20,
        voxel_size=VOXEL_SIZE,
    )
    record = read_json(anatomical["record"])
    assert record["status"] == "done", record["reason"]
    assert record["quality"]["template_dice"] > 0.93
    assert record["quality"]["template_correlation"] > 0.75
    assert record["quality"]["grey_matter_dice"] > 0.8
    volumes = {step["step"]: step["parameters"].get("volume_ml") for step in record["steps"]}
    assert 1000 < volumes["brain extraction"] < 1700  # of an adult's brain; with skull and neck it would be above 3000

    sidecar = json.loads((person / "func" / "sub-001_task-rest_bold.json").read_text())
    functional = {"image": "bold.nii.gz", "mask": "mask.nii.gz", "confounds": "confounds.tsv"}
    functional |= {"confounds_facts": "confounds.json", "record": "functional.json"}
    functional = {name: tmp_path / file for name, file in functional.items()}
    preprocess_scan(
        person / "func" / "sub-001_task-rest_bold.nii.gz",
        anatomical,
        functional,
        repetition_time=sidecar["RepetitionTime"],
        slice_times=sidecar["SliceTiming"],
        engine="embedded",
        voxel_size=VOXEL_SIZE,
        slice_timing=True,
        smoothing_fwhm=5,
    )
    record = read_json(functional["record"])
    assert record["status"] == "done", record["reason"]
    brain = grid.brain_mask(VOXEL_SIZE)
    own = np.asarray(nib.load(functional["mask"]).dataobj) > 0
    assert masks.dice(own, brain) > 0.85
    series = np.asarray(nib.load(functional["image"]).dataobj)
    assert series.shape == (*brain.shape, 20)
    mean = series.mean(axis=3)
    # grey matter is brighter than white in an EPI: an image off by a gyrus does not show it
    grey, white = (grid.template_image(tissue, VOXEL_SIZE) > 0.9 for tissue in ("GM", "WM"))
    assert mean[grey].mean() > 1.03 * mean[white].mean()
