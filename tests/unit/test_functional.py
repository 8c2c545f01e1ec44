"""One scan from raw to MNI space: motion, place and signal against the planted truth; failures named."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from preprocessed_phantom import (  # noqa: F401
    FUNCTIONAL,
    PARTICIPANT,
    VOXEL_SIZE,
    anatomical_outputs,
    functional_outputs,
    phantom,
    preprocess_again,
)

from restresponse import grid
from restresponse.engines import masks, motion, warps
from restresponse.engines.distortion import beyond_chance
from restresponse.engines.reading import processing
from restresponse.files import read_json, read_table, write_json
from restresponse.functional.confounds import MOTION
from restresponse.functional.denoising import denoise_scan
from restresponse.functional.preprocess import preprocess_scan, write_series
from restresponse.phantom.truth import read_truth
from running import ROOT

DENOISING = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())["functional"]["denoising"]
DENOISING = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["functional"]["denoising"] | DENOISING


def _motion(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Estimated minus planted parameters of volumes without a jerk, and their mean: the reference is not the first volume."""
    table = read_table(functional_outputs(folder / "results")["confounds"], text_columns=())
    truth = read_truth(folder / "bids_truth", PARTICIPANT)
    difference = (table[list(MOTION)].to_numpy(float) - truth.motion)[~truth.jerk]
    return difference - difference.mean(axis=0), difference.mean(axis=0)


def test_head_motion_is_recovered(phantom):  # noqa: F811
    """Within 0.1 mm and 0.1 deg RMS for each axis; the planted motion itself is larger."""
    error, _ = _motion(phantom)
    root = np.sqrt((error**2).mean(axis=0))
    assert (root[:3] < 0.1).all()
    assert (np.rad2deg(root[3:]) < 0.1).all()
    planted = read_truth(phantom / "bids_truth", PARTICIPANT).motion
    assert planted[:, :3].std(axis=0).max() > 0.1


def test_coregistration_is_the_planted_one(phantom):  # noqa: F811
    truth = read_truth(phantom / "bids_truth", PARTICIPANT)
    found = np.array(read_json(functional_outputs(phantom / "results")["record"])["coregistration"])
    points = warps.world_of(np.argwhere(grid.brain_mask(12)).astype(float), grid.grid(12)[1])
    in_t1w = truth.mni_to_t1w(points.T).T
    _, offset = _motion(phantom)
    reference = motion.matrices_of(-offset[None], truth.centre)[0]
    planted = warps.world_of(warps.world_of(in_t1w, truth.coregistration), reference)
    assert np.linalg.norm(warps.world_of(in_t1w, found) - planted, axis=1).mean() < 1.0


def test_the_scan_covers_the_templates_brain(phantom):  # noqa: F811
    outputs = functional_outputs(phantom / "results")
    record = read_json(outputs["record"])
    assert record["status"] == "done" and record["reason"] is None
    own, brain = np.asarray(nib.load(outputs["mask"]).dataobj) > 0, grid.brain_mask(VOXEL_SIZE)
    assert masks.dice(own, brain) == pytest.approx(record["quality"]["mask_dice"])
    assert record["quality"]["mask_dice"] > 0.9
    assert (own & ~brain).any()  # made before any template mask


def test_preprocessed_image_is_on_the_grid_in_16_bits_and_zero_outside_the_brain(phantom):  # noqa: F811
    outputs = functional_outputs(phantom / "results")
    image = nib.load(outputs["image"])
    shape, affine = grid.grid(VOXEL_SIZE)
    assert image.shape == (*shape, 60)
    np.testing.assert_allclose(image.affine, affine)
    assert image.header.get_zooms()[3] == pytest.approx(2.6)
    assert image.get_data_dtype() == np.int16
    data = np.asarray(image.dataobj, np.float32)
    brain = grid.brain_mask(VOXEL_SIZE)
    assert not data[~brain].any()
    assert image.dataobj.slope < 0.01 * data[brain].std(axis=1).mean()  # the step is far below the fluctuation


def test_preprocessed_and_denoised_a_second_time_every_file_has_the_same_bytes(tmp_path, phantom):  # noqa: F811
    preprocess_again(phantom, tmp_path)
    first, second = (
        {**anatomical_outputs(folder), **functional_outputs(folder)} for folder in (phantom / "results", tmp_path)
    )
    differing = [name for name in first if name != "record" and first[name].read_bytes() != second[name].read_bytes()]
    assert not differing  # the record holds seconds
    denoised = []
    for number, given in enumerate((first, second)):
        made = [
            tmp_path / f"{number}_{name}" for name in ("denoised.nii.gz", "record.json", "design.tsv", "design.json")
        ]
        inputs = [given[name] for name in ("image", "confounds", "record")]
        denoise_scan(*inputs, *made, scan=PARTICIPANT, repetition_time=2.6, settings=DENOISING)
        assert read_json(made[1])["status"] == "done"
        denoised.append([path.read_bytes() for path in made])
    assert denoised[0] == denoised[1]


def test_one_bright_voxel_costs_the_others_no_precision(tmp_path):
    series = np.random.default_rng(0).normal(1000, 8, (9, 9, 9, 12)).astype(np.float32)
    for brightest in (4_000, 300_000):
        series[4, 4, 4, 3] = brightest
        write_series(tmp_path / "series.nii.gz", series, np.eye(4), 2.0)
        image = nib.load(tmp_path / "series.nii.gz")
        np.testing.assert_allclose(np.asarray(image.dataobj), series, atol=0.1)
        assert image.get_data_dtype() == (np.int16 if brightest == 4_000 else np.float32)


def test_planted_networks_are_in_the_preprocessed_signal(phantom):  # noqa: F811
    """Inside each planted network's peak, the mean signal follows the planted time courses better than chance can."""
    outputs, truth = functional_outputs(phantom / "results"), read_truth(phantom / "bids_truth", PARTICIPANT)
    data = np.asarray(nib.load(outputs["image"]).dataobj, np.float32)
    maps, affine = truth.networks()
    shape, target = grid.grid(VOXEL_SIZE)
    explained = []
    table = read_table(outputs["confounds"], text_columns=())
    nuisance = np.column_stack([np.ones(60), np.arange(60), table[list(MOTION)].to_numpy(float)])
    for network in range(maps.shape[3]):
        planted = grid.resample(maps[..., network], affine, shape, target)
        inside = planted > 0.5 * planted.max()
        signal = data[inside].mean(axis=0)
        course = truth.time_courses_middle[:, network]
        left = [values - nuisance @ np.linalg.lstsq(nuisance, values, rcond=None)[0] for values in (signal, course)]
        explained.append(np.corrcoef(*left)[0, 1])
    assert np.median(explained) > 0.6


def test_record_and_confounds_are_described(phantom):  # noqa: F811
    outputs = functional_outputs(phantom / "results")
    record = read_json(outputs["record"])
    steps = {step["step"]: step for step in record["steps"]}
    assert list(steps) == [
        "slice timing", "realignment", "unwarping", "functional mask", "coregistration", "resampling", "confounds", "smoothing",
    ]  # fmt: skip
    assert steps["slice timing"]["parameters"]["reference"] == pytest.approx(1.3)
    assert steps["unwarping"]["tool"] == "none"  # no distortion was planted
    assert "hardly more than one along an axis without distortion" in steps["unwarping"]["method"]
    told = steps["unwarping"]["parameters"]
    assert not beyond_chance(told["gain"], told["gain_without_distortion"])
    columns = list(read_table(outputs["confounds"], text_columns=()).columns)
    described = read_json(outputs["confounds_facts"])
    assert list(described) == columns
    assert described["trans_x"]["Units"] == "mm" and described["rot_z_derivative1"]["Units"] == "rad"
    assert not list((phantom / "results").glob(".work-*"))


def _attempt(tmp_path: Path, data: np.ndarray, words: str, phantom_folder: Path, spoil=None) -> None:
    path = tmp_path / "bold.nii.gz"
    image = nib.Nifti1Image(data, np.diag([8.0, 8.0, 8.0, 1.0]))
    image.to_filename(path)
    if spoil:
        spoil(path)
    outputs = functional_outputs(tmp_path / "out")
    preprocess_scan(
        path,
        anatomical_outputs(phantom_folder / "results"),
        outputs,
        repetition_time=2.6,
        slice_times="n/a",
        **FUNCTIONAL,
    )
    record = read_json(outputs["record"])
    assert record["status"] == "failed"
    assert words in record["reason"]
    assert all(file.stat().st_size == 0 for name, file in outputs.items() if name != "record")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(file.name for file in outputs.values())


def _shear(path: Path) -> None:
    image, affine = nib.load(path), np.diag([8.0, 8.0, 8.0, 1.0])
    affine[0, 1] = 0.5
    image.set_sform(affine, code=1)
    image.to_filename(path)


def test_bad_scans_are_recorded_and_leave_empty_files(tmp_path, phantom):  # noqa: F811
    generator = np.random.default_rng(0)
    series = (100 * generator.random((16, 16, 16, 12))).astype(np.float32)
    cases = {
        "constant": (np.full_like(series, 3), "constant", None),
        "nan": (np.full_like(series, np.nan), "NaN everywhere", None),
        "still": (np.repeat(series[..., :1], 12, axis=3), "does not change over time", None),
        "three": (series[..., 0], "expected 4 dimensions", None),
        "short": (series[..., :2], "2 volumes", None),
        "truncated": (series, "cannot be read", lambda path: path.write_bytes(path.read_bytes()[:3000])),
        "sheared": (series, "sheared: the axes of its voxels are up to 3.6 degrees off", _shear),
        "noise": (series, "failed", None),
    }
    for name, (data, words, spoil) in cases.items():
        (tmp_path / name).mkdir()
        _attempt(tmp_path / name, data, words, phantom, spoil)


def test_forms_of_a_scans_header_that_disagree_are_noted_in_its_record(tmp_path):
    image = nib.Nifti1Image(np.repeat(np.arange(1, 513, dtype=np.float32).reshape(8, 8, 8, 1), 12, axis=3), np.eye(4))
    image.set_sform(np.eye(4), code=1)
    image.set_qform(np.diag([-1.0, -1, 1, 1]), code=1)
    image.to_filename(tmp_path / "sub-01_task-rest_bold.nii.gz")
    anatomical, outputs = anatomical_outputs(tmp_path), functional_outputs(tmp_path / "out")
    write_json(anatomical["record"], {"status": "done", "notes": ["what its T1w had"]})
    bold = tmp_path / "sub-01_task-rest_bold.nii.gz"
    preprocess_scan(bold, anatomical, outputs, repetition_time=2, slice_times=None, **FUNCTIONAL)
    record = read_json(outputs["record"])
    assert record["anatomical_notes"] == ["what its T1w had"]
    (note,) = record["notes"]
    assert "the BOLD sub-01_task-rest_bold.nii.gz differ by a rotation of 180 degrees" in note


def test_headers_of_a_field_maps_images_are_noted_with_the_scan_that_it_is_for(tmp_path):
    series = np.repeat(np.arange(1, 513, dtype=np.float32).reshape(8, 8, 8, 1), 12, axis=3)
    nib.Nifti1Image(series, np.eye(4)).to_filename(tmp_path / "bold.nii")
    files = {}
    for name, moved in (("fieldmap", 0), ("magnitude", 4)):
        image = nib.Nifti1Image(series[..., 0], np.eye(4))
        image.set_sform(np.eye(4), code=1)
        image.set_qform(np.eye(4) + moved * np.eye(4, k=3), code=1)
        files[name] = str(tmp_path / f"sub-01_{name}.nii")
        image.to_filename(files[name])
    (tmp_path / "text.nii").write_bytes(b"no image")
    anatomical, outputs = anatomical_outputs(tmp_path), functional_outputs(tmp_path / "out")
    write_json(anatomical["record"], {"status": "done"})
    place = "the header of the field map sub-01_magnitude.nii place it up to 4.0 mm apart"
    lost = {"epi1": str(tmp_path / "text.nii")}
    for wish, of, expected in (("auto", files, place), ("none", files, None), ("auto", lost, None)):
        field_map = json.dumps({"kind": "fieldmap", "files": of, "units": "Hz"})
        told = {"repetition_time": 2, "slice_times": None, "field_map": field_map}
        preprocess_scan(tmp_path / "bold.nii", anatomical, outputs, **told, **FUNCTIONAL | {"unwarp": wish})
        notes = read_json(outputs["record"])["notes"]
        assert (len(notes) == 1 and expected in notes[0]) if expected else notes == []


def test_a_failed_t1w_fails_its_scans_with_its_reason(tmp_path):
    anatomical = anatomical_outputs(tmp_path)
    write_json(anatomical["record"], {"status": "failed", "reason": "the T1w is constant"})
    outputs = functional_outputs(tmp_path / "out")
    preprocess_scan(tmp_path / "absent.nii.gz", anatomical, outputs, repetition_time=2, slice_times=None, **FUNCTIONAL)
    record = read_json(outputs["record"])
    assert record["status"] == "failed"
    assert record["reason"] == "its T1w image failed: the T1w is constant"


def test_working_folders_of_killed_jobs_are_cleared_and_of_living_ones_kept(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    dead, living = (tmp_path / f".work-{platform.node()}-{pid}-abc" for pid in (int(done.stdout), os.getpid()))
    elsewhere = tmp_path / f".work-another-machine-{int(done.stdout)}-abc"
    for folder in (dead, living, elsewhere):
        folder.mkdir()
    with processing("embedded", {}, {"record": tmp_path / "record.json"}, {}):
        assert not dead.exists()
    assert living.exists() and elsewhere.exists()


def test_a_missing_disk_is_the_machines_failure(tmp_path, monkeypatch, phantom):  # noqa: F811
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("restresponse.functional.preprocess.read_raw", full)
    outputs = functional_outputs(tmp_path / "out")
    with pytest.raises(OSError, match="No space left"):
        preprocess_scan(
            tmp_path / "bold.nii.gz", anatomical_outputs(phantom / "results"), outputs, repetition_time=2, slice_times=None, **FUNCTIONAL
        )  # fmt: skip
    assert not list((tmp_path / "out").iterdir())


def test_times_come_from_the_scans_table_as_json(tmp_path, phantom):  # noqa: F811
    """The cell of the table and a list are the same; a scan without times says that it was not corrected."""
    bids = phantom / "bids" / PARTICIPANT / "func"
    source = nib.load(bids / f"{PARTICIPANT}_task-rest_bold.nii.gz")
    few = nib.Nifti1Image(np.asarray(source.dataobj)[..., :14], source.affine, source.header)
    few.to_filename(tmp_path / "bold.nii.gz")
    times = json.loads((bids / f"{PARTICIPANT}_task-rest_bold.json").read_text())["SliceTiming"]
    tools = []
    for name, given in (("json", json.dumps(times)), ("none", "n/a")):
        outputs = functional_outputs(tmp_path / name)
        anatomical = anatomical_outputs(phantom / "results")
        preprocess_scan(
            tmp_path / "bold.nii.gz", anatomical, outputs, repetition_time=2.6, slice_times=given, **FUNCTIONAL
        )
        record = read_json(outputs["record"])
        assert record["status"] == "done", record["reason"]
        tools.append(record["steps"][0]["tool"])
    assert tools == ["niimath", "none"]
