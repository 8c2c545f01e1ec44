"""Comparisons, calibration, spread, power and the p of permutations against known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_metrics import paper_size

from restresponse.errors import InputError
from restresponse.metrics.calibration import (
    calibration_tables,
    net_benefit,
    reliability_bins,
    slope_and_intercept,
)
from restresponse.metrics.collect import BASELINE
from restresponse.metrics.comparisons import best_baseline, comparisons_table, mcnemar
from restresponse.metrics.permutations import chunk_names, chunk_range, exceedance, null_table
from restresponse.metrics.power import auc_deviation, participants_needed, power_table
from restresponse.metrics.scores import Sample, mean_fold_auc, pooled_values
from restresponse.metrics.variance import components_of_spread, split_groups, variance_table

DRAWS = {"resamples": 300, "confidence": 0.95, "seed": 1}


def null_of(rows: pd.DataFrame, mean: np.ndarray, pooled: np.ndarray) -> pd.DataFrame:
    """A table of the null whose permutation 0 is the classifier of `rows`."""
    sample = Sample.of(rows)
    own = mean_fold_auc(sample), pooled_values(sample)["auc"]
    names = {name: rows[name].iloc[0] for name in ("protocol", "arm", "model")}
    values = {"mean": np.r_[own[0], mean], "pooled": np.r_[own[1], pooled]}
    return pd.DataFrame({**names, "permutation": np.arange(len(mean) + 1), **values})


def test_every_permutation_is_in_one_chunk_and_the_labels_as_they_are_in_the_first():
    assert chunk_names(0) == []
    for n in (1, 250, 251, 1000):
        numbers = [number for name in chunk_names(n) for number in range(*chunk_range(name, n))]
        assert numbers == list(range(n + 1))


def test_p_counts_the_observed_value_as_one_draw():
    assert exceedance(0.8, np.array([0.1, 0.8, 0.9, 0.2])) == pytest.approx(3 / 5)
    assert exceedance(1.0, np.zeros(999)) == pytest.approx(1 / 1000)


def test_null_table_has_centre_spread_and_a_p_over_all_arms_that_is_no_smaller():
    rng = np.random.default_rng(0)
    rows = pd.concat([paper_size(3, signal=0.8, arm=arm, model="linear") for arm in ("asc", "ssc")])
    parts = [null_of(part, *rng.normal(0.5, 0.13, (2, 400))) for _, part in rows.groupby("arm")]
    null = pd.concat(parts)
    table = null_table(rows, null, 0.95)
    assert table["scope"].tolist() == ["mean", "mean", "pooled", "pooled"]
    for row in table.itertuples():
        drawn = null[(null["arm"] == row.arm) & (null["permutation"] > 0)][row.scope]
        assert row.null_mean == pytest.approx(drawn.mean())
        assert row.null_sd == pytest.approx(drawn.std(ddof=1))
        assert row.null_mean_error == pytest.approx(row.null_sd / 20)
        assert row.p == pytest.approx((1 + (drawn >= row.auc).sum()) / 401)
        assert row.p <= row.p_maxt <= 1
        assert row.n_permutations == 400


def test_a_null_made_by_another_procedure_than_the_classifiers_is_refused():
    rows = paper_size(3)
    null = null_of(rows, *np.full((2, 5), 0.5))
    null.loc[0, "mean"] += 0.01
    with pytest.raises(InputError, match=r"expected the same: remove results/metrics/null"):
        null_table(rows, null, 0.95)


def test_the_null_with_repeats_is_that_of_the_first():
    rows = pd.concat([paper_size(1), paper_size(2, repeat=2)])
    null = null_of(paper_size(1), *np.full((2, 5), 0.5))
    table = null_table(rows, null, 0.95)
    assert table.loc[0, "auc"] == pytest.approx(mean_fold_auc(Sample.of(paper_size(1))))


def test_comparison_is_paired_and_the_best_baseline_stands_beside_every_classifier():
    one, other = paper_size(1, signal=0.4), paper_size(1, signal=0.2, model="linear")
    weak, strong = (
        paper_size(seed, signal=signal, arm=BASELINE, model=model)
        for seed, signal, model in ((5, 0.0, "motion"), (6, 1.0, "clinical"))
    )
    rows = pd.concat([one, other, weak, strong])
    assert best_baseline(rows) == ("clean", BASELINE, "clinical")
    table = comparisons_table(rows, **DRAWS)
    assert table[["arm", "model", "other_model"]].to_numpy().tolist() == [
        ["asc", "voxnet", "linear"],
        ["asc", "voxnet", "clinical"],
        ["asc", "linear", "clinical"],
    ]
    first = table.iloc[0]
    assert first["difference"] == pytest.approx(mean_fold_auc(Sample.of(one)) - mean_fold_auc(Sample.of(other)))
    assert first["low"] <= first["difference"] <= first["high"]
    # The same noise in both: the pairing takes most of the spread away.
    assert first["high"] - first["low"] < table.iloc[2]["high"] - table.iloc[2]["low"]
    assert best_baseline(pd.concat([one, other])) is None


def test_mcnemar_by_hand():
    rows = paper_size(1)
    sure = rows.assign(y_score=rows["response"].astype(float))
    wrong = sure.copy()
    wrong.loc[wrong.index[:6], "y_score"] = 0.0  # six responders missed
    found = mcnemar(Sample.of(sure), Sample.of(wrong))
    assert found == (6, 0, pytest.approx(2 * 0.5**6))


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (2.0, 0.0), (1.0, -1.0), (0.5, 0.7)])
def test_calibration_of_scores_that_are_stretched_and_shifted(stretch, shift):
    rng = np.random.default_rng(0)
    link = rng.normal(0, 1.5, 40000)
    response = rng.random(40000) < 1 / (1 + np.exp(-link))
    slope, intercept = slope_and_intercept(response, 1 / (1 + np.exp(-(stretch * link + shift))))
    assert slope == pytest.approx(1 / stretch, abs=0.05)
    if stretch == 1:
        assert intercept == pytest.approx(-shift, abs=0.05)


def test_calibration_is_missing_where_it_has_no_value():
    response = np.array([True, True, False, False])
    slope, intercept = slope_and_intercept(response, np.full(4, 0.5))
    assert np.isnan(slope) and intercept == pytest.approx(0, abs=1e-9)
    assert np.isnan(slope_and_intercept(response, np.array([0.9, 0.8, 0.2, 0.1]))[0])


def test_net_benefit_by_hand_and_bins_hold_everyone_once():
    response, score = np.array([1, 1, 0, 0, 1], bool), np.array([0.9, 0.3, 0.6, 0.1, 0.7])
    assert net_benefit(response, score, 0.5) == pytest.approx((2 - 1) / 5)
    assert net_benefit(response, score, 0.2) == pytest.approx((3 - 1 * 0.25) / 5)
    bins = reliability_bins(score)
    assert sorted(np.concatenate(bins)) == [0, 1, 2, 3, 4]
    lines, rows, curve = calibration_tables(paper_size(1), 0.95)
    assert rows["n"].sum() == 43 and len(lines) == 1
    assert (rows["low"] <= rows["observed"]).all() and (rows["observed"] <= rows["high"]).all()
    assert curve["treat_all"].iloc[0] == pytest.approx(29 / 43 - 14 / 43 * 0.05 / 0.95)


def test_hanley_mcneil_has_the_values_of_the_notes():
    # 0.85 at 29 and 14: 0.74 to 0.96; 0.75: 0.60 to 0.90.
    assert 0.85 - 1.96 * auc_deviation(0.85, 29, 14) == pytest.approx(0.74, abs=0.01)
    assert 0.75 - 1.96 * auc_deviation(0.75, 29, 14) == pytest.approx(0.60, abs=0.012)
    n = participants_needed(0.8, auc_deviation(0.8, 290, 140), 29, 14)
    assert n == pytest.approx(430, abs=2)


def test_power_grows_with_a_narrower_null():
    rng = np.random.default_rng(0)
    rows = paper_size(3, model="linear")
    tables = []
    for spread in (0.10, 0.15):
        null = null_of(rows, *rng.normal(0.5, spread, (2, 2000)))
        tables.append(power_table(null, null_table(rows, null, 0.95), 29, 14, 0.95).iloc[0])
    narrow, wide = tables
    assert narrow["critical"] < wide["critical"]
    assert 0.5 < narrow["critical"] < narrow["detectable"] < wide["detectable"] < 1
    assert narrow["participants_at_0.80"] < wide["participants_at_0.80"]
    # At a null as wide as sampling alone, the textbook's number.
    alone = np.sqrt(44 / (12 * 29 * 14))
    assert narrow["mann_whitney_sd"] == pytest.approx(alone)


def test_variance_is_split_where_there_are_repeats():
    rows = pd.concat([paper_size(seed, repeat=seed) for seed in (1, 2, 3)])
    row = variance_table(rows, resamples=300, seed=1).iloc[0]
    means = [mean_fold_auc(Sample.of(paper_size(seed, repeat=seed))) for seed in (1, 2, 3)]
    assert row["repeats"] == 3
    assert row["sd_between_repeats"] == pytest.approx(np.std(means, ddof=1))
    assert 0 < row["sd_participants"] < row["sd_between_folds"]
    single = variance_table(paper_size(1), resamples=300, seed=1).iloc[0]
    assert np.isnan(single["sd_between_repeats"]) and single["repeats"] == 1


def test_folds_and_seeds_are_told_apart_where_repeats_share_their_folds():
    rng = np.random.default_rng(0)
    splits = 0.7 + 0.05 * rng.standard_normal(3000)
    means = (splits[:, None] + 0.03 * rng.standard_normal((3000, 2))).ravel()
    pairs = [[2 * split, 2 * split + 1] for split in range(3000)]
    of_splits, of_seeds = components_of_spread(means, pairs)
    assert of_splits == pytest.approx(0.05, rel=0.06) and of_seeds == pytest.approx(0.03, rel=0.06)
    assert np.isnan(components_of_spread(means, [[index] for index in range(6000)])).all()
    only = components_of_spread(means[:2], [[0, 1]])
    assert np.isnan(only[0]) and only[1] == pytest.approx(np.std(means[:2], ddof=1))


def test_repeats_that_share_their_folds_are_found_by_who_is_tested_together():
    first = paper_size(1, repeat=1)
    again = paper_size(1, repeat=2).assign(y_score=first["y_score"].to_numpy() ** 2)
    other = paper_size(1, repeat=3)
    names = sorted(other["participant_id"].unique())
    swapped = dict(zip(names, names[::-1], strict=True))
    folds = other.set_index("participant_id")["fold"]
    other = other.assign(fold=[folds[swapped[name]] for name in other["participant_id"]])
    groups = split_groups(Sample.of(pd.concat([first, again, other])))
    assert groups == [[0, 1], [2]]
    row = variance_table(pd.concat([first, again, other]), resamples=50, seed=1).iloc[0]
    assert row["repeats"] == 3 and row["splits"] == 2 and row["sd_seeds"] >= 0
