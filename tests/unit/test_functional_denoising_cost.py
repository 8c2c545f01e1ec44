"""What each part of the denoising costs, from nothing censored to everything censored, and what becomes of the scan."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from noise_scan import TR, noise_scan

from restresponse import grid
from restresponse.files import read_json, read_table, write_image, write_json, write_table
from restresponse.functional.denoising import PARTS, degrees_of_freedom, denoise_scan, dof_costs, regressors
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import decide_inclusion
from restresponse.quality.measures import measure_scan
from running import ROOT

N_SCANS, SCAN = 120, "sub-01_task-rest"
CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
DEFAULTS = CONFIG["functional"]["denoising"]
EVERYTHING = 1e-9  # mm, a threshold that every volume but the first exceeds


@pytest.fixture(scope="module")
def table():
    return noise_scan(N_SCANS)[3]


def settings(**changes):
    return {**DEFAULTS, **changes}


@pytest.fixture
def files(tmp_path, table):
    """A scan on the grid, its confounds and records, the template's brain."""
    brain, affine = grid.brain_mask(12), grid.grid(12)[1]
    noise = np.random.default_rng(1).standard_normal((*brain.shape, N_SCANS))
    write_image(tmp_path / "preproc.nii.gz", ((1000 + 10 * noise) * brain[..., None]).astype(np.float32), affine)
    write_image(tmp_path / "own.nii.gz", brain, affine)
    write_table(tmp_path / "confounds.tsv", table)
    write_json(tmp_path / "record.json", {"status": "done"})
    write_group_mask(tmp_path / "mask.nii.gz", 12)
    return tmp_path


def through_quality(files, minimum_dof=40, **changes):
    """Denoise, measure and decide; gives the denoising's record, the measures and the row of the inclusion table."""
    names = (
        "preproc.nii.gz",
        "confounds.tsv",
        "record.json",
        "denoised.nii.gz",
        "denoised.json",
        "design.tsv",
        "design.json",
    )
    denoise_scan(*(files / name for name in names), scan=SCAN, repetition_time=TR, settings=settings(**changes))
    names = (
        "preproc.nii.gz",
        "own.nii.gz",
        "confounds.tsv",
        "record.json",
        "denoised.json",
        "mask.nii.gz",
        "scan.json",
    )
    measure_scan(*(files / name for name in names), scan=SCAN, participant="sub-01")
    decide_inclusion(
        [files / "scan.json"], files / "inclusion.tsv", settings=CONFIG["quality"], minimum_dof=minimum_dof
    )
    return (
        read_json(files / "denoised.json"),
        read_json(files / "scan.json"),
        read_table(files / "inclusion.tsv").iloc[0],
    )


# ---------------------------------------------------------------- the costs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"wm_components": 0},
        {"csf_components": 0},
        {"motion_parameters": 0},
        {"motion_parameters": 24},
        {"detrend": False},
        {"bandpass_low": None},
        {"bandpass_high": None},
        {"bandpass": "after"},
        {"outlier_displacement": None, "outlier_global_signal": None},
        {"outlier_displacement": 0.06},
        {"outlier_displacement": EVERYTHING},
    ],
)
def test_volumes_less_every_parts_cost_are_the_residual_degrees(table, changes):
    costs = dof_costs(table, TR, settings(**changes))
    assert tuple(costs) == PARTS and min(costs.values()) >= 0
    band, residual = degrees_of_freedom(table, TR, settings(**changes))
    assert N_SCANS - sum(costs.values()) == residual
    assert N_SCANS - costs["mean"] - costs["bandpass"] == band


def test_each_part_costs_what_it_holds_where_nothing_is_shared(table):
    costs = dof_costs(table, TR, settings(outlier_displacement=None, outlier_global_signal=None))
    assert costs == {
        "mean": 1,
        "bandpass": 119 - 52,
        "motion": 12,
        "white_matter": 5,
        "csf": 5,
        "linear_trend": 1,
        "outlier_volumes": 0,
    }


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"wm_components": 0}, "white_matter"),
        ({"csf_components": 0}, "csf"),
        ({"motion_parameters": 0}, "motion"),
        ({"detrend": False}, "linear_trend"),
        ({"bandpass_low": None}, "bandpass"),
        ({"outlier_displacement": None, "outlier_global_signal": None}, "outlier_volumes"),
    ],
)
def test_a_part_that_is_switched_off_costs_nothing_and_the_scan_is_denoised(files, changes, part):
    record, _, _ = through_quality(files, **{"outlier_displacement": 0.12, **changes})
    assert record["status"] == "done" and record["dof_cost"][part] == 0
    assert all(cost > 0 for name, cost in record["dof_cost"].items() if name != part)


def test_what_two_parts_share_is_counted_once_for_the_first(table):
    shared = table.assign(w_comp_cor_00=2 * table["trans_x"] - 1)
    before, after = (dof_costs(one, TR, settings(motion_parameters=6)) for one in (table, shared))
    assert after["motion"] == before["motion"] == 6
    assert after["white_matter"] == before["white_matter"] - 1


# ---------------------------------------------------------------- nothing and everything censored


def test_nothing_censored_costs_nothing_and_the_scan_is_used(files):
    record, measures, row = through_quality(
        files, minimum_dof=20, outlier_displacement=None, outlier_global_signal=None
    )
    assert record["n_outliers"] == measures["n_outliers"] == 0 and record["outlier_volumes"] == []
    assert not any("outlier" in name for name in record["regressors"])
    assert measures["dof_residual"] == 52 - 23 and row["included"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bandpass_low": None},
        {"bandpass": "after"},
        {"motion_parameters": 0, "detrend": False, "wm_components": 0, "csf_components": 0},
    ],
)
def test_everything_censored_excludes_the_scan_with_that_reason_and_nothing_crashes(files, changes):
    record, measures, row = through_quality(files, outlier_displacement=EVERYTHING, **changes)
    assert (record["status"], record["dof_residual"], record["n_outliers"]) == ("failed", 0, N_SCANS - 1)
    assert (files / "denoised.nii.gz").stat().st_size == 0
    assert measures["status"] == "failed" and measures["dof_residual"] == 0 and measures["coverage"] == 1
    assert not row["included"]
    assert (
        "no degree of freedom is left" in row["reason"] and f"({N_SCANS - 1} of them outlier volumes)" in row["reason"]
    )


@pytest.mark.parametrize("bandpass_low", [None, DEFAULTS["bandpass_low"]])
@pytest.mark.parametrize("by", ["displacement", "steady state"])
def test_all_volumes_censored_the_first_too_ends_in_words(files, table, by, bandpass_low):
    """By a threshold that no config may have, and by a table that calls every volume one before the steady state."""
    changes = {"outlier_displacement": -1.0} if by == "displacement" else {"outlier_global_signal": None}
    if by == "steady state":
        early = pd.DataFrame(np.eye(N_SCANS), columns=[f"non_steady_state_outlier{k:02d}" for k in range(N_SCANS)])
        write_table(files / "confounds.tsv", pd.concat([table, early], axis=1))
    record, measures, row = through_quality(files, bandpass_low=bandpass_low, **changes)
    assert record["outlier_volumes"] == list(range(N_SCANS)) and record["n_outliers"] == N_SCANS
    assert (record["status"], record["dof_residual"], measures["dof_residual"]) == ("failed", 0, 0)
    assert not row["included"] and f"({N_SCANS} of them outlier volumes)" in row["reason"]


def test_fewer_degrees_than_the_config_wants_exclude_the_scan_with_both_numbers(files):
    record, measures, row = through_quality(files, minimum_dof=30)
    assert record["status"] == "done" and measures["dof_residual"] == 29
    assert not row["included"]
    assert row["reason"] == "residual degrees of freedom 29 is below 30 (quality.minimum_dof)"
    assert through_quality(files, minimum_dof=29)[2]["included"]


# ---------------------------------------------------------------- the regressors, as a table


def test_the_regressors_that_were_used_are_written_under_fmripreps_names(files, table):
    record, _, _ = through_quality(files, outlier_displacement=0.15)
    design = read_table(files / "design.tsv")
    facts = read_json(files / "design.json")
    assert list(design) == record["regressors"] == list(facts)
    outliers = [name for name in design if name.startswith("motion_outlier")]
    assert outliers[0] == "motion_outlier00" and len(outliers) == record["n_outliers"] > 0
    for name, volume in zip(outliers, record["outlier_volumes"], strict=True):
        assert np.flatnonzero(design[name]).tolist() == [volume] and f"volume {volume} " in facts[name]["Description"]
    expected = regressors(table, settings(outlier_displacement=0.15))
    pd.testing.assert_frame_equal(design, expected, check_dtype=False, rtol=1e-8, atol=1e-12)


def test_a_scan_that_failed_before_has_empty_regressors(files):
    write_json(files / "record.json", {"status": "failed", "reason": "the image is truncated"})
    record, _, row = through_quality(files)
    assert record["reason"] == row["reason"] == "the image is truncated"
    assert (files / "design.tsv").stat().st_size == (files / "design.json").stat().st_size == 0
