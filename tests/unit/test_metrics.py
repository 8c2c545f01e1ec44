"""Metrics against tables worked out by hand and against scikit-learn, their intervals, and the optimism of protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.metrics import intervals
from restresponse.metrics.collect import collect_predictions
from restresponse.metrics.optimism import leaks_between, metrics_table, optimism_table
from restresponse.metrics.scores import POOLED, Sample, fold_aucs, from_confusion, mean_fold_auc, pooled_values

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())["classifier"]
SETTINGS = {name: CONFIG[name] for name in ("protocols", "arms", "models")}
DRAWS = {"resamples": 300, "confidence": 0.95, "seed": 1}


def rows_of(response, score, folds, *, protocol="clean", arm="asc", model="voxnet", repeat=1) -> pd.DataFrame:
    """Rows of predictions.tsv."""
    return pd.DataFrame(
        {
            "protocol": protocol,
            "arm": arm,
            "model": model,
            "repeat": repeat,
            "fold": [f"rep-{repeat}_fold-{fold:02d}" for fold in folds],
            "participant_id": [f"sub-{number:02d}" for number in range(len(response))],
            "response": response,
            "y_score": score,
        }
    )


def paper_size(seed: int = 0, signal: float = 1.0, **names) -> pd.DataFrame:
    """29 responders and 14 non-responders in ten stratified folds, binormal scores."""
    rng = np.random.default_rng(seed)
    response = np.r_[np.ones(29, int), np.zeros(14, int)]
    folds = np.r_[np.arange(29) % 10, np.arange(14) % 10] + 1
    return rows_of(response, 1 / (1 + np.exp(-(signal * (2 * response - 1) + rng.normal(size=43)))), folds, **names)


def value(table: pd.DataFrame, metric: str, scope: str = "pooled", **names: str) -> pd.Series:
    chosen = (table["metric"] == metric) & (table["scope"] == scope)
    for column, wanted in names.items():
        chosen &= table[column] == wanted
    (row,) = table[chosen].itertuples(index=False)
    return row


def test_constant_classifier_on_the_papers_groups():
    rows = paper_size()
    rows["y_score"] = 29 / 43
    table = metrics_table(rows, **DRAWS)
    assert value(table, "accuracy").value == pytest.approx(0.674, abs=5e-4)
    assert value(table, "f1").value == pytest.approx(0.806, abs=5e-4)
    assert value(table, "auc", "mean").value == 0.5
    assert value(table, "auc").value == 0.5
    assert value(table, "balanced_accuracy").value == 0.5
    assert value(table, "mcc").value == 0
    assert [value(table, cell).value for cell in ("tp", "fn", "fp", "tn")] == [29, 0, 14, 0]


def test_metrics_of_a_table_by_hand():
    # The first of the tables that the paper's accuracy of 93 % and F1 of 95 % allow: TP 26, FN 3, FP 0, TN 14.
    found = from_confusion(tn=14, fp=0, fn=3, tp=26)
    assert found["accuracy"] == pytest.approx(40 / 43)
    assert found["precision"] == 1
    assert found["recall"] == pytest.approx(26 / 29)
    assert found["specificity"] == 1
    assert found["f1"] == pytest.approx(52 / 55)
    assert found["mcc"] == pytest.approx((26 * 14) / np.sqrt(26 * 29 * 14 * 17))


def test_undefined_metrics_are_missing_and_never_crash(tmp_path):
    rows = paper_size()
    rows["y_score"] = 0.2  # nobody is predicted a responder
    table = metrics_table(rows, **DRAWS)
    precision = value(table, "precision")
    assert np.isnan(precision.value)
    assert np.isnan(precision.low)
    assert value(table, "recall").value == 0
    write_table(tmp_path / "metrics.tsv", table)
    assert "precision\tpooled\tn/a\tn/a\tn/a" in (tmp_path / "metrics.tsv").read_text()


@pytest.mark.parametrize("seed", range(3))
def test_the_resampled_metrics_are_scikit_learns_with_weights(seed):
    from sklearn import metrics as reference

    rows = paper_size(seed)
    rows["y_score"] = rows["y_score"].round(1)  # ties
    sample = Sample.of(rows)
    weights = intervals.participant_weights(sample.response, 5, seed)
    draws = intervals.pooled_draws(sample, weights)
    score, guess = sample.score[0], sample.score[0] >= 0.5
    for index, weight in enumerate(weights):
        with_weights = {"sample_weight": weight}
        expected = {
            "auc": reference.roc_auc_score(sample.response, score, **with_weights),
            "pr_auc": reference.average_precision_score(sample.response, score, **with_weights),
            "brier": reference.brier_score_loss(sample.response, score, **with_weights),
            "accuracy": reference.accuracy_score(sample.response, guess, **with_weights),
            "balanced_accuracy": reference.balanced_accuracy_score(sample.response, guess, **with_weights),
            "precision": reference.precision_score(sample.response, guess, **with_weights),
            "recall": reference.recall_score(sample.response, guess, **with_weights),
            "f1": reference.f1_score(sample.response, guess, **with_weights),
            "mcc": reference.matthews_corrcoef(sample.response, guess, **with_weights),
        }
        for metric, wanted in expected.items():
            assert draws[metric][index] == pytest.approx(wanted, abs=1e-12), metric


def test_a_draw_of_everyone_once_gives_the_values_themselves():
    sample = Sample.of(paper_size(3))
    once = np.ones((1, 43))
    values = pooled_values(sample)
    draws = intervals.pooled_draws(sample, once)
    assert set(values) == set(draws) == set(POOLED)
    assert all(draws[metric][0] == pytest.approx(values[metric], abs=1e-12) for metric in POOLED)
    assert intervals.mean_fold_auc_draws(sample, once)[0] == pytest.approx(mean_fold_auc(sample))


def test_pooled_and_mean_auc_differ_where_folds_have_their_own_level():
    # Perfect within each fold; the second fold's scores all lie below the first's.
    rows = rows_of([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1], [1, 1, 2, 2])
    table = metrics_table(rows, **DRAWS)
    assert value(table, "auc", "mean").value == 1
    assert value(table, "auc").value == 0.75
    assert value(table, "auc", "rep-1_fold-02").value == 1
    assert value(table, "auc", "rep-1_fold-02").n == 2


def test_permuting_participants_changes_nothing():
    rows = pd.concat([paper_size(1), paper_size(2, protocol="paper")])
    shuffled = rows.sample(frac=1, random_state=0)
    key = ["protocol", "metric", "scope"]
    tables = [metrics_table(part, **DRAWS).sort_values(key).reset_index(drop=True) for part in (rows, shuffled)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_hold_the_value_and_are_reproducible(seed):
    rows = paper_size(seed, signal=0.5)
    table = metrics_table(rows, **DRAWS)
    whole = table[table["scope"].isin(["mean", "pooled"])]
    assert (whole["low"] <= whole["value"]).all()
    assert (whole["value"] <= whole["high"]).all()
    assert (whole.loc[whole["metric"] == "auc", "high"] - whole.loc[whole["metric"] == "auc", "low"] > 0.1).all()
    pd.testing.assert_frame_equal(table, metrics_table(rows, **DRAWS), check_exact=True)


def test_interval_of_the_mean_auc_covers_the_true_auc_about_as_often_as_it_says():
    from scipy.stats import norm

    truth, hits, tries = 0.8, 0, 150
    for seed in range(tries):
        rng = np.random.default_rng(seed)
        rows = paper_size(seed)
        rows["y_score"] = norm.cdf(norm.ppf(truth) * np.sqrt(2) * rows["response"] + rng.normal(size=43))
        sample = Sample.of(rows)
        weights = intervals.participant_weights(sample.response, 300, seed)
        low, high = intervals.mean_auc_interval(sample, mean_fold_auc(sample), weights, 0.95)
        hits += low <= truth <= high
    assert 0.89 <= hits / tries <= 1.0  # drawn within folds it is 0.74


def test_where_folds_are_nearly_perfect_the_interval_is_no_narrower_than_the_score_interval():
    rows = paper_size(2, signal=1.5)
    sample = Sample.of(rows)
    mean, weights = mean_fold_auc(sample), intervals.participant_weights(sample.response, 300, 1)
    low, high = intervals.mean_auc_interval(sample, mean, weights, 0.95)
    score = intervals.auc_score_interval(mean, 29, 14, 0.95)
    assert low <= score[0] < mean < 1 and high >= score[1]
    assert intervals.percentile(mean, intervals.mean_fold_auc_draws(sample, weights), 0.95)[0] > score[0]  # alone it is


def test_a_perfect_score_keeps_an_interval():
    rows = paper_size()
    rows["y_score"] = np.where(rows["response"] == 1, 0.9, 0.1) + np.linspace(0, 0.05, 43)
    table = metrics_table(rows, **DRAWS)
    for metric, scope in (("auc", "mean"), ("auc", "pooled"), ("accuracy", "pooled"), ("mcc", "pooled")):
        row = value(table, metric, scope)
        assert row.value == row.high == 1
        assert 0.5 < row.low < 1, (metric, scope)
    assert np.isnan(value(table, "pr_auc").low)  # no score interval for it: none is made up


def test_score_interval_of_an_auc_solves_newcombes_equation():
    low, high = intervals.auc_score_interval(0.8, 29, 14, 0.95)
    for theta in (low, high):
        spread = 1 + 20.5 * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        assert (0.8 - theta) ** 2 == pytest.approx(1.959964**2 * theta * (1 - theta) * spread / (29 * 14), rel=1e-5)
    assert low < 0.8 < high
    assert intervals.auc_score_interval(0.0, 29, 14, 0.95)[0] == 0
    # Symmetric: an AUC and its mirror image have mirrored intervals.
    mirrored = intervals.auc_score_interval(0.2, 29, 14, 0.95)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))


def test_nadeau_bengio_by_hand():
    from scipy import stats

    values = np.array([0.6, 0.8, 0.7, 0.9])
    half = stats.t.ppf(0.975, 3) * np.sqrt((1 / 4 + 1) * values.var(ddof=1))
    assert intervals.nadeau_bengio(values, 1.0, 0.95) == pytest.approx((0.75 - half, 1.0))


def test_repeats_use_nadeau_bengio_for_the_mean_and_average_the_tables():
    rows = pd.concat([paper_size(1), paper_size(2, repeat=2)])
    table = metrics_table(rows, **DRAWS)
    singles = [metrics_table(paper_size(1), **DRAWS), metrics_table(paper_size(2, repeat=2), **DRAWS)]
    assert value(table, "tp").value == np.mean([value(single, "tp").value for single in singles])
    aucs = np.array([auc for auc, _ in fold_aucs(Sample.of(rows)).values()])
    row = value(table, "auc", "mean")
    assert len(aucs) == 20
    assert (row.low, row.high) == intervals.nadeau_bengio(aucs, 1 / 9, 0.95)


def test_optimism_is_zero_when_protocols_are_equal():
    rows = pd.concat([paper_size(1), paper_size(1, protocol="paper")])
    table = optimism_table(rows, **SETTINGS, **DRAWS)
    assert set(table["scope"]) == {"mean", "pooled"}
    assert (table[["difference", "low", "high"]].to_numpy() == 0).all()


def test_optimism_is_the_paired_difference_and_its_interval_is_narrower_than_unpaired():
    clean, paper = paper_size(1, signal=0.3), paper_size(1, signal=0.9, protocol="paper")
    table = optimism_table(pd.concat([clean, paper]), **SETTINGS, **DRAWS)
    scores = metrics_table(pd.concat([clean, paper]), **DRAWS)
    row = table[table["scope"] == "pooled"].iloc[0]
    values = [value(scores, "auc", protocol=protocol) for protocol in ("clean", "paper")]
    assert row["difference"] == pytest.approx(values[1].value - values[0].value)
    assert row["low"] <= row["difference"] <= row["high"]
    # The same people with the same noise: the pairing takes most of their spread away.
    assert row["high"] - row["low"] < sum(one.high - one.low for one in values) / 2


def test_optimism_compares_the_same_participants():
    clean, paper = paper_size(1), paper_size(1, protocol="paper").iloc[:-4]
    table = optimism_table(pd.concat([clean, paper]), **SETTINGS, **DRAWS)
    assert set(table["n"]) == {39}
    assert (table["difference"] == 0).all()


@pytest.mark.parametrize(
    ("arm", "model", "leaks", "zero"),
    [
        ("asc", "voxnet", "L1 group_ica; L4 epoch", False),
        ("asc", "linear", "L1 group_ica; L3 hyperparameters", False),
        ("ssc", "voxnet", "L1 group_ica; L2 selection; L4 epoch", False),
        ("ssc", "linear", "L1 group_ica; L2 selection; L3 hyperparameters", False),
        ("rsp", "voxnet", "L4 epoch", False),
        ("asc", None, None, True),
    ],
)
def test_which_leak_exists_where(arm, model, leaks, zero):
    protocols = CONFIG["protocols"]
    found = leaks_between(protocols["clean"], protocols["paper"], CONFIG["arms"][arm], CONFIG["models"].get(model))
    assert found[0] == leaks
    assert (found[1] is not None) == zero


def test_a_rung_of_the_ladder_is_zero_where_its_leak_cannot_exist():
    rung = {**CONFIG["protocols"]["clean"], "group_ica": "all", "selection": "all"}
    leaks, reason = leaks_between(CONFIG["protocols"]["clean"], rung, CONFIG["arms"]["rsp"], CONFIG["models"]["voxnet"])
    assert leaks is None
    assert reason == "no group ICA (L1); no selection of components (L2)"


@pytest.fixture
def tables(tmp_path):
    """Files of six participants in two folds, as `collect_predictions` takes them, and a way to change one."""
    people = [f"sub-{number}" for number in range(1, 7)]
    files = {
        "folds": pd.DataFrame({"repeat": 1, "fold": ["rep-1_fold-01"] * 3 + ["rep-1_fold-02"] * 3, "participant_id": people}),
        "labels": pd.DataFrame({"participant_id": people, "response": [1, 1, 0, 1, 1, 0]}),
        "one": pd.DataFrame({"participant_id": people[:3], "y_score": [0.9, 0.4, 0.3]}),
        "two": pd.DataFrame({"participant_id": people[3:], "y_score": [0.8, 0.7, 0.6]}),
    }  # fmt: skip
    files["train-one"], files["train-two"] = files["labels"].iloc[3:], files["labels"].iloc[:3]

    def collect(**changes: pd.DataFrame) -> pd.DataFrame:
        for name, table in {**files, **changes}.items():
            write_table(tmp_path / f"{name}.tsv", table)
        folds = ("rep-1_fold-01", "rep-1_fold-02")
        collect_predictions(
            files={("clean", "asc", "linear", fold): tmp_path / f"{name}.tsv" for fold, name in zip(folds, ("one", "two"), strict=True)},
            folds=tmp_path / "folds.tsv",
            labels=tmp_path / "labels.tsv",
            training={fold: tmp_path / f"train-{name}.tsv" for fold, name in zip(folds, ("one", "two"), strict=True)},
            predictions=tmp_path / "predictions.tsv",
        )  # fmt: skip
        return read_table(tmp_path / "predictions.tsv")

    return collect, files


def test_predictions_are_joined_with_the_truth_and_the_constant_classifier(tables):
    collect, _ = tables
    found = collect()
    assert list(found.columns) == [
        "protocol",
        "arm",
        "model",
        "repeat",
        "fold",
        "participant_id",
        "response",
        "y_score",
    ]
    assert found["model"].tolist() == ["linear"] * 6 + ["constant"] * 6
    assert found.loc[found["model"] == "linear", "response"].tolist() == [1, 1, 0, 1, 1, 0]
    assert found.loc[found["model"] == "constant", "y_score"].to_numpy() == pytest.approx(2 / 3)


def test_a_fold_of_one_class_is_refused(tables):
    collect, files = tables
    labels = files["labels"].assign(response=[1, 1, 1, 1, 0, 0])
    with pytest.raises(InputError, match=r"fold rep-1_fold-01 holds responders alone .*lower folds\.n_folds"):
        collect(labels=labels)


def test_what_is_wrong_with_predictions_is_listed_at_once(tables):
    collect, files = tables
    foreign = files["one"].assign(participant_id=["sub-1", "sub-1", "sub-5"])
    broken = files["two"].assign(y_score=[0.5, np.nan, 1.2])
    with pytest.raises(InputError) as caught:
        collect(one=foreign, two=broken)
    message = str(caught.value)
    assert "predicts sub-5, not test participants of this fold" in message
    assert "predicts sub-1 more than once" in message
    assert "y_score of sub-5, sub-6 is not within 0 to 1" in message


def test_a_participant_without_a_label_cannot_be_tested(tables):
    collect, files = tables
    with pytest.raises(InputError, match="tests sub-6, who have no label"):
        collect(labels=files["labels"].iloc[:-1])


def test_thousands_of_resamples_of_dozens_of_classifiers_take_seconds():
    import time

    rows = pd.concat([paper_size(seed, arm=f"arm-{seed}") for seed in range(24)])
    metrics_table(rows[rows["arm"] == "arm-0"], **DRAWS)  # imports
    started = time.process_time()
    metrics_table(rows, resamples=2000, confidence=0.95, seed=1)
    assert time.process_time() - started < 30
