"""Motion that differs between the groups is found and said in words; where none is planted, so is that."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from restresponse.files import read_table, write_json, write_table
from restresponse.metrics.motion import COLUMNS, MEASURES, compare_groups, detectable_shift, write_motion
from restresponse.report.group_motion import motion_rows, motion_sentences


def table_of(tmp_path, responders, others, runs=1, **further):
    """The table of participants with these mean displacements (mm), every scan of a participant the same."""
    people = [f"sub-{number:02d}" for number in range(len(responders) + len(others))]
    scans = [f"{name}_run-{run}" for name in people for run in range(runs)]
    values = dict(zip(people, [*responders, *others], strict=True))
    for scan in scans:
        displacement = float(values[scan.split("_")[0]])
        content = {"mean_framewise_displacement": displacement, "maximum_framewise_displacement": 10 * displacement}
        content = content if np.isfinite(displacement) else dict.fromkeys(content)
        write_json(tmp_path / f"{scan}.json", content | {"n_outliers": 1, "dof_residual": 40} | further.get(scan, {}))
    inclusion = pd.DataFrame({"scan": scans, "participant_id": [scan.split("_")[0] for scan in scans]})
    inclusion["included"], inclusion["reason"] = [not further.get(scan, {}).get("excluded") for scan in scans], None
    write_table(tmp_path / "inclusion.tsv", inclusion)
    response = [1] * len(responders) + [0] * len(others)
    write_table(tmp_path / "labels.tsv", pd.DataFrame({"participant_id": people, "response": response}))
    write_motion(
        labels=tmp_path / "labels.tsv",
        inclusion=tmp_path / "inclusion.tsv",
        quality={scan: tmp_path / f"{scan}.json" for scan in scans},
        confidence=0.95,
        motion=tmp_path / "motion.tsv",
    )
    return read_table(tmp_path / "motion.tsv", text_columns=("measure",))


def test_a_planted_difference_is_found_with_its_size_interval_and_what_a_classifier_could_make_of_it(tmp_path):
    random = np.random.default_rng(0)
    table = table_of(tmp_path, random.normal(0.30, 0.05, 29), random.normal(0.15, 0.05, 14))
    assert list(table) == list(COLUMNS) and table["measure"].tolist() == list(MEASURES)
    row = table.iloc[0]
    assert row["difference"] == pytest.approx(0.15, abs=0.04)
    assert row["low"] < 0.15 < row["high"] and row["p_welch"] < 1e-6 and row["p_mannwhitney"] < 1e-5
    assert row["auc"] > 0.95
    sentences = motion_sentences(table, 0.95)
    assert sentences[0].startswith("Motion differs between the groups: mean framewise displacement")
    assert "A classifier could use it" in sentences[0] and "Welch p < 0.001" in sentences[0]
    assert sentences[1].startswith("They differ in greatest framewise displacement")


def test_no_difference_says_how_large_a_one_was_excluded_and_how_large_a_one_would_have_been_found(tmp_path):
    random = np.random.default_rng(1)
    table = table_of(tmp_path, random.normal(0.2, 0.05, 12), random.normal(0.2, 0.05, 12))
    row = table.iloc[0]
    assert row["p_welch"] > 0.05
    first, second = motion_sentences(table, 0.95)
    assert first.startswith(f"No difference in motion of more than {max(-row['low'], row['high']):.3f} mm was seen")
    assert f"12 non-responders, a difference of {row['detectable']:.3f} mm would have been detected" in first
    assert second.startswith("Nor was a difference seen")


def test_tests_and_interval_are_welchs_and_mann_whitneys():
    from scipy import stats

    first, second = [1.0, 2, 3, 4, 9], [2.0, 2.5, 7]
    found = compare_groups(pd.Series(first), pd.Series([*second, np.nan]), 0.9)
    # by hand: means 3.8 and 3.833, variances 9.7 and 7.583
    error = np.sqrt(9.7 / 5 + 7.583333 / 3)
    degrees = error**4 / ((9.7 / 5) ** 2 / 4 + (7.583333 / 3) ** 2 / 2)
    assert found["t"] == pytest.approx((3.8 - 11.5 / 3) / error)
    assert found["p_welch"] == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    assert found["high"] - found["difference"] == pytest.approx(error * stats.t.ppf(0.95, degrees), rel=1e-5)
    assert found["difference"] == pytest.approx(3.8 - 11.5 / 3)
    assert (found["low"] + found["high"]) / 2 == pytest.approx(found["difference"])
    # of the 15 pairs the first is greater in 3, 4 (one: 2.5), 9 (all three) and level once (2, 2)
    assert found["auc"] == pytest.approx((0 + 0.5 + 2 + 2 + 3) / 15)
    assert found["n_nonresponders"] == 3


def test_what_was_detectable_is_detected_four_times_in_five():
    from scipy import stats

    random, sizes = np.random.default_rng(2), (10, 16)
    groups = [pd.Series(random.standard_normal(size)) for size in sizes]
    planted = compare_groups(*groups, 0.95)["detectable"]
    spread = [group.std() for group in groups]
    first = planted + spread[0] * random.standard_normal((4000, sizes[0]))
    second = spread[1] * random.standard_normal((4000, sizes[1]))
    p = stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("degrees", [1.5, 2.3, 12.0, 80.0])
def test_the_detectable_shift_agrees_with_the_noncentral_t(degrees):
    from scipy import stats

    shift = detectable_shift(degrees, 0.05)
    critical = stats.t.ppf(0.975, degrees)
    assert stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift) == pytest.approx(
        0.8, abs=2e-3
    )


def test_a_class_of_one_cannot_be_tested_and_says_so(tmp_path):
    table = table_of(tmp_path, [0.4], [0.1, 0.2, 0.15])
    row = table.iloc[0]
    assert (row["n_responders"], row["n_nonresponders"], row["auc"]) == (1, 3, 1)
    assert row[["low", "high", "p_welch", "detectable", "sd_responders"]].isna().all()
    (sentence,) = motion_sentences(table, 0.95)
    assert "cannot be tested with 1 responders and 3 non-responders" in sentence
    assert motion_rows(table)[0]["responders"] == "0.400" and motion_rows(table)[0]["detectable"] == "n/a"


def test_an_empty_class_and_numbers_that_are_all_the_same_are_no_errors(tmp_path):
    table = table_of(tmp_path, [], [0.1, 0.2])
    assert table["p_mannwhitney"].isna().all() and "cannot be tested" in motion_sentences(table, 0.95)[0]
    table = table_of(tmp_path, [0.1, 0.1], [0.1, 0.1, 0.1])
    assert table["p_welch"].isna().all() and table["difference"].tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert "nothing to test" in motion_sentences(table, 0.95)[0]


def test_motion_that_is_not_known_of_any_scan_is_said_and_not_taken_for_empty_groups(tmp_path):
    """Bare NIfTI files without confounds: no scan has a displacement."""
    table = table_of(tmp_path, [np.nan] * 6, [np.nan] * 6)
    assert table.loc[0, ["all_responders", "all_nonresponders", "n_responders", "n_nonresponders"]].tolist() == [
        6,
        6,
        0,
        0,
    ]
    (sentence,) = motion_sentences(table, 0.95)
    assert sentence.startswith("Head motion is not known of any scan of the 6 responders and 6 non-responders")
    assert "cannot be tested" in sentence and "two at least" not in sentence
    assert motion_rows(table)[0]["responders"] == "n/a" and motion_rows(table)[3]["responders"] == "40.0 ± 0.0"


def test_motion_that_is_known_of_some_is_compared_of_those_and_says_of_how_many(tmp_path):
    table = table_of(tmp_path, [0.2, np.nan, 0.3, 0.25], [0.2, 0.3, np.nan, np.nan, 0.24])
    row = table.iloc[0]
    assert row[["all_responders", "all_nonresponders", "n_responders", "n_nonresponders"]].tolist() == [4, 5, 3, 3]
    assert row["mean_responders"] == pytest.approx(0.25)
    first, second, _ = motion_sentences(table, 0.95)
    assert "With 3 responders and 3 non-responders" in first
    assert (
        second.startswith("Head motion is known of 3 of 4 responders and 3 of 5 non-responders") and "alone" in second
    )
    (sentence, further) = motion_sentences(table_of(tmp_path, [0.2, np.nan, np.nan], [0.2, 0.3, np.nan]), 0.95)
    assert "with 1 responders and 2 non-responders whose head motion is known" in sentence
    assert further.startswith("Head motion is known of 1 of 3 responders")


def test_a_participants_runs_count_once_and_excluded_ones_not_at_all(tmp_path):
    further = {
        "sub-00_run-0": {"mean_framewise_displacement": 0.5},
        "sub-01_run-1": {"mean_framewise_displacement": 9.0, "excluded": True},
    }
    table = table_of(tmp_path, [0.1, 0.3], [0.2, 0.2], runs=2, **further)
    row = table.iloc[0]
    assert row["n_responders"] == 2
    assert row["mean_responders"] == pytest.approx(((0.5 + 0.1) / 2 + 0.3) / 2)
    assert table.iloc[1]["mean_responders"] == pytest.approx((1.0 + 3.0) / 2)  # the greatest of the runs


def test_a_measure_that_differs_beside_an_equal_mean_displacement_is_named(tmp_path):
    further = {f"sub-{number:02d}_run-0": {"n_outliers": 6 + number % 3} for number in range(8)}
    values = 0.1 + 0.01 * np.arange(8)
    sentences = motion_sentences(table_of(tmp_path, values, values, **further), 0.95)
    assert sentences[0].startswith("No difference in motion of more than")
    assert (
        sentences[1].startswith("They differ in outlier volumes a scan 7")
        or "outlier volumes a scan 6.9" in sentences[1]
    )
