"""FSL itself on the small phantom: what was planted is found again. Not run, and said so, where FSL is not installed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from engine_watch import voxels_in_interfaces_alone
from preprocessed_phantom import ANATOMICAL, FUNCTIONAL, PARTICIPANT, anatomical_outputs, functional_outputs

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.engines import TISSUES, fsl_installation, masks, motion, warps
from restresponse.engines.fsl import Fsl
from restresponse.errors import InputError
from restresponse.files import read_json, read_table
from restresponse.functional.confounds import MOTION
from restresponse.functional.preprocess import preprocess_scan
from restresponse.phantom.anatomy import sampled, tissue_template
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings
from restresponse.phantom.truth import read_truth

pytestmark = pytest.mark.slow
STEPS = ("brain extraction", "bias correction", "normalisation", "segmentation")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bids`, `bids_truth` and, in `results`, what the engine on FSL made of them."""
    try:
        fsl_installation.check()
    except InputError as error:
        pytest.skip(f"THE ENGINE fsl WAS NOT RUN on the phantom: {error}")
    folder = tmp_path_factory.mktemp("fsl chain")  # a space, as users' folders have them
    make_cohort(folder / "bids", CohortSettings(participants=1, responders=1, volumes=60, seed=11))
    bids, results = folder / "bids" / PARTICIPANT, folder / "results"
    sidecar = json.loads((bids / "func" / f"{PARTICIPANT}_task-rest_bold.json").read_text())
    settings = {"engine": "fsl", "engine_settings": {"nonlinear": True}}
    with voxels_in_interfaces_alone(Fsl) as seen:
        normalise_anatomical(
            bids / "anat" / f"{PARTICIPANT}_T1w.nii.gz", anatomical_outputs(results), **ANATOMICAL | settings
        )
        preprocess_scan(
            bids / "func" / f"{PARTICIPANT}_task-rest_bold.nii.gz",
            anatomical_outputs(results),
            functional_outputs(results),
            repetition_time=sidecar["RepetitionTime"],
            slice_times=sidecar["SliceTiming"],
            **FUNCTIONAL | settings,
        )
    assert {"brain_extract", "normalise", "segment", "realign", "unwarp_by_registration", "resample", "smooth"} <= seen
    return folder


def test_fsl_brings_the_t1w_to_the_template(chain):
    outputs, truth = anatomical_outputs(chain / "results"), read_truth(chain / "bids_truth", PARTICIPANT)
    record = read_json(outputs["record"])
    assert record["status"] == "done", record["reason"]
    assert tuple(step["step"] for step in record["steps"]) == STEPS
    assert record["quality"]["template_dice"] > 0.93
    brain, (_, fine) = grid.brain_mask(8), grid.grid(2)
    points = warps.world_of(np.argwhere(brain).astype(float), grid.grid(8)[1])
    field = warps.field_of(np.asarray(nib.load(outputs["warp"]).dataobj))
    found = warps.world_of(points + warps.sample(field, fine, points), np.loadtxt(outputs["affine"]))
    error = np.linalg.norm(found - truth.mni_to_t1w(points.T).T, axis=1)
    print(f"fsl: normalisation error {error.mean():.2f} mm, quality {record['quality']}")
    assert error.mean() < 1.0
    image = nib.load(outputs["brain_mask"])
    planted, _ = sampled(truth.warp, tissue_template(), image.shape, image.affine)
    found = {
        name: masks.dice(np.asarray(nib.load(outputs[name]).dataobj) > 0.5, planted[..., number] > 0.5)
        for number, name in enumerate(TISSUES)
    }
    print(f"fsl: Dice with the planted tissues {found}")
    assert found["GM"] > 0.85 and found["WM"] > 0.85 and found["CSF"] > 0.75
    grey = np.asarray(nib.load(outputs["GM_MNI"]).dataobj) > 0.5
    assert masks.dice(grey, grid.template_image("GM", ANATOMICAL["voxel_size"]) > 0.5) > 0.75


def test_fsl_finds_motion_and_coregistration(chain):
    outputs, truth = functional_outputs(chain / "results"), read_truth(chain / "bids_truth", PARTICIPANT)
    record = read_json(outputs["record"])
    assert record["status"] == "done", record["reason"]
    table = read_table(outputs["confounds"], text_columns=())
    difference = (table[list(MOTION)].to_numpy(float) - truth.motion)[~truth.jerk]
    offset = difference.mean(axis=0)
    root = np.sqrt(((difference - offset) ** 2).mean(axis=0))
    print(f"fsl: motion error {root[:3]} mm, {np.rad2deg(root[3:])} deg")
    assert (root[:3] < 0.05).all() and (np.rad2deg(root[3:]) < 0.05).all()

    points = warps.world_of(np.argwhere(grid.brain_mask(12)).astype(float), grid.grid(12)[1])
    in_t1w = truth.mni_to_t1w(points.T).T
    reference = motion.matrices_of(-offset[None], truth.centre)[0]
    planted = warps.world_of(warps.world_of(in_t1w, truth.coregistration), reference)
    found = warps.world_of(in_t1w, np.array(record["coregistration"]))
    error = np.linalg.norm(found - planted, axis=1).mean()
    print(f"fsl: coregistration error {error:.2f} mm")
    assert error < 1.0


def test_the_planted_networks_come_through_fsl(chain):
    outputs, truth = functional_outputs(chain / "results"), read_truth(chain / "bids_truth", PARTICIPANT)
    data = np.asarray(nib.load(outputs["image"]).dataobj, np.float32)
    maps, affine = truth.networks()
    shape, target = grid.grid(FUNCTIONAL["voxel_size"])
    table = read_table(outputs["confounds"], text_columns=())
    nuisance = np.column_stack([np.ones(60), np.arange(60), table[list(MOTION)].to_numpy(float)])
    explained = []
    for network in range(maps.shape[3]):
        planted = grid.resample(maps[..., network], affine, shape, target)
        signal = data[planted > 0.5 * planted.max()].mean(axis=0)
        course = truth.time_courses_middle[:, network]
        left = [values - nuisance @ np.linalg.lstsq(nuisance, values, rcond=None)[0] for values in (signal, course)]
        explained.append(np.corrcoef(*left)[0, 1])
    print(f"fsl: median correlation with the planted time courses {np.median(explained):.2f}")
    assert np.median(explained) > 0.6
