"""The tables of the cohort, of the components' stability over folds and of the computing time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from restresponse.files import read_table, write_array, write_json, write_table
from restresponse.metrics.characteristics import compare, mean_displacement, write_cohort_table
from restresponse.metrics.stability import COLUMNS, align_components, write_stability
from restresponse.metrics.timing import write_timing

PEOPLE = [f"sub-{number}" for number in range(1, 7)]
RESPONSE = pd.Series([1, 1, 1, 0, 0, 0], index=PEOPLE)


def test_numbers_are_compared_by_welch_and_missing_ones_counted():
    from scipy import stats

    values = pd.Series([1.0, 2.0, 3.0, 10.0, 20.0, np.nan], index=PEOPLE)
    ((name, level, responders, others, test, p, *missing),) = compare("age", values, RESPONSE)
    assert (name, level, responders, others, test) == ("age", None, "2.0 ± 1.0", "15.0 ± 7.1", "Welch's t")
    assert p == pytest.approx(stats.ttest_ind([1, 2, 3], [10, 20], equal_var=False).pvalue)
    assert missing == [0, 1]


def test_two_categories_are_compared_by_fisher():
    values = pd.Series(["F", "F", "F", "M", "M", "F"], index=PEOPLE)
    rows = compare("sex", values, RESPONSE)
    assert [row[:4] for row in rows] == [("sex", "F", "3 (100%)", "1 (33%)"), ("sex", "M", "0 (0%)", "2 (67%)")]
    # Fixed margins 3, 3 | 4, 2: P(3 F among responders) = 4/20, and the mirrored table is as likely.
    assert rows[0][4:6] == ("Fisher's exact", pytest.approx(0.4))
    assert rows[1][4] is None


def test_more_categories_are_compared_by_chi_squared():
    values = pd.Series(["a", "a", "b", "b", "c", "c"], index=PEOPLE)
    rows = compare("site", values, RESPONSE)
    assert rows[0][4] == "chi-squared"
    assert rows[0][5] == pytest.approx(np.exp(-4 / 2))  # chi-squared of 4 with 2 degrees of freedom


@pytest.mark.parametrize("values", [["a"] * 6, [1.0] * 6, [np.nan] * 6, [1.0, np.nan, np.nan, 2.0, np.nan, np.nan]])
def test_what_cannot_be_tested_has_no_p(values):
    rows = compare("flat", pd.Series(values, index=PEOPLE), RESPONSE)
    assert all(np.isnan(row[5]) for row in rows)


def test_table_of_the_cohort_takes_classified_participants_and_columns_that_exist(tmp_path, capsys):
    write_table(
        tmp_path / "participants.tsv",
        pd.DataFrame({"participant_id": [*PEOPLE, "sub-9"], "age": [40.0, 50, 60, 41, 51, 61, 1000]}),
    )
    write_table(tmp_path / "labels.tsv", pd.DataFrame({"participant_id": PEOPLE, "response": RESPONSE.to_numpy()}))
    inclusion = pd.DataFrame({"scan": PEOPLE, "participant_id": PEOPLE, "included": True, "reason": None})
    write_table(tmp_path / "inclusion.tsv", inclusion)
    for place, name in enumerate(PEOPLE):
        write_json(tmp_path / f"{name}.json", {"mean_framewise_displacement": 0.1 + 0.01 * place})
    write_cohort_table(
        participants=tmp_path / "participants.tsv",
        labels=tmp_path / "labels.tsv",
        quality={name: tmp_path / f"{name}.json" for name in PEOPLE},
        inclusion=tmp_path / "inclusion.tsv",
        characteristics=["age", "hba1c"],
        cohort_table=tmp_path / "table.tsv",
    )
    table = read_table(tmp_path / "table.tsv", text_columns=("responders", "nonresponders")).set_index("characteristic")
    assert table.index.tolist() == ["participants", "age", "mean framewise displacement (mm)"]
    assert table.loc["participants", ["responders", "nonresponders"]].tolist() == ["3", "3"]
    assert table.loc["age", "responders"] == "50.0 ± 10.0"
    assert "no column hba1c" in capsys.readouterr().out


def test_displacement_is_the_mean_over_a_participants_included_scans(tmp_path):
    scans = ["sub-1_run-1", "sub-1_run-2", "sub-1_run-3", "sub-2"]
    table = pd.DataFrame(
        {
            "scan": scans,
            "participant_id": ["sub-1"] * 3 + ["sub-2"],
            "included": [True, True, False, True],
            "reason": None,
        }
    )
    write_table(tmp_path / "inclusion.tsv", table)
    for scan, displacement in zip(scans, (0.1, 0.3, 9.0, 0.5), strict=True):
        write_json(tmp_path / f"{scan}.json", {"mean_framewise_displacement": displacement})
    found = mean_displacement(tmp_path / "inclusion.tsv", {scan: tmp_path / f"{scan}.json" for scan in scans})
    assert found.to_dict() == pytest.approx({"sub-1": 0.2, "sub-2": 0.5})


def test_components_are_aligned_whatever_their_order_and_sign():
    maps = np.random.default_rng(1).normal(size=(5, 400))
    order = [3, 0, 4, 1, 2]
    signs = np.array([1, -1, 1, -1, 1])
    shuffled = (maps * signs[:, None])[order]
    assigned, found = align_components(maps, shuffled)
    assert [order[index] for index in assigned] == list(range(5))
    assert found == pytest.approx(signs)
    replaced = shuffled.copy()
    replaced[order.index(2)] = np.random.default_rng(2).normal(size=400)
    found = align_components(maps, replaced)[1]
    assert found[[0, 1, 3, 4]] == pytest.approx(signs[[0, 1, 3, 4]])
    assert abs(found[2]) < 0.2


def test_another_order_leaves_maps_over_and_a_constant_map_agrees_with_none():
    maps = np.random.default_rng(1).normal(size=(5, 400))
    assigned, found = align_components(maps, maps[[4, 0]])
    assert assigned.tolist() == [1, -1, -1, -1, 0]
    assert np.isnan(found[1:4]).all() and found[[0, 4]] == pytest.approx([1, 1])
    assert align_components(maps[[4, 0]], maps)[0].tolist() == [4, 0]
    assert align_components(maps, np.vstack([maps[:4], np.zeros(400)]))[1][4] == 0


def test_stability_has_each_networks_share_of_folds_under_its_name(tmp_path):
    maps = np.random.default_rng(1).normal(size=(3, 400))
    names = ["Visual", "Language", None]
    other = maps + np.random.default_rng(2).normal(size=maps.shape)
    for name, array, networks in (
        ("all", maps, names),
        ("one", maps[[2, 1, 0]], names[::-1]),
        ("two", other, ["Visual", None, None]),
    ):
        write_array(tmp_path / f"{name}.npy", array)
        write_table(tmp_path / f"{name}.tsv", pd.DataFrame({"component": [1, 2, 3], "network": networks}))
    write_stability(
        reference=tmp_path / "all.npy",
        networks=tmp_path / "all.tsv",
        folds={fold: tmp_path / f"{fold}.npy" for fold in ("one", "two")},
        fold_networks={fold: tmp_path / f"{fold}.tsv" for fold in ("one", "two")},
        component_stability=tmp_path / "stability.tsv",
    )
    table = read_table(tmp_path / "stability.tsv", text_columns=("network", "least_fold"))
    assert tuple(table.columns) == COLUMNS
    assert table["same_network"].tolist()[:2] == [1.0, 0.5] and np.isnan(table["same_network"][2])
    assert set(table["least_fold"]) == {"two"} and table["least_r"].between(0.6, 0.8).all()
    assert table["mean_r"].to_numpy() == pytest.approx((1 + table["least_r"].to_numpy()) / 2)


def test_timing_is_the_mean_over_folds_and_the_highest_peak(tmp_path):
    sidecars = {}
    for fold, seconds, peak in (("rep-1_fold-01", 60, 1024), ("rep-1_fold-02", 180, 2048)):
        sidecars["clean", "asc", "voxnet", fold] = path = tmp_path / f"{fold}.json"
        write_json(path, {"seconds": seconds, "peak_memory_mb": peak, "n_parameters": 1404641})
    write_timing(sidecars=sidecars, timing=tmp_path / "timing.tsv")
    (row,) = read_table(tmp_path / "timing.tsv", text_columns=()).to_dict("records")
    assert row["minutes_per_fold"] == 2
    assert row["minutes_total"] == 4
    assert row["peak_memory_gb"] == 2
    assert row["n_parameters"] == 1404641
