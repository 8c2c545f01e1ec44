"""Scans preprocessed elsewhere: onto the grid without loss, confounds as they came, and nothing claimed that is not known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from restresponse import grid
from restresponse.engines.masks import dice
from restresponse.files import read_json, read_table, write_table
from restresponse.functional.confounds import MOTION, confounds
from restresponse.functional.denoising import denoise_scan
from restresponse.functional.derivatives import adopt_scan, complete_confounds
from restresponse.functional.interpolation import onto_grid
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import decide_inclusion
from restresponse.quality.measures import measure_scan

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["functional"]["denoising"]
VOXEL_SIZE, TR, N_SCANS = 6, 2.0, 40
SHAPE, AFFINE = grid.grid(VOXEL_SIZE)
LIMITS = {"maximum_mean_displacement": 0.5, "minimum_coverage": 0.85, "minimum_overlap": 0.8, "minimum_dof": 5}


def _wave(points: np.ndarray) -> np.ndarray:
    """A smooth function of the place in mm, (n, 3) -> (n,)."""
    x, y, z = points.T
    return np.sin(x / 16) * np.cos(y / 19) + 0.5 * np.sin(z / 23 + 1)


def _on(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    index = np.indices(shape).reshape(3, -1)
    return _wave((affine[:3, :3] @ index + affine[:3, 3:]).T).reshape(shape)


def _interior(shape: tuple[int, ...], margin: int) -> tuple[slice, ...]:
    return tuple(slice(margin, size - margin) for size in shape)


TURNED = np.array([[0, -4.0, 0, 93], [3.0, 0, 0, -129], [0, 0, 3.5, -75], [0, 0, 0, 1]])
LEANING = np.array([[3.9, 0.3, 0, -93], [-0.3, 3.9, 0.1, -120], [0, -0.1, 3.9, -75], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("affine", "shape"),
    [(np.diag([-3.5, 3.5, 3.5, 1.0]) + np.array([[0, 0, 0, 95], [0, 0, 0, -131], [0, 0, 0, -77], [0, 0, 0, 0]]), (56, 66, 56)),
     (TURNED, (76, 48, 56)), (LEANING, (50, 60, 50))],
    ids=["from right to left", "axes in another order", "oblique"],
)  # fmt: skip
def test_a_series_is_interpolated_where_it_lies_whatever_its_axes(affine, shape):
    target_shape, target = (40, 48, 40), np.diag([4.0, 4.0, 4.0, 1.0])
    target[:3, 3] = (-80, -110, -60)
    series = np.stack([_on(shape, affine), 2 * _on(shape, affine)], axis=3).astype(np.float32)
    found = onto_grid(series, affine, target_shape, target)
    inside = onto_grid(np.ones(shape, np.float32), affine, target_shape, target) > 0.999
    inside[tuple(slice(None) for _ in range(3))] &= np.pad(np.ones([n - 6 for n in target_shape], bool), 3)
    expected = _on(target_shape, target)
    assert inside.mean() > 0.4
    assert np.abs(found[..., 0] - expected)[inside].max() < 0.005
    np.testing.assert_allclose(found[..., 1], 2 * found[..., 0], atol=1e-5)


def test_the_same_grid_gives_back_the_same_values_and_outside_is_zero():
    series = np.random.default_rng(0).normal(size=(*SHAPE, 3)).astype(np.float32)
    assert onto_grid(series, AFFINE, SHAPE, AFFINE) is series
    shifted = AFFINE.copy()
    shifted[0, 3] += 2 * VOXEL_SIZE  # the image begins two voxels further right
    found = onto_grid(series, shifted, SHAPE, AFFINE)
    assert not found[:2].any()
    np.testing.assert_allclose(found[2:], series[:-2], atol=1e-5)


def test_a_coarser_grid_gets_means_and_loses_noise():
    fine_shape, fine = grid.grid(2)
    noise = np.random.default_rng(0).normal(size=fine_shape).astype(np.float32)
    coarse = onto_grid(noise, fine, SHAPE, AFFINE)
    assert coarse[_interior(SHAPE, 2)].std() < 0.4  # one voxel of 6 mm is the mean of 27
    smooth = onto_grid(_on(fine_shape, fine).astype(np.float32), fine, SHAPE, AFFINE)
    assert (
        np.corrcoef(smooth[_interior(SHAPE, 2)].ravel(), _on(SHAPE, AFFINE)[_interior(SHAPE, 2)].ravel())[0, 1] > 0.999
    )


def _scan(folder: Path, *, affine: np.ndarray = AFFINE, shape: tuple[int, ...] = SHAPE, mean: float = 1000.0) -> dict:
    """A scan in MNI space, its mask and its confounds, in fMRIPrep's names; the signal follows the first translation."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(3)
    motion = np.cumsum(0.02 * generator.normal(size=(N_SCANS, 6)), axis=0) * ([1] * 3 + [0.01] * 3)
    brain = onto_grid(grid.brain_mask(VOXEL_SIZE).astype(np.float32), AFFINE, shape, affine) > 0.5
    body = brain[..., None] * (mean + 8 * generator.normal(size=(*shape, N_SCANS)) + 60 * motion[:, 0])
    nib.Nifti1Image(body.astype(np.float32), affine).to_filename(folder / "bold.nii.gz")
    nib.Nifti1Image(brain.astype(np.uint8), affine).to_filename(folder / "mask.nii.gz")
    table = pd.DataFrame(motion, columns=list(MOTION))
    table["framewise_displacement"] = np.concatenate([[np.nan], np.linspace(0.1, 0.3, N_SCANS - 1)])
    table["a_comp_cor_00"] = table["w_comp_cor_00"] = generator.normal(size=N_SCANS)
    write_table(folder / "confounds.tsv", table)
    (folder / "confounds.json").write_text('{"w_comp_cor_00": {"Method": "aCompCor", "Mask": "WM"}}')
    return {"bold": folder / "bold.nii.gz", "mask": folder / "mask.nii.gz", "given_confounds": folder / "confounds.tsv"}


def _outputs(folder: Path) -> dict[str, Path]:
    names = {
        "image": "i.nii.gz",
        "mask": "m.nii.gz",
        "confounds": "c.tsv",
        "confounds_facts": "c.json",
        "record": "r.json",
    }
    return {name: folder / file for name, file in names.items()}


def _adopt(folder: Path, given: dict, **changes) -> dict[str, Path]:
    outputs = _outputs(folder / "out")
    settings = {"repetition_time": TR, "space": "MNI152NLin2009cAsym", "origin": "fMRIPrep 23.1.3"}
    settings |= {"engine": "embedded", "voxel_size": VOXEL_SIZE, "smoothing_fwhm": 0}
    given = dict(given)
    adopt_scan(given.pop("bold"), outputs, **given, **settings | changes)
    return outputs


def _judged(folder: Path, outputs: dict[str, Path], **denoising) -> tuple[dict, pd.Series]:
    """Denoising, quality and inclusion, as the workflow goes on: the denoising record and the scan's row."""
    done, record = folder / "denoised.nii.gz", folder / "denoised.json"
    denoise_scan(outputs["image"], outputs["confounds"], outputs["record"], done, record,
                 folder / "design.tsv", folder / "design.json", scan="sub-01_task-rest", repetition_time=TR, settings=SETTINGS | denoising)  # fmt: skip
    write_group_mask(folder / "group.nii.gz", VOXEL_SIZE)
    measure_scan(outputs["image"], outputs["mask"], outputs["confounds"], outputs["record"], record, folder / "group.nii.gz",
                 folder / "q.json", scan="sub-01_task-rest", participant="sub-01")  # fmt: skip
    decide_inclusion([folder / "q.json"], folder / "inclusion.tsv", settings=LIMITS, minimum_dof=5)
    return read_json(record), read_table(folder / "inclusion.tsv", text_columns=("reason",)).iloc[0]


FEW = {"wm_components": 1, "csf_components": 1, "motion_parameters": 12, "bandpass_low": None, "bandpass_high": None}


def test_an_fmriprep_scan_goes_on_from_denoising_with_its_own_confounds(tmp_path):
    given = _scan(tmp_path)
    outputs = _adopt(tmp_path, given)
    record = read_json(outputs["record"])
    assert record["status"] == "done", record["reason"]
    assert (record["origin"], record["unknown"]) == ("fMRIPrep 23.1.3", {})
    table, before = read_table(outputs["confounds"]), read_table(given["given_confounds"])
    pd.testing.assert_frame_equal(table[list(before.columns)], before)
    np.testing.assert_allclose(table["trans_x_derivative1"][1:], np.diff(before["trans_x"]), atol=1e-9)
    assert "w_comp_cor_01" not in table and "a_comp_cor_01" not in table  # no set of components of two origins
    assert {"dvars", "global_signal", "c_comp_cor_00"} <= set(record["computed_confounds"]) & set(table.columns)
    described = read_json(outputs["confounds_facts"])
    assert described["w_comp_cor_00"] == {"Method": "aCompCor", "Mask": "WM"}
    assert set(described) >= set(table.columns)

    image = nib.load(outputs["image"])
    np.testing.assert_allclose(image.affine, AFFINE)
    source = np.asarray(nib.load(given["bold"]).dataobj)
    np.testing.assert_allclose(np.asarray(image.dataobj), source * grid.brain_mask(VOXEL_SIZE)[..., None], atol=0.05)
    denoised, row = _judged(tmp_path, outputs, **FEW)
    assert denoised["regressors"][:6] == list(MOTION)
    assert bool(row["included"]) and pd.isna(row["reason"])
    clean = np.asarray(nib.load(tmp_path / "denoised.nii.gz").dataobj)[grid.brain_mask(VOXEL_SIZE)]
    assert abs(np.corrcoef(clean.mean(axis=0), before["trans_x"])[0, 1]) < 1e-3


def test_a_scan_on_another_grid_is_interpolated_once_and_smoothed(tmp_path):
    shape, affine = (64, 76, 64), np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (96, -130, -75)
    given = _scan(tmp_path, affine=affine, shape=shape)
    outputs = _adopt(tmp_path, given, smoothing_fwhm=8)
    steps = {step["step"]: step for step in read_json(outputs["record"])["steps"]}
    assert "interpolated once (cubic B-spline)" in steps["resampling"]["method"]
    assert steps["smoothing"]["parameters"] == {"fwhm": 8}
    brain = grid.brain_mask(VOXEL_SIZE)
    own = np.asarray(nib.load(outputs["mask"]).dataobj) > 0
    assert dice(own, brain) > 0.93
    image = np.asarray(nib.load(outputs["image"]).dataobj)
    assert image.shape == (*SHAPE, N_SCANS) and not image[~brain].any()
    noise = image - image.mean(axis=3, keepdims=True)
    assert noise[brain & own].std() < 8  # of 8 before local means and smoothing, with the part of motion on top


def test_without_a_mask_it_is_made_from_the_image(tmp_path):
    given = _scan(tmp_path)
    outputs = _adopt(tmp_path, {"bold": given["bold"]})
    record = read_json(outputs["record"])
    assert record["status"] == "done", record["reason"]
    assert record["quality"]["mask_dice"] > 0.85


def test_without_confounds_motion_is_not_known_and_nothing_pretends_that_it_is(tmp_path):
    given = _scan(tmp_path)
    outputs = _adopt(tmp_path, given | {"given_confounds": "n/a"}, origin=None)
    record = read_json(outputs["record"])
    table = read_table(outputs["confounds"])
    assert table[[*MOTION, "framewise_displacement"]].isna().all(axis=None)
    assert table[["global_signal", "w_comp_cor_00", "c_comp_cor_00"]].notna().all(axis=None)
    assert not set(record["computed_confounds"]) & {*MOTION, "framewise_displacement"}
    text = " ".join(record["methods"])
    assert "head motion is not known; DVARS, the global signal, aCompCor of white matter and aCompCor of" in text
    assert "by a program that their dataset does not name" in text

    denoised, row = _judged(tmp_path, outputs, **FEW)
    assert denoised["regressors"] == ["w_comp_cor_00", "c_comp_cor_00", "linear_trend"]
    assert denoised["dof_residual"] == N_SCANS - 1 - 3
    assert "head motion is not known and was not regressed out" in denoised["methods"][0]
    assert "motion parameters" not in denoised["methods"][0]
    assert bool(row["included"])
    assert row["reason"] == (
        "mean framewise displacement is not known (no head motion came with the images) and was not judged "
        "(quality.maximum_mean_displacement)"
    )
    assert read_json(tmp_path / "q.json")["mean_framewise_displacement"] is None


def test_a_scan_that_was_denoised_before_needs_nothing_taken_out(tmp_path):
    """No mean in time: no temporal signal-to-noise ratio, coverage where it varies; every part of denoising off."""
    given = _scan(tmp_path, mean=0.0)
    outputs = _adopt(tmp_path, {"bold": given["bold"]})
    record = read_json(outputs["record"])
    assert record["status"] == "done", record["reason"]
    assert set(record["unknown"]) >= {"tsnr", "mean_framewise_displacement"}
    nothing = {"wm_components": 0, "csf_components": 0, "motion_parameters": 0, "detrend": False, "bandpass_low": None,
               "outlier_displacement": None, "outlier_global_signal": None}  # fmt: skip
    denoised, row = _judged(tmp_path, outputs, **nothing)
    assert denoised["regressors"] == [] and denoised["dof_residual"] == N_SCANS - 1
    assert bool(row["included"]), row["reason"]
    before, after = (np.asarray(nib.load(path).dataobj) for path in (outputs["image"], tmp_path / "denoised.nii.gz"))
    np.testing.assert_allclose(after, before - before.mean(axis=3, keepdims=True), atol=1e-3)
    assert read_json(tmp_path / "q.json")["coverage"] > 0.95


def test_a_field_of_view_that_ends_in_another_slice_in_each_volume_is_no_lost_data(tmp_path):
    """Realigned and resampled: the highest slice is reached in some volumes alone; a hole within a volume is lost data."""
    given = _scan(tmp_path)
    image = nib.load(given["bold"])
    for lost, status in ((slice(0), "done"), (slice(7, 9), "failed")):
        data = np.asarray(image.dataobj).copy()
        top = np.flatnonzero(data.any(axis=(0, 1, 3)))[-1]
        data[:, :, top, ::2] = 0
        data[:, :, top // 2, lost] = 0
        nib.Nifti1Image(data, AFFINE).to_filename(given["bold"])
        record = read_json(_adopt(tmp_path, given)["record"])
        assert record["status"] == status, record["reason"]
    assert f"zero in 1 of {SHAPE[2]} slices along k ({top // 2}) in 2 of {N_SCANS} volumes" in record["reason"]


def test_a_mask_may_have_an_island_beyond_an_empty_slice(tmp_path):
    given = _scan(tmp_path)
    mask = np.asarray(nib.load(given["mask"]).dataobj).copy()
    top = np.flatnonzero(mask.any(axis=(0, 1)))[-1]
    mask[SHAPE[0] // 2, SHAPE[1] // 2, min(top + 2, SHAPE[2] - 1)] = 1
    mask[:, :, top] = 0
    nib.Nifti1Image(mask, AFFINE).to_filename(given["mask"])
    record = read_json(_adopt(tmp_path, given)["record"])
    assert record["status"] == "done", record["reason"]


def test_images_on_the_grid_already_are_said_to_be_as_they_came(tmp_path):
    given = _scan(tmp_path)
    assert "were not interpolated" in " ".join(read_json(_adopt(tmp_path, given)["record"])["methods"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda table: table.assign(w_comp_cor_00=np.r_[np.inf, table["w_comp_cor_00"][1:]]), "infinite values in w_comp_cor_00"),
        (lambda table: table.assign(rot_y=table["rot_y"].mask(table.index == 5)), "n/a in some volumes of rot_y"),
        (lambda table: table.drop(columns="trans_x"), "the head motion trans_y, trans_z, rot_x, rot_y, rot_z alone"),
    ],
)  # fmt: skip
def test_confounds_that_would_be_taken_for_others_are_refused(tmp_path, spoil, words):
    given = _scan(tmp_path)
    write_table(given["given_confounds"], spoil(read_table(given["given_confounds"])))
    record = read_json(_adopt(tmp_path, given)["record"])
    assert record["status"] == "failed" and words in record["reason"]
    assert "all of trans_x, trans_y, trans_z, rot_x, rot_y, rot_z in every volume or none" in record["reason"]


def test_a_column_without_one_value_is_computed(tmp_path):
    given = _scan(tmp_path)
    write_table(given["given_confounds"], read_table(given["given_confounds"]).assign(global_signal=np.nan))
    outputs = _adopt(tmp_path, given)
    assert "global_signal" in read_json(outputs["record"])["computed_confounds"]
    table = read_table(outputs["confounds"])
    assert table["global_signal"].notna().all() and table.columns.is_unique


def test_bad_images_are_recorded_and_leave_empty_files(tmp_path):
    given = _scan(tmp_path)
    image = nib.load(given["bold"])
    elsewhere = AFFINE.copy()
    elsewhere[2, 3] += 150
    for name in ("far", "mask", "words", "rows", "cut"):
        (tmp_path / name).mkdir()
    nib.Nifti1Image(np.asarray(image.dataobj), elsewhere).to_filename(tmp_path / "far/bold.nii.gz")
    nib.Nifti1Image(np.asarray(nib.load(given["mask"]).dataobj), elsewhere).to_filename(tmp_path / "far/mask.nii.gz")
    lines = given["given_confounds"].read_text().splitlines()
    (tmp_path / "words/c.tsv").write_text("\n".join([lines[0], lines[1].replace("n/a", "much"), *lines[2:]]) + "\n")
    (tmp_path / "rows/c.tsv").write_text("\n".join(lines[:-2]) + "\n")
    (tmp_path / "cut/bold.nii.gz").write_bytes(given["bold"].read_bytes()[:5000])
    cases = {
        "far": (
            {"bold": tmp_path / "far/bold.nii.gz", "mask": tmp_path / "far/mask.nii.gz"},
            "is it in MNI152NLin2009cAsym",
        ),
        "mask": ({"mask": tmp_path / "far/mask.nii.gz"}, "lies on another grid than its image"),
        "words": ({"given_confounds": tmp_path / "words/c.tsv"}, "no numbers in framewise_displacement"),
        "rows": ({"given_confounds": tmp_path / "rows/c.tsv"}, f"{N_SCANS - 2} rows; expected {N_SCANS} rows"),
        "cut": ({"bold": tmp_path / "cut/bold.nii.gz"}, "cannot be read to its end"),
    }
    for name, (changes, words) in cases.items():
        outputs = _adopt(tmp_path / name, given | changes)
        record = read_json(outputs["record"])
        assert record["status"] == "failed" and words in record["reason"], record["reason"]
        assert all(path.stat().st_size == 0 for key, path in outputs.items() if key != "record")


def test_a_whole_table_is_taken_as_it_is(tmp_path):
    """Nothing is computed where nothing lacks: an image without white matter (masked to grey) is then no failure."""
    given = _scan(tmp_path)
    generator = np.random.default_rng(1)
    series = generator.normal(100, 1, (*SHAPE, N_SCANS)).astype(np.float32)
    masks = {name: np.asarray(nib.load(given["mask"]).dataobj) > 0 for name in ("brain", "WM", "CSF")}
    whole = confounds(series, AFFINE, TR, generator.normal(size=(N_SCANS, 6)), masks, n_components=2)
    write_table(given["given_confounds"], whole)
    outputs = _adopt(tmp_path, given)
    assert read_json(outputs["record"])["computed_confounds"] == []
    pd.testing.assert_frame_equal(read_table(outputs["confounds"]), read_table(given["given_confounds"]))


def test_motion_that_came_gives_its_expansions_and_its_displacement():
    generator = np.random.default_rng(2)
    image = generator.normal(100, 1, (6, 6, 6, 12)).astype(np.float32)
    masks = {name: np.ones((6, 6, 6), bool) for name in ("brain", "WM", "CSF")}
    motion = generator.normal(size=(12, 6))
    table, computed = complete_confounds(pd.DataFrame(motion, columns=list(MOTION)), image, np.eye(4), TR, masks)
    own = confounds(image, np.eye(4), TR, motion, masks)
    pd.testing.assert_frame_equal(table[own.columns], own)
    assert set(computed) == set(own.columns) - set(MOTION)
