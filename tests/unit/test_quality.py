"""A scan's measures are what they are named for; each is held against fixed thresholds and nothing else."""

import random
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from restresponse import grid
from restresponse.errors import DamagedFile
from restresponse.files import read_json, read_table, write_image, write_json, write_table
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import SET_ASIDE, decide_inclusion, not_judged, reasons_against
from restresponse.quality.measures import (
    MEASURES,
    dice,
    measure_scan,
    moments,
    motion_measures,
    signal_mask,
    temporal_snr,
)
from running import ROOT

THRESHOLDS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["quality"]
GOOD = {
    "failed": None,
    "mean_framewise_displacement": 0.2,
    "coverage": 0.95,
    "overlap": 0.9,
    "dof_residual": 60,
}
LIMITS = {**THRESHOLDS, "minimum_dof": 40}


@pytest.fixture(scope="module")
def brain():
    return grid.brain_mask(8)


@pytest.fixture
def files(tmp_path, brain):
    """A scan of 30 volumes that fits the template, with one jerk, and its records."""
    noise = np.random.default_rng(0).standard_normal((*brain.shape, 30))
    image = ((1000 + 10 * noise) * brain[..., None]).astype(np.float32)
    affine = grid.grid(8)[1]
    write_image(tmp_path / "preproc.nii.gz", image, affine, repetition_time=2.6)
    write_image(tmp_path / "own.nii.gz", brain, affine)
    table = pd.DataFrame(dict.fromkeys([f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"], np.zeros(30)))
    table["framewise_displacement"] = np.r_[np.nan, np.full(28, 0.1), 1.5]
    table["dvars"] = np.r_[np.nan, np.full(29, 14.0)]
    write_table(tmp_path / "confounds.tsv", table)
    write_json(tmp_path / "record.json", {"status": "done"})
    record = {"status": "done", "reason": None, "dof_bandpass": 12, "dof_residual": 9, "n_outliers": 1, "n_volumes": 30}
    write_json(tmp_path / "denoised.json", {**record, "outlier_volumes": [29]})
    write_group_mask(tmp_path / "mask.nii.gz", 8)
    return tmp_path


def measure(files):
    inputs = ("preproc.nii.gz", "own.nii.gz", "confounds.tsv", "record.json", "denoised.json", "mask.nii.gz")
    paths = [files / name for name in (*inputs, "scan.json")]
    measure_scan(*paths, scan="sub-01_task-rest", participant="sub-01")
    return read_json(files / "scan.json")


# ---------------------------------------------------------------- measures


def test_dice_of_known_masks():
    first, second = np.zeros(10, bool), np.zeros(10, bool)
    first[:4], second[2:8] = True, True
    assert dice(first, second) == pytest.approx(2 * 2 / 10)
    assert dice(first, first) == 1 and dice(first, ~first) == 0 and dice(first & second & False, first & False) == 0


def test_signal_is_where_the_mean_is_above_a_fifth_of_the_brains_median():
    brain = np.ones((4, 4, 4), bool)
    brain[0] = False
    mean = np.full(brain.shape, 100.0)
    mean[1, 0, 0], mean[1, 0, 1] = 19, 21
    signal = signal_mask(mean, brain)
    assert not signal[1, 0, 0] and signal[1, 0, 1] and not signal[0].any() and signal.sum() == 47
    assert not signal_mask(np.zeros(brain.shape), brain).any()


def test_temporal_snr_of_known_noise_is_mean_over_standard_deviation():
    series = 500 + 5 * np.random.default_rng(1).standard_normal((2000, 200))
    found = temporal_snr(series.mean(axis=1), series.std(axis=1), np.ones(2000, bool))
    assert found == pytest.approx(100, rel=0.02)
    assert np.isnan(temporal_snr(np.ones(5), np.zeros(5), np.ones(5, bool)))


def test_moments_taken_volume_by_volume_are_those_of_the_scaled_series():
    stored = np.random.default_rng(2).integers(-3000, 30000, (3, 4, 5, 40)).astype(np.int16)
    mean, deviation = moments(stored, 0.037, 12.0)
    values = 0.037 * stored.astype(float) + 12
    assert mean == pytest.approx(values.mean(axis=3)) and deviation == pytest.approx(values.std(axis=3))


def test_motion_measures_leave_out_the_first_volume_that_has_no_predecessor():
    table = pd.DataFrame({"framewise_displacement": [np.nan, 0.1, 0.5], "dvars": [np.nan, 10, 30]})
    assert motion_measures(table) == pytest.approx(
        {"mean_framewise_displacement": 0.3, "maximum_framewise_displacement": 0.5, "mean_dvars": 20}
    )


def test_a_scan_that_fits_the_template_is_measured(files):
    found = measure(files)
    assert found["scan"] == "sub-01_task-rest" and found["participant_id"] == "sub-01"
    assert (found["status"], found["failed"]) == ("done", None)
    assert found["coverage"] == 1 and found["overlap"] == 1
    assert found["tsnr"] == pytest.approx(100, rel=0.05)
    assert found["mean_framewise_displacement"] == pytest.approx((28 * 0.1 + 1.5) / 29)
    assert found["maximum_framewise_displacement"] == 1.5 and found["mean_dvars"] == 14
    assert (found["dof_bandpass"], found["dof_residual"], found["n_outliers"], found["n_volumes"]) == (12, 9, 1, 30)


def test_a_field_of_view_cut_at_the_top_lowers_coverage_and_overlap_by_what_it_lacks(files, brain):
    import nibabel as nib

    cut = 14  # of the grid's slices from below
    lost = brain[:, :, cut:].sum() / brain.sum()
    image = nib.load(files / "preproc.nii.gz")
    data = np.asarray(image.dataobj, np.float32).copy()
    data[:, :, cut:] = 0
    write_image(files / "preproc.nii.gz", data, image.affine)
    own = brain.copy()
    own[:, :, cut:] = False
    write_image(files / "own.nii.gz", own, image.affine)
    found = measure(files)
    assert 0.1 < lost < 0.6
    assert found["coverage"] == pytest.approx(1 - lost)
    assert found["overlap"] == pytest.approx(2 * (1 - lost) / (2 - lost))


def test_a_scan_that_failed_in_preprocessing_has_its_reason_and_no_measures(files):
    reason = "the image is truncated: $3 of 30 volumes"
    write_json(files / "record.json", {"status": "failed", "reason": reason})
    write_json(files / "denoised.json", {"status": "failed", "reason": reason})
    for name in ("preproc.nii.gz", "own.nii.gz", "confounds.tsv"):
        (files / name).write_bytes(b"")
    found = measure(files)
    assert (found["status"], found["failed"]) == ("failed", reason)
    assert all(found[name] is None for name in MEASURES)


def test_what_is_odd_in_a_scans_headers_goes_on_with_its_measures_even_where_it_failed(files):
    notes = {"notes": ["of the BOLD"], "anatomical_notes": ["of the T1w"]}
    for status in ("done", "failed"):
        write_json(files / "record.json", {"status": status, "reason": "it is no head", **notes})
        assert measure(files)["notes"] == ["of the T1w", "of the BOLD"]
    write_json(files / "record.json", {"status": "done"})
    assert measure(files)["notes"] == []


def test_a_scan_that_denoising_left_nothing_of_is_measured_and_failed(files):
    reason = "no degree of freedom is left"
    write_json(files / "denoised.json", {"status": "failed", "reason": reason, "dof_bandpass": 12, "dof_residual": 0})
    found = measure(files)
    assert (found["status"], found["failed"], found["dof_residual"]) == ("failed", reason, 0)
    assert found["coverage"] == 1


def test_an_image_of_another_grid_or_length_is_damage_and_no_failed_scan(files, brain):
    whole, table = (files / "preproc.nii.gz").read_bytes(), read_table(files / "confounds.tsv")
    write_table(files / "confounds.tsv", table.iloc[:-1])
    with pytest.raises(
        DamagedFile, match=rf"confounds.tsv is not whole \({len(table) - 1} rows; expected {len(table)}"
    ):
        measure(files)
    write_table(files / "confounds.tsv", table)
    write_image(files / "preproc.nii.gz", np.ones((4, 4, 4, 30), np.float32), np.eye(4))
    with pytest.raises(
        DamagedFile, match=rf"{re.escape('(4, 4, 4, 30)')}.*expected the grid {re.escape(str(brain.shape))}"
    ):
        measure(files)
    (files / "preproc.nii.gz").write_bytes(whole[:0])  # as where a failed scan was, but the record says that it is done
    with pytest.raises(DamagedFile, match=r"rm \S*preproc.nii.gz"):
        measure(files)


def test_the_group_mask_is_the_templates_brain(tmp_path, brain):
    import nibabel as nib

    write_group_mask(tmp_path / "mask.nii.gz", 8)
    image = nib.load(tmp_path / "mask.nii.gz")
    assert image.get_data_dtype() == np.uint8 and np.array_equal(np.asarray(image.dataobj) > 0, brain)
    assert image.affine == pytest.approx(grid.grid(8)[1])


# ---------------------------------------------------------------- inclusion


def test_a_good_scan_has_no_reason_against_it_and_thresholds_themselves_are_allowed():
    assert reasons_against(GOOD, LIMITS) == []
    edge = {**GOOD, "mean_framewise_displacement": 0.5, "coverage": 0.85, "overlap": 0.80, "dof_residual": 40}
    assert reasons_against(edge, LIMITS) == []


@pytest.mark.parametrize(
    ("measure_name", "value", "key", "shown"),
    [
        ("mean_framewise_displacement", 0.62, "maximum_mean_displacement", "0.62 mm is above 0.5 mm"),
        ("coverage", 0.7, "minimum_coverage", "0.7 is below 0.85"),
        ("overlap", 0.75, "minimum_overlap", "0.75 is below 0.8"),
        ("dof_residual", 39, "minimum_dof", "39 is below 40"),
        ("overlap", None, "minimum_overlap", "could not be measured"),
    ],
)
def test_each_measure_beyond_its_threshold_is_a_reason_that_names_both(measure_name, value, key, shown):
    [reason] = reasons_against({**GOOD, measure_name: value}, LIMITS)
    assert shown in reason and f"quality.{key}" in reason


def test_no_threshold_is_no_limit():
    moving = {**GOOD, "mean_framewise_displacement": 9.0}
    assert reasons_against(moving, {**LIMITS, "maximum_mean_displacement": None}) == []


def test_what_nobody_can_know_is_no_reason_and_is_said():
    """Images that came without head motion are not left out for it; one that could be measured and was not is."""
    unknown = {
        **GOOD,
        "mean_framewise_displacement": None,
        "unknown": {"mean_framewise_displacement": "no motion came"},
    }
    assert reasons_against(unknown, LIMITS) == []
    assert not_judged(unknown, LIMITS) == [
        "mean framewise displacement is not known (no motion came) and was not judged (quality.maximum_mean_displacement)"
    ]
    [reason] = reasons_against({**unknown, "coverage": None}, LIMITS)
    assert "could not be measured (quality.minimum_coverage)" in reason
    assert not_judged(unknown, {**LIMITS, "maximum_mean_displacement": None}) == []
    assert not_judged(GOOD, LIMITS) == not_judged({**unknown, "failed": "cut short"}, LIMITS) == []


def write_measures(folder, changes):
    paths = []
    for scan, change in changes.items():
        paths.append(folder / f"{scan}.json")
        write_json(paths[-1], {"scan": scan, "participant_id": scan.split("_")[0], **GOOD, **change})
    return paths


def test_the_table_lists_every_scan_with_every_reason(tmp_path):
    paths = write_measures(
        tmp_path,
        {
            "sub-03_task-rest": {"coverage": 0.5, "overlap": 0.5},
            "sub-01_task-rest": {},
            "sub-02_task-rest": {"failed": "the image is truncated:\n  3 of 30 volumes"},
        },
    )
    decide_inclusion(
        paths,
        tmp_path / "inclusion.tsv",
        settings=THRESHOLDS,
        minimum_dof=40,
        set_aside=[("sub-04_task-rest", "sub-04")],
    )
    table = read_table(tmp_path / "inclusion.tsv")
    assert list(table) == ["scan", "participant_id", "included", "reason"]
    assert table["scan"].tolist() == [f"sub-0{k}_task-rest" for k in (1, 2, 3, 4)]
    assert table["included"].tolist() == [True, False, False, False]
    assert table["reason"].isna().tolist() == [True, False, False, False]
    assert table["reason"][1] == "the image is truncated: 3 of 30 volumes"
    assert len(table["reason"][2].split("; ")) == 2
    assert table["reason"][3] == SET_ASIDE


def test_the_number_of_components_decides_the_degrees_only_where_the_config_does_not(tmp_path):
    paths = write_measures(tmp_path, {"sub-01_task-rest": {"dof_residual": 30}})
    for stated, included in ((None, False), (25, True), (35, False)):
        settings = {**THRESHOLDS, "minimum_dof": stated}
        decide_inclusion(paths, tmp_path / "inclusion.tsv", settings=settings, minimum_dof=40)
        assert read_table(tmp_path / "inclusion.tsv")["included"].tolist() == [included]


def test_a_decision_does_not_depend_on_the_other_scans(tmp_path):
    changes = {f"sub-{k:02d}_task-rest": {"mean_framewise_displacement": 0.05 * k} for k in range(1, 20)}
    paths = write_measures(tmp_path, changes)
    random.Random(0).shuffle(paths)
    decide_inclusion(paths, tmp_path / "all.tsv", settings=THRESHOLDS, minimum_dof=40)
    decide_inclusion(sorted(paths)[8:12], tmp_path / "some.tsv", settings=THRESHOLDS, minimum_dof=40)
    everyone, some = (read_table(tmp_path / name).set_index("scan") for name in ("all.tsv", "some.tsv"))
    pd.testing.assert_frame_equal(everyone.loc[some.index], some)
    assert some["included"].nunique() == 2  # the four stand on both sides of the threshold
    assert all(re.search(r"is above 0\.5 mm", reason) for reason in everyone["reason"].dropna())
