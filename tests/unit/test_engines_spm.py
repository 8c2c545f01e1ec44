"""The engine SPM: its batches against SPM12's manual, its transforms against plain sums, its failures, and SPM itself.

The batches' texts need no SPM. The last tests run it: name its command in RESTRESPONSE_SPM_COMMAND (and SPM's folder in
RESTRESPONSE_SPM_FOLDER, where it is MATLAB's or the tissue maps are not found by SPM).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from preprocessed_phantom import ANATOMICAL, FUNCTIONAL, PARTICIPANT, anatomical_outputs, functional_outputs

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.config import validate
from restresponse.engines import EngineFailure, PhaseEncoding, deformations, engine, masks, motion, spm_batches, warps
from restresponse.engines.programs import check_found
from restresponse.errors import InputError
from restresponse.files import read_json
from restresponse.functional.preprocess import preprocess_scan
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings
from restresponse.phantom.truth import read_truth

SETTINGS = {"command": "run_spm12.sh /opt/mcr script", "use_mcr": True, "folder": None}
COMMAND = os.environ.get("RESTRESPONSE_SPM_COMMAND")
REAL = {
    "command": COMMAND,
    "use_mcr": "matlab" not in (COMMAND or ""),
    "folder": os.environ.get("RESTRESPONSE_SPM_FOLDER"),
}
real = pytest.mark.skipif(
    not COMMAND, reason="SPM itself was not run: RESTRESPONSE_SPM_COMMAND does not name its command"
)


def _image(path: Path, shape: tuple[int, ...], affine: np.ndarray | None = None) -> Path:
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    nib.Nifti1Image(data, np.diag([3.0, 3, 4, 1]) if affine is None else affine).to_filename(path)
    return path


def _job(script: str) -> dict[str, str]:
    """The job's settings by the part of their names that SPM's batch editor shows; a list's parts are put together again."""
    cells = {
        key: re.findall(r"'([^']*)'", names)
        for key, names in re.findall(r"^ *jobs\{1\}\.spm\.(\S+) = \{\.\.\.\n(?:\{\.\.\.\n)?((?:\[?'.*;\.\.\.\n)*)\};", script, re.MULTILINE)
    }  # fmt: skip
    single = dict(re.findall(r"^ *jobs\{1\}\.spm\.(\S+) = ([^{\n]*);$", script, re.MULTILINE))
    job: dict = dict(cells)
    for key, value in single.items():
        found = re.fullmatch(r"(.*)\((\d+)\)", key)
        if found:
            job.setdefault(found[1], []).append(float(value))
        else:
            job[key] = value.strip("'") if "'" in value else float(value) if value[0] != "[" else json.loads(value)
    return job


# ---------------------------------------------------------------------------------------------- the batches' texts


def test_slice_timing_is_by_times_in_ms_with_the_repetition_time_in_s(tmp_path):
    """Manual, 1.1: slice times and reference in ms, TR in s, and 0 for TA, which is not used then."""
    bold = _image(tmp_path / "bold.nii", (6, 6, 4, 5))
    job = _job(spm_batches.timing(SETTINGS, bold, [0.0, 1.3, 0.65, 1.95], 2.6).script)
    assert job == {
        "temporal.st.scans": [f"{bold},{volume}" for volume in range(1, 6)],
        "temporal.st.nslices": 4,
        "temporal.st.tr": 2.6,
        "temporal.st.ta": 0,
        "temporal.st.so": [0, 1300, 650, 1950],
        "temporal.st.refslice": 1300,
        "temporal.st.prefix": "a",
    }


def test_realign_is_to_the_mean_of_every_volume_and_writes_the_mean_alone(tmp_path):
    """Manual, 2.1: quality 0.9, separation 4 mm, smoothing 5 mm, 2nd degree B-spline; which [0 1] is the mean image only."""
    series = _image(tmp_path / "series.nii", (6, 6, 4, 3))
    script = spm_batches.realignment(SETTINGS, series).script
    assert re.findall(r"'(\S+,\d)'", script) == [f"{series},{volume}" for volume in (1, 2, 3)]
    job = _job(script)
    options = {key.removeprefix("spatial.realign.estwrite."): value for key, value in job.items() if "options" in key}
    assert options == {
        "eoptions.quality": 0.9,
        "eoptions.fwhm": 5,
        "eoptions.sep": 4,
        "eoptions.rtm": 1,
        "eoptions.interp": 2,
        "eoptions.wrap": [0, 0, 0],
        "roptions.which": [0, 1],
        "roptions.interp": 4,
        "roptions.wrap": [0, 0, 0],
        "roptions.mask": 1,
        "roptions.prefix": "r",
    }


@pytest.mark.parametrize("mapped", [False, True])
def test_unwarp_models_pitch_and_roll_with_and_without_a_displacement_map(tmp_path, mapped):
    """Manual, 3.1: 12 x 12 basis functions, regularisation 1 and medium, [4 5] first-order effects, 4 mm, 5 iterations."""
    series = _image(tmp_path / "series.nii", (6, 6, 4, 3))
    shift = _image(tmp_path / "vdm5_map.nii", (6, 6, 4)) if mapped else None
    job = _job(spm_batches.unwarping(SETTINGS, series, shift).script)
    job = {key.removeprefix("spatial.realignunwarp."): value for key, value in job.items()}
    assert job["data(1).scans"] == [f"{series},{volume}" for volume in (1, 2, 3)]
    assert job["data(1).pmscan"] == ([f"{shift},1"] if mapped else [])
    assert job["eoptions.rtm"] == 1 and job["eoptions.sep"] == 4 and job["eoptions.einterp"] == 2
    assert {key: value for key, value in job.items() if key.startswith("uweoptions")} == {
        "uweoptions.basfcn": [12, 12],
        "uweoptions.regorder": 1,
        "uweoptions.lambda": [100000],
        "uweoptions.jm": 0,
        "uweoptions.fot": [4, 5],
        "uweoptions.uwfwhm": 4,
        "uweoptions.rem": 1,
        "uweoptions.noi": [5],
        "uweoptions.expround": "Average",
    }
    assert job["uwroptions.uwwhich"] == [2, 1] and job["uwroptions.rinterp"] == 4 and job["uwroptions.mask"] == 1


def test_coregister_estimates_alone(tmp_path):
    """Manual, 4.1: normalised mutual information, 4 and 2 mm, 7 mm histogram smoothing; nothing is resliced."""
    target, source = _image(tmp_path / "t1w.nii", (6, 6, 4)), _image(tmp_path / "epi.nii", (6, 6, 4))
    job = _job(spm_batches.coregistration(SETTINGS, target, source).script)
    job = {key.removeprefix("spatial.coreg.estimate."): value for key, value in job.items()}
    assert job.pop("roptions.prefix") == "r"  # nipype's; SPM, which writes no image here, does not look at it
    assert job == {
        "ref": [str(target)],
        "source": [str(source)],
        "eoptions.cost_fun": "nmi",
        "eoptions.sep": [4, 2],
        "eoptions.tol": [0.02, 0.02, 0.02, 0.001, 0.001, 0.001, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001],
        "eoptions.fwhm": [7, 7],
    }


def test_segment_writes_bias_corrected_image_three_tissues_and_the_forward_deformation(tmp_path):
    """Manual, 6.1: light bias regularisation 0.001 and 60 mm, Gaussians 1 1 2 3 4 2, warping [0 0.001 0.5 0.05 0.2], 3 mm."""
    t1w = _image(tmp_path / "T1w.nii", (6, 6, 4))
    own = _job(spm_batches.segmentation(SETTINGS, t1w).script)
    own = {key.removeprefix("spatial.preproc."): value for key, value in own.items()}
    assert own == {
        "channel(1).vols": [f"{t1w},1"],
        "channel(1).biasreg": 0.001,
        "channel(1).biasfwhm": 60,
        "channel(1).write": [0, 1],
        "warp.affreg": "mni",
        "warp.reg": [0, 0.001, 0.5, 0.05, 0.2],
        "warp.samp": 3,
        "warp.write": [0, 1],
    }  # no tissues: SPM takes its own
    maps = tmp_path / "spm" / "tpm" / "TPM.nii"
    maps.parent.mkdir(parents=True)
    _image(maps, (6, 6, 4, 6))
    job = _job(spm_batches.segmentation(SETTINGS | {"folder": str(tmp_path / "spm")}, t1w).script)
    job = {key.removeprefix("spatial.preproc."): value for key, value in job.items()}
    assert [job[f"tissue({index}).tpm"] for index in range(1, 7)] == [[f"{maps},{index}"] for index in range(1, 7)]
    assert [job[f"tissue({index}).ngaus"] for index in range(1, 7)] == [1, 1, 2, 3, 4, 2]
    assert [job[f"tissue({index}).native"] for index in range(1, 7)] == [[1, 0]] * 3 + [[0, 0]] * 3
    assert [job[f"tissue({index}).warped"] for index in range(1, 7)] == [[0, 0]] * 6


@pytest.mark.parametrize(("voxel_size", "last"), [(2, [90, 90, 108]), (4, [90, 90, 108]), (5, [90, 94, 108])])
def test_normalise_writes_on_conns_bounding_box(tmp_path, voxel_size, last):
    """Manual, 5.3: bounding box and voxel size in mm, B-spline of degree 4."""
    image, field = _image(tmp_path / "series.nii", (6, 6, 4, 2)), _image(tmp_path / "y_x.nii", (4, 4, 4, 1, 3))
    script = spm_batches.normalisation(SETTINGS, [image], field, voxel_size, 4).script
    job = {key.removeprefix("spatial.normalise.write."): value for key, value in _job(script).items()}
    assert job["subj.def"] == [str(field)]
    assert job["subj.resample"] == [f"{image},1", f"{image},2"]
    box = [[job[f"woptions.bb({row},{column})"] for column in (1, 2, 3)] for row in (1, 2)]
    assert box == [[-90, -126, -72], last]
    assert job["woptions.vox"] == [voxel_size] * 3
    assert job["woptions.interp"] == 4 and job["woptions.prefix"] == "w"


def test_smooth_has_its_width_in_mm_and_no_masking(tmp_path):
    """Manual, 8: FWHM in mm along each axis, the type of the input, no implicit mask."""
    image = _image(tmp_path / "series.nii", (6, 6, 4, 2))
    job = {key.removeprefix("spatial.smooth."): value for key, value in _job(spm_batches.smoothing(SETTINGS, image, 5).script).items()}  # fmt: skip
    job = {key.replace("(1)", ""): value for key, value in job.items()}
    assert job == {"data": [f"{image},1", f"{image},2"], "fwhm": [5, 5, 5], "dtype": 0, "im": 0, "prefix": "s"}


def test_every_script_runs_its_job_and_says_spms_version(tmp_path):
    script = spm_batches.smoothing(SETTINGS, _image(tmp_path / "a.nii", (6, 6, 4)), 5).script
    assert "spm_jobman('run', jobs);" in script and "fprintf('SPM version: %s Release: %s\\n'" in script


def test_the_standalone_program_gets_a_script_and_matlab_an_expression_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, folder = _image(tmp_path / "a.nii", (6, 6, 4)), tmp_path / "spm"
    folder.mkdir()
    alone = spm_batches.smoothing(SETTINGS | {"folder": str(folder)}, image, 5)
    alone.mlab.inputs.script = alone.script
    assert alone.mlab.cmdline == f"run_spm12.sh /opt/mcr script {tmp_path}/pyscript_smooth.m"
    assert "addpath" not in (tmp_path / "pyscript_smooth.m").read_text()  # a compiled program takes no other folder
    matlab = {"command": "matlab", "use_mcr": False, "folder": str(folder)}
    within = spm_batches.smoothing(matlab, image, 5)
    within.mlab.inputs.script = within.script
    assert within.mlab.cmdline.startswith("matlab -nodesktop -nosplash")
    assert within.mlab.cmdline.endswith(f"-r \"addpath('{tmp_path}');pyscript_smooth;exit\"")
    assert f"addpath('{folder}')" in (tmp_path / "pyscript_smooth.m").read_text()


# ------------------------------------------------------------------------------------------------- transforms


def test_motion_of_spm_is_turned_into_the_heads():
    """spm_matrix by its help: T * R1 * R2 * R3 about the world's origin, and rp_*.txt is the way back to the first volume."""
    x, y, z, pitch, roll, yaw = row = (1.5, -0.7, 2.1, 0.03, -0.02, 0.05)
    t = np.eye(4)
    t[:3, 3] = x, y, z
    r1, r2, r3 = np.eye(4), np.eye(4), np.eye(4)
    r1[1:3, 1:3] = [[np.cos(pitch), np.sin(pitch)], [-np.sin(pitch), np.cos(pitch)]]
    r2[0, 0], r2[0, 2], r2[2, 0], r2[2, 2] = np.cos(roll), np.sin(roll), -np.sin(roll), np.cos(roll)
    r3[:2, :2] = [[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]
    [found] = motion.from_spm(np.array(row))
    np.testing.assert_allclose(found, np.linalg.inv(t @ r1 @ r2 @ r3), atol=1e-12)
    # a head that moved 2 mm to the right and turned by 0.1 about z through its centre
    centre = np.array([3.0, -20.0, 15.0])
    [moved] = motion.matrices_of(np.array([2.0, 0, 0, 0, 0, 0.1]), centre)
    back = np.linalg.inv(moved)
    angle = np.arctan2(back[0, 1], back[0, 0])
    parameters = motion.parameters_of(motion.from_spm(np.array([*back[:3, 3], 0, 0, angle])), centre)
    np.testing.assert_allclose(parameters, [[2, 0, 0, 0, 0, 0.1]], atol=1e-12)


def _positions(points: np.ndarray) -> np.ndarray:
    """A smooth transform of MNI space, (n, 3) mm to (n, 3) mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = 1.08 * motion.turn(0, np.array([0.1]))[0]
    matrix[:3, 3] = [3, -8, 5]
    return warps.world_of(points + 3 * np.sin(points[:, [1, 2, 0]] / 40), matrix)


def test_a_deformation_of_spms_becomes_the_houses_and_goes_back(tmp_path):
    shape = (62, 74, 62)
    affine = np.diag([-3.0, 3, 3, 1])  # SPM's axes: the first runs from right to left
    affine[:3, 3] = [91.5, -127.5, -73.5]
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    field = _positions(points).reshape(*shape, 1, 3).astype(np.float32)
    field[:2] = np.nan
    nib.Nifti1Image(field, affine).to_filename(tmp_path / "y_T1w.nii")

    matrix, displacements = deformations.from_spm(tmp_path / "y_T1w.nii")
    np.savetxt(tmp_path / "affine.mat", matrix)
    warp = deformations.write_warp(tmp_path / "warp.nii", displacements)
    _, coarse = grid.grid(8)
    inside = warps.world_of(np.argwhere(grid.brain_mask(8)).astype(float), coarse)
    stored = warps.field_of(np.asarray(nib.load(warp).dataobj))
    found = warps.world_of(inside + warps.sample(stored, grid.grid(2)[1], inside), matrix)
    np.testing.assert_allclose(found, _positions(inside), atol=0.03)
    assert np.abs(stored).max() < 25  # the affine has the large part, also where SPM has no value

    back = nib.load(deformations.write_spm(tmp_path / "y_back.nii", tmp_path / "affine.mat", warp))
    assert back.shape == (91, 109, 91, 1, 3) and back.header.get_intent()[0] == "vector"
    again = warps.sample(np.asarray(back.dataobj)[..., 0, :], back.affine, inside)
    np.testing.assert_allclose(again, _positions(inside), atol=0.03)


@pytest.mark.parametrize("voxel_size", [2, 4, 5])
def test_an_image_of_spms_grid_comes_to_the_houses(tmp_path, voxel_size):
    """spm_get_matdim: from the right, and one voxel more where the voxel size does not divide the box."""
    shape, affine = grid.grid(voxel_size)
    size = np.array([-voxel_size, voxel_size, voxel_size], float)
    box = np.array([affine[:3, 3], warps.world_of(np.array(shape)[None] - 1.0, affine)[0]])
    first, last = size * np.min(box / size, axis=0), size * np.round(np.max(box / size, axis=0) + 1e-9)
    spm_shape = tuple(np.round((last - first) / size + 1).astype(int))
    spm_affine = np.diag([*size, 1.0])
    spm_affine[:3, 3] = first
    points = warps.world_of(np.argwhere(np.ones(spm_shape, bool)).astype(float), spm_affine)
    data = points.reshape(*spm_shape, 3).astype(np.float32)
    data[5, 5, 5] = np.nan
    nib.Nifti1Image(data, spm_affine).to_filename(tmp_path / "w.nii")
    deformations.onto_grid(tmp_path / "w.nii", voxel_size)
    image = nib.load(tmp_path / "w.nii")
    assert image.shape[:3] == shape
    np.testing.assert_allclose(image.affine, affine)
    values = np.asarray(image.dataobj).reshape(-1, 3)
    expected = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    hole = (values == 0).all(axis=1) & (expected != 0).any(axis=1)
    assert hole.sum() == 1
    np.testing.assert_allclose(values[~hole], expected[~hole])


# ---------------------------------------------------------------------------------------------------- failures


def _program(path: Path, lines: str) -> dict:
    """Settings with a command that acts as SPM: a shell script whose last argument is the batch."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return {"command": f"{path} /opt/mcr script", "use_mcr": True, "folder": None}


HALF_WAY = r"""
echo 'SPM version: SPM12 Release: 7771'
for script; do :; done
folder=$(dirname "$script")
cp "$folder/T1w.nii" "$folder/c1T1w.nii"
cp "$folder/T1w.nii" "$folder/mT1w.nii"
echo "25-Nov-2026 10:00:00 - Running 'Segment'"
echo "25-Nov-2026 10:00:09 - Failed  'Segment'"
echo 'Error using spm_preproc8 (line 147)'
echo 'Insufficient image overlap.'
echo 'The following modules did not run:'
echo 'Failed: Segment'
"""


@pytest.mark.parametrize("status", [0, 1])
def test_a_batch_that_fails_half_way_is_recorded_in_spms_words_and_leaves_nothing_whole(tmp_path, status):
    settings = _program(tmp_path / "spm.sh", f"{HALF_WAY}exit {status}")
    t1w = _image(tmp_path / "T1w.nii.gz", (12, 12, 12))
    outputs = anatomical_outputs(tmp_path / "out")
    normalise_anatomical(t1w, outputs, **ANATOMICAL | {"engine": "spm"}, engine_settings=settings)
    record = read_json(outputs["record"])
    assert record["status"] == "failed" and record["engine"] == "spm"
    assert "SPM's Segment failed" in record["reason"]
    assert "Error using spm_preproc8 (line 147) | Insufficient image overlap." in record["reason"]
    assert all(path.stat().st_size == 0 for name, path in outputs.items() if name != "record")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in outputs.values()}


def test_an_output_that_was_not_written_is_a_failure_with_what_spm_said(tmp_path):
    settings = _program(tmp_path / "spm.sh", "echo 'SPM version: SPM12 Release: 7771'; echo 'Nothing was done today.'")
    works = engine("spm", tmp_path, settings)
    with pytest.raises(EngineFailure, match=r"Smooth failed: an output was not written .*Nothing was done today"):
        works.smooth(_image(tmp_path / "a.nii", (6, 6, 4)), 5)


def test_a_program_without_memory_or_licence_is_not_the_datas_failure(tmp_path):
    image = _image(tmp_path / "a.nii", (6, 6, 4))
    without = _program(tmp_path / "memory.sh", "echo 'error: out of memory or dimension too large' >&2; exit 1")
    with pytest.raises(MemoryError, match="SPM's Smooth"):
        engine("spm", tmp_path, without).smooth(image, 5)
    killed = _program(tmp_path / "killed.sh", "kill -9 $$")
    with pytest.raises(MemoryError, match="SPM's Smooth"):
        engine("spm", tmp_path, killed).smooth(image, 5)
    locked = _program(tmp_path / "licence.sh", "echo 'License checkout failed.' >&2; exit 1")
    with pytest.raises(OSError, match=r"SPM did not start.*licence\.sh.*License checkout failed"):
        engine("spm", tmp_path, locked).smooth(image, 5)


def test_relative_paths_of_the_settings_start_in_the_working_directory(tmp_path, monkeypatch):
    """A batch runs in a folder of its own, and must find the program all the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job").mkdir()
    writes = (
        'echo "SPM version: SPM12 Release: 7771"; for script; do :; done; cd "$(dirname "$script")"; cp a.nii sa.nii'
    )
    settings = _program(tmp_path / "spm.sh", writes) | {"command": "./spm.sh script"}
    works = engine("spm", tmp_path / "job", settings)
    assert works.smooth(_image(tmp_path / "job" / "a.nii", (6, 6, 4)), 5) == tmp_path / "job" / "sa.nii"
    assert works.steps[-1]["version"] == "SPM12 7771"
    with pytest.raises(InputError, match=r"no file tpm/TPM\.nii"):
        engine("spm", tmp_path / "job", settings | {"folder": "nowhere"})


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (None, r"no command.*engines\.spm\.command.*standalone.*embedded engine needs no program"),
        ("no_such_spm.sh /opt/mcr script", r"no_such_spm\.sh.*not found.*standalone.*embedded engine needs no program"),
        ("'half", r"correct its quotes"),
    ],
)
def test_a_program_that_is_not_there_fails_the_job_not_the_scan(tmp_path, command, expected):
    outputs = anatomical_outputs(tmp_path / "out")
    with pytest.raises(InputError, match=expected):
        normalise_anatomical(
            _image(tmp_path / "T1w.nii.gz", (12, 12, 12)),
            outputs,
            **ANATOMICAL | {"engine": "spm"},
            engine_settings={"command": command},
        )
    assert not outputs["record"].exists()


@pytest.mark.parametrize("name", ["the patients' scans", "$(touch pwned)", "a; touch pwned", "`touch pwned`", "a&b"])
def test_a_folder_that_matlab_or_the_shell_reads_otherwise_is_refused(tmp_path, name):
    settings = _program(tmp_path / "spm.sh", "exit 0")
    with pytest.raises(InputError, match=r"in its path, which mean something to MATLAB .* or to the shell"):
        engine("spm", tmp_path / name, settings)


def test_the_config_is_refused_without_a_command_and_checked_for_one_that_is_not_found(tmp_path):
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "config" / "config.yaml").read_text())
    validate(config, tmp_path)
    config["functional"]["engine"] = "spm"
    with pytest.raises(InputError, match=r"engines\.spm\.command: found null, but functional\.engine is spm"):
        validate(config, tmp_path)
    config["engines"]["spm"]["command"] = "no_such_spm.sh /opt/mcr script"
    with pytest.raises(InputError, match=r"no_such_spm\.sh"):
        check_found(validate(config, tmp_path))
    config["engines"]["spm"] = _program(tmp_path / "spm.sh", "exit 0")
    check_found(validate(config, tmp_path))


# --------------------------------------------------------------------------------------------------- SPM itself


@pytest.mark.slow
@real
def test_spm_itself_finds_motion_place_and_tissues_again(tmp_path):
    """The whole chain on a small phantom: 12 volumes of 5 mm, T1w of 3 mm."""
    size = CohortSettings(
        participants=1, responders=1, volumes=12, bold_voxel_size=(5, 5, 5), t1w_voxel_size=3, motion=2, seed=5
    )
    make_cohort(tmp_path / "bids", size)
    bids, results = tmp_path / "bids" / PARTICIPANT, tmp_path / "results"
    truth = read_truth(tmp_path / "bids_truth", PARTICIPANT)
    sidecar = json.loads((bids / "func" / f"{PARTICIPANT}_task-rest_bold.json").read_text())
    outputs, scan = anatomical_outputs(results), functional_outputs(results)
    engines = {"engine": "spm", "engine_settings": REAL}
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
    first = truth.motion_matrices()[0]
    planted = warps.world_of(warps.world_of(in_t1w, truth.coregistration), first)
    found = warps.world_of(in_t1w, np.array(record["coregistration"]))
    assert np.linalg.norm(found - planted, axis=1).mean() < 1.5


@pytest.mark.slow
@real
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


@pytest.mark.slow
@real
def test_spm_itself_is_quoted_where_it_fails(tmp_path):
    image = _image(tmp_path / "a.nii", (12, 12, 8, 3))
    image.write_bytes(image.read_bytes()[:2000])
    with pytest.raises(EngineFailure, match=r"SPM's Smooth failed: Failed\s+'Smooth' \| .*File too small"):
        engine("spm", tmp_path, REAL).smooth(image, 5)
