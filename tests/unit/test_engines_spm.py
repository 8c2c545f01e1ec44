"""The engine SPM: its transforms against plain sums, and what becomes of its failures; no SPM is needed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from preprocessed_phantom import ANATOMICAL, FUNCTIONAL, anatomical_outputs, functional_outputs, noise_anatomical
from preprocessed_phantom import noise_image as _image

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.config import validate
from restresponse.engines import EngineFailure, deformations, engine, motion, warps
from restresponse.engines.programs import check_found
from restresponse.errors import InputError
from restresponse.files import read_json
from restresponse.functional.preprocess import preprocess_scan

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

    made = deformations.WarpOfDeformation(in_file="y_T1w.nii", out_file="warp.nii").run(cwd=str(tmp_path)).outputs
    matrix, warp = made.matrix, made.out_file
    np.savetxt(tmp_path / "affine.mat", matrix)
    _, coarse = grid.grid(8)
    inside = warps.world_of(np.argwhere(grid.brain_mask(8)).astype(float), coarse)
    stored = warps.field_of(np.asarray(nib.load(warp).dataobj))
    found = warps.world_of(inside + warps.sample(stored, grid.grid(2)[1], inside), matrix)
    np.testing.assert_allclose(found, _positions(inside), atol=0.03)
    assert np.abs(stored).max() < 25  # the affine has the large part, also where SPM has no value

    deformations.Deformation(affine="affine.mat", warp=warp, out_file="y_back.nii").run(cwd=str(tmp_path))
    back = nib.load(tmp_path / "y_back.nii")
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
    deformations.OntoGrid(in_file="w.nii", voxel_size=voxel_size, out_file="placed.nii").run(cwd=str(tmp_path))
    image = nib.load(tmp_path / "placed.nii")
    assert image.shape[:3] == shape
    np.testing.assert_allclose(image.affine, affine)
    values = np.asarray(image.dataobj).reshape(-1, 3)
    expected = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    hole = (values == 0).all(axis=1) & (expected != 0).any(axis=1)
    assert hole.sum() == 1
    np.testing.assert_allclose(values[~hole], expected[~hole])


def test_the_space_that_is_named_is_that_of_the_priors(tmp_path):
    settings = _program(tmp_path / "spm.sh", "exit 0")
    own, template = (engine("spm", tmp_path, settings | {"priors": name}).space for name in ("spm", "template"))
    assert "TPM.nii" in own
    labels = [engine("spm", tmp_path, settings | {"priors": name}).space_label for name in ("spm", "template")]
    assert labels == ["IXI549Space", "MNI152NLin2009aSym"]
    assert template == engine("embedded", tmp_path).space and "2009a nonlinear symmetric" in template


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
    settings = _program(tmp_path / "spm.sh", f"{HALF_WAY}exit {status}") | {"priors": "spm"}
    t1w = _image(tmp_path / "T1w.nii.gz", (12, 12, 12))
    outputs = anatomical_outputs(tmp_path / "out")
    normalise_anatomical(t1w, outputs, **ANATOMICAL | {"engine": "spm"}, engine_settings=settings)
    record = read_json(outputs["record"])
    assert record["status"] == "failed" and record["engine"] == "spm"
    assert "SPM's Segment failed" in record["reason"]
    assert "Error using spm_preproc8 (line 147) | Insufficient image overlap." in record["reason"]
    assert all(path.stat().st_size == 0 for name, path in outputs.items() if name != "record")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in outputs.values()}


SCAN_HALF_WAY = r"""
echo 'SPM version: SPM12 Release: 7771'
for script; do :; done
cd "$(dirname "$script")"
if grep -q temporal.st "$script"; then cp bold.nii abold.nii; exit 0; fi
cp series.nii meanseries.nii
echo "Failed  'Realign: Estimate & Reslice'"
echo 'Error using spm_realign (line 88)'
echo 'Too few points.'
"""


def test_a_scan_whose_batch_fails_half_way_is_recorded_in_spms_words_and_leaves_nothing_whole(tmp_path):
    bold, outputs = _image(tmp_path / "bold.nii.gz", (8, 8, 6, 8)), functional_outputs(tmp_path / "out")
    preprocess_scan(
        bold, noise_anatomical(tmp_path / "T1w"), outputs, repetition_time=2.0, slice_times=[0.0, 1.0] * 3,
        **FUNCTIONAL | {"engine": "spm", "engine_settings": _program(tmp_path / "spm.sh", SCAN_HALF_WAY)},
    )  # fmt: skip
    record = read_json(outputs["record"])
    assert record["status"] == "failed" and record["engine"] == "spm"
    assert "SPM's Realign failed" in record["reason"]
    assert "Error using spm_realign (line 88) | Too few points." in record["reason"]
    assert [step["step"] for step in record["steps"]] == ["slice timing"]
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


def _tissue_maps(path: Path, *classes: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.full((6, 7, 6, *classes), 1 / 6, np.float32), np.eye(4)).to_filename(path)
    return path


def _job(tmp_path: Path, settings: dict) -> dict[str, Path]:
    outputs = anatomical_outputs(tmp_path / "out")
    t1w = _image(tmp_path / "T1w.nii.gz", (12, 12, 12))
    normalise_anatomical(t1w, outputs, **ANATOMICAL | {"engine": "spm"}, engine_settings=settings)
    return outputs


@pytest.mark.parametrize("priors", ["template", "spm"])
@pytest.mark.parametrize("classes", [(), (5,), (7,)])
def test_a_folder_with_other_tissue_maps_than_spms_is_refused_before_any_scan(tmp_path, classes, priors):
    maps = _tissue_maps(tmp_path / "spm" / "tpm" / "TPM.nii", *classes)
    settings = _program(tmp_path / "spm.sh", "exit 0") | {"folder": str(tmp_path / "spm"), "priors": priors}
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "config" / "config.yaml").read_text())
    config["anatomical"]["engine"], config["engines"]["spm"] = "spm", settings
    said = r"TPM\.nii are not SPM's: the file has the shape \(6, 7, 6.*expected the 6 classes.*engines\.spm\.folder"
    with pytest.raises(InputError, match=said):
        check_found(validate(config, tmp_path))
    with pytest.raises(InputError, match=said):
        _job(tmp_path, settings)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.json"))
    maps.write_bytes(b"half of it")
    with pytest.raises(InputError, match=r"TPM\.nii are not SPM's: the file cannot be read as an image"):
        check_found(validate(config, tmp_path))
    _tissue_maps(maps, 6)
    check_found(validate(config, tmp_path))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('cp "$MAPS" "$folder/own_priors.nii"', r"of the SPM that engines\.spm\.command runs .*shape \(6, 7, 6, 5\); expected 6 classes"),
        ("echo 'Error using copyfile'; echo 'No matching files were found.'; exit 1", "could not be copied.*No matching files"),
        ("exit 0", "could not be copied.*an output was not written"),
    ],
)  # fmt: skip
def test_tissue_maps_that_the_program_has_wrong_or_lacks_fail_the_job_not_the_scan(
    tmp_path, monkeypatch, lines, expected
):
    monkeypatch.setenv("MAPS", str(_tissue_maps(tmp_path / "odd.nii", 5)))
    start = "echo 'SPM version: SPM12 Release: 7771'\nfor script; do :; done\nfolder=$(dirname \"$script\")\n"
    with pytest.raises(OSError, match=expected):
        _job(tmp_path, _program(tmp_path / "spm.sh", start + lines) | {"priors": "template"})
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["the patients' scans", "$(touch pwned)", "a; touch pwned", "`touch pwned`", "a&b"])
def test_a_folder_that_matlab_or_the_shell_reads_otherwise_is_refused(tmp_path, name):
    settings = _program(tmp_path / "spm.sh", "exit 0")
    with pytest.raises(InputError, match=r"in its path, which mean something to MATLAB .* or to the shell"):
        engine("spm", tmp_path / name, settings)


def test_the_config_is_refused_without_a_command_and_checked_for_one_that_is_not_found(tmp_path):
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "config" / "config.yaml").read_text())
    validate(config, tmp_path)
    config["functional"]["unwarp"] = "motion"
    with pytest.raises(
        InputError, match=r"functional\.unwarp: found motion, but functional\.engine is embedded; expected spm"
    ):
        validate(config, tmp_path)
    config["functional"]["engine"] = "spm"
    with pytest.raises(InputError, match=r"engines\.spm\.command: found null, but functional\.engine is spm"):
        validate(config, tmp_path)
    config["engines"]["spm"]["command"] = "no_such_spm.sh /opt/mcr script"
    with pytest.raises(InputError, match=r"no_such_spm\.sh"):
        check_found(validate(config, tmp_path))
    config["engines"]["spm"] = _program(tmp_path / "spm.sh", "exit 0")
    check_found(validate(config, tmp_path))
