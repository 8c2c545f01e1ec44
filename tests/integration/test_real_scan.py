"""A real person's raw scan, whole head with neck, made by no one here: it must land on the template's brain.

The phantom's anatomy is made from the template that it is normalised to; this head is not.
"""

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
    shares = {name: np.asarray(nib.load(anatomical[f"{name}_MNI"]).dataobj) for name in TISSUES}
    template = {name: grid.template_image(name, VOXEL_SIZE) for name in ("T1w", "GM", "WM", "brain")}
    template["CSF"] = np.clip(template["brain"] - template["GM"] - template["WM"], 0, 1)
    found = {name: masks.dice(shares[name] > 0.5, template[name] > 0.5) for name in TISSUES}
    print("Dice with the template", found)
    assert (
        found["GM"] > 0.8 and found["WM"] > 0.75 and found["CSF"] > 0.35
    )  # a person's own sulci are not the average's
    _comes_to_rest_on(np.asarray(nib.load(anatomical["T1w_MNI"]).dataobj), template, 0.6, "T1w")
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
        unwarp="registration",
        phase_encoding_direction=sidecar["PhaseEncodingDirection"],
    )
    record = read_json(functional["record"])
    assert record["status"] == "done", record["reason"]
    # the scan's field map shows 0.6 mm on average, an eighth of a voxel; a field found in the images would be off by more
    unwarping = next(step for step in record["steps"] if step["step"] == "unwarping")
    print("gain of a field along the phase-encoding axis and along another", unwarping["parameters"])
    assert unwarping["tool"] == "none"
    assert unwarping["parameters"]["gain"] < 1.5 * unwarping["parameters"]["gain_without_distortion"]
    brain = grid.brain_mask(VOXEL_SIZE)
    own = np.asarray(nib.load(functional["mask"]).dataobj) > 0
    assert masks.dice(own, brain) > 0.85
    series = np.asarray(nib.load(functional["image"]).dataobj)
    assert series.shape == (*brain.shape, 20)
    mean = series.mean(axis=3)
    # grey matter is brighter than white in an EPI: an image off by a gyrus does not show it
    grey, white = (grid.template_image(tissue, VOXEL_SIZE) > 0.9 for tissue in ("GM", "WM"))
    assert mean[grey].mean() > 1.03 * mean[white].mean()
    _comes_to_rest_on(mean, template, 0.2, "EPI")


def _comes_to_rest_on(image: np.ndarray, template: dict[str, np.ndarray], least: float, name: str) -> None:
    """The image shares the most information with the template where it is, and less a voxel away in any direction."""
    brain = template["brain"] >= 0.5
    here = _mutual_information(image, template["T1w"], brain)
    away = {
        (axis, step): _mutual_information(np.roll(image, step, axis), template["T1w"], brain)
        for axis in range(3)
        for step in (-1, 1)
    }
    print(
        f"mutual information of the {name} with the template {here:.3f}, moved by a voxel at most {max(away.values()):.3f}"
    )
    assert here > least
    assert all(here > moved for moved in away.values()), away


def _mutual_information(first: np.ndarray, second: np.ndarray, mask: np.ndarray, bins: int = 32) -> float:
    """Mutual information in nats of two images inside a mask, from a joint histogram of equally filled bins."""
    codes = []
    for values in (first[mask], second[mask]):
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
        codes.append(np.searchsorted(edges, values))
    joint = np.bincount(codes[0] * bins + codes[1], minlength=bins * bins).reshape(bins, bins) / mask.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / independent[filled])).sum())
