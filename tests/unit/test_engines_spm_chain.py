"""SPM itself on a small phantom: what was planted is found again. Not run, and said so, where SPM's command is not named.

Name the command in RESTRESPONSE_SPM_COMMAND (and SPM's folder in RESTRESPONSE_SPM_FOLDER, where it is MATLAB's or the
tissue maps are not found by SPM).
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from engine_watch import voxels_in_interfaces_alone
from preprocessed_phantom import ANATOMICAL, FUNCTIONAL, PARTICIPANT, anatomical_outputs, functional_outputs
from preprocessed_phantom import noise_image as _image
from real_spm import COMMAND, REAL

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.engines import TISSUES, EngineFailure, PhaseEncoding, engine, masks, motion, warps
from restresponse.engines.spm import Spm
from restresponse.files import read_json
from restresponse.functional.preprocess import preprocess_scan
from restresponse.phantom.anatomy import sampled, tissue_template
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings
from restresponse.phantom.truth import read_truth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not COMMAND, reason="SPM itself was not run: RESTRESPONSE_SPM_COMMAND does not name its command"
    ),
]


@pytest.fixture(autouse=True)
def _watched():
    with voxels_in_interfaces_alone(Spm):
        yield


@pytest.mark.parametrize(
    ("priors", "worst", "least"), [("template", 2.5, (0.88, 0.88, 0.6)), ("spm", 5.0, (0.78, 0.8, 0.4))]
)
def test_spm_itself_finds_motion_place_and_tissues_again(tmp_path, priors, worst, least):
    """The whole chain on a small phantom: 12 volumes of 5 mm, T1w of 3 mm, where SPM's deformation is stiff."""
    size = CohortSettings(
        participants=1, responders=1, volumes=12, bold_voxel_size=(5, 5, 5), t1w_voxel_size=3, motion=2, seed=5
    )
    make_cohort(tmp_path / "bids", size)
    bids, results = tmp_path / "bids" / PARTICIPANT, tmp_path / "results"
    truth = read_truth(tmp_path / "bids_truth", PARTICIPANT)
    sidecar = json.loads((bids / "func" / f"{PARTICIPANT}_task-rest_bold.json").read_text())
    outputs, scan = anatomical_outputs(results), functional_outputs(results)
    engines = {"engine": "spm", "engine_settings": REAL | {"priors": priors}}
    normalise_anatomical(bids / "anat" / f"{PARTICIPANT}_T1w.nii.gz", outputs, **ANATOMICAL | engines)
    record = read_json(outputs["record"])
    assert record["status"] == "done", record["reason"]
    assert (
        record["quality"]["template_dice"] > 0.9 and record["quality"]["grey_matter_dice"] > 0.7
    )  # SPM's space is not quite the template's
    assert all(step["version"] for step in record["steps"])

    preprocess_scan(
        bids / "func" / f"{PARTICIPANT}_task-rest_bold.nii.gz",
        outputs,
        scan,
        repetition_time=sidecar["RepetitionTime"],
        slice_times=sidecar["SliceTiming"],
        **FUNCTIONAL | engines,
    )
    record = read_json(scan["record"])
    assert record["status"] == "done", record["reason"]
    assert record["quality"]["mask_dice"] > 0.9
    import pandas as pd

    table = pd.read_csv(scan["confounds"], sep="\t")
    names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    difference = (table[names].to_numpy(float) - truth.motion)[~truth.jerk]
    spread = np.sqrt(((difference - difference.mean(axis=0)) ** 2).mean(axis=0))
    assert spread[:3].max() < 0.1 and np.rad2deg(spread[3:]).max() < 0.1
    points = warps.world_of(np.argwhere(grid.brain_mask(8)).astype(float), grid.grid(8)[1])
    in_t1w = truth.mni_to_t1w(points.T).T
    field = warps.field_of(np.asarray(nib.load(outputs["warp"]).dataobj, np.float32))
    normalised = points + warps.sample(field, grid.grid(2)[1], points)
    normalised = warps.world_of(normalised, np.loadtxt(outputs["affine"]))
    distance = np.linalg.norm(normalised - in_t1w, axis=1).mean()
    print(f"priors {priors}: normalisation {distance:.2f} mm")
    assert distance < worst
    image = nib.load(outputs["T1w"])
    planted, _ = sampled(truth.warp, tissue_template(), image.shape, image.affine)
    tissues = {name: np.asarray(nib.load(outputs[name]).dataobj) > 0.5 for name in TISSUES}
    dice = {name: masks.dice(found, planted[..., k] > 0.5) for k, (name, found) in enumerate(tissues.items())}
    print(f"priors {priors}: {dice}")
    assert all(
        dice[name] > value for name, value in zip(TISSUES, least, strict=True)
    )  # few voxels of 3 mm are fluid alone
    first = truth.motion_matrices()[0]
    planted = warps.world_of(warps.world_of(in_t1w, truth.coregistration), first)
    found = warps.world_of(in_t1w, np.array(record["coregistration"]))
    assert np.linalg.norm(found - planted, axis=1).mean() < 1.5


def test_spm_itself_copies_its_tissue_maps(tmp_path):
    """Where its folder is not named: six classes that sum to 1, of which the template's space gets three."""
    works = engine("spm", tmp_path, REAL | {"folder": None, "priors": "template"})
    made = np.asarray(nib.load(works.tissue_priors()).dataobj)
    own = nib.load(tmp_path / "own_priors.nii")
    assert own.shape == (121, 145, 121, 6) and made.shape == (181, 217, 181, 6)
    np.testing.assert_allclose(made.sum(axis=-1), 1, atol=1e-5)
    own = nib.as_closest_canonical(own)
    around = grid.resample(own.get_fdata(dtype=np.float32)[..., 4], own.affine, made.shape[:3], grid.grid(1)[1])
    assert 0.8 < masks.correlation(made[..., 4], around, np.ones(around.shape, bool)) < 0.995  # moved, not far


@pytest.mark.parametrize(("axis", "sign"), [(0, -1), (1, 1)])
def test_spm_itself_removes_the_distortion_of_a_known_field(tmp_path, axis, sign):
    """Signal that lies up to 3 voxels away comes back, whatever the axis and the direction of phase encoding."""
    from scipy import ndimage

    generator = np.random.default_rng(1)
    shape, affine = (34, 38, 24), np.diag([-4.0, 4, 5, 1])
    affine[:3, 3] = [66, -74, -58]
    middle = (np.array(shape) - 1) / 2
    centre = warps.world_of(middle[None], affine)[0]
    radius = np.linalg.norm((np.argwhere(np.ones(shape, bool)) - middle) / [13, 15, 9.5], axis=1).reshape(shape)
    texture = ndimage.gaussian_filter(generator.standard_normal(shape), 1.3)
    head = ndimage.gaussian_filter(np.where(radius < 1, 800 + 900 * texture / texture.std() / 4, 0), 0.7)
    index = np.indices(shape).astype(float)
    away = index - (middle + np.array([0, 4, 2]))[:, None, None, None]
    shift = 3 * np.exp(-(away**2).sum(axis=0) / (2 * 6**2))
    planted = np.zeros((8, 6))
    planted[3:, 0], planted[4:, 3], planted[6:, 2] = 0.8, 0.02, -0.7
    volumes = []
    for matrix in motion.matrices_of(planted, centre):
        pull = np.linalg.inv(affine) @ np.linalg.inv(matrix) @ affine
        still = ndimage.affine_transform(head, pull[:3, :3], pull[:3, 3], order=3)
        source = index.copy()
        for _ in range(30):  # what is found at i + shift(i) belongs at i
            source[axis] = index[axis] - ndimage.map_coordinates(shift, source, order=1, mode="nearest")
        volumes.append(ndimage.map_coordinates(still, source, order=3))
    series = np.stack(volumes, axis=-1) + generator.standard_normal((*shape, len(volumes))) * 2
    image = nib.Nifti1Image(series.astype(np.float32), affine)
    image.header.set_zooms((4, 4, 5, 2))
    image.to_filename(tmp_path / "bold.nii")
    readout = 0.05
    nib.Nifti1Image((shift / (readout * sign)).astype(np.float32), affine).to_filename(tmp_path / "hertz.nii")

    works = engine("spm", tmp_path, REAL)
    realignment = works.realign(tmp_path / "bold.nii")
    np.testing.assert_allclose(realignment.motion[:, :3], planted[:, :3], atol=0.1)
    np.testing.assert_allclose(realignment.motion[:, 3:], planted[:, 3:], atol=0.003)
    phase = PhaseEncoding(axis, sign, readout)
    assert works.unwarp_by_field(tmp_path / "bold.nii", realignment, tmp_path / "hertz.nii", PhaseEncoding(axis, sign, None)) is None  # fmt: skip
    found = works.unwarp_by_field(tmp_path / "bold.nii", realignment, tmp_path / "hertz.nii", phase)
    core = radius < 0.9

    def likeness(path: Path) -> float:
        data = np.asarray(nib.load(path).dataobj)
        return masks.correlation(data[..., -1] if data.ndim == 4 else data, head, core)

    assert likeness(realignment.reference) < 0.9
    assert likeness(found.reference) > 0.99 and likeness(found.series) > 0.99
    assert nib.load(found.series).shape == series.shape
    np.testing.assert_allclose(nib.load(found.reference).affine, affine, atol=1e-5)
    np.testing.assert_allclose(np.asarray(nib.load(found.shift).dataobj), shift, atol=1e-4)


def test_spm_itself_is_quoted_where_it_fails(tmp_path):
    image = _image(tmp_path / "a.nii", (12, 12, 8, 3))
    image.write_bytes(image.read_bytes()[:2000])
    with pytest.raises(EngineFailure, match=r"SPM's Smooth failed: Failed\s+'Smooth' \| .*File too small"):
        engine("spm", tmp_path, REAL).smooth(image, 5)
