"""The percent fall of pain: ridge regression against scikit-learn's, no test outcome in a fold's job, chance where there is nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from classifier_cohort import FOLDS, Cohort, config, job_of
from measured_jobs import predict_change, score_change
from test_classifier_linear import products_of

from restresponse.classifier.kernel import centred
from restresponse.classifier.linear_fold import fit_fold
from restresponse.classifier.measured import dealt, predict_measured
from restresponse.classifier.measured_fold import CHANGE, responses_at, shuffles
from restresponse.classifier.permuted import View
from restresponse.classifier.ridge import ridge
from restresponse.classifier.selection import Selector
from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_table
from restresponse.metrics.measured import measures, write_measured
from restresponse.plan import Plan

THRESHOLDS = [20, 30, 50, 95]


def test_ridge_is_scikit_learns_on_the_same_features():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    features, outcomes = rng.standard_normal((20, 9)), 30 + 20 * rng.standard_normal((3, 12))
    training = np.arange(3, 15)
    features -= features[training].mean(axis=0)
    kernel = centred(features @ features.T, training)[:, training]
    found = ridge(kernel, training, outcomes, [0.01, 1, 100])
    for row, strength in enumerate([0.01, 1, 100]):
        for column, outcome in enumerate(outcomes):
            peer = Ridge(alpha=1 / strength).fit(features[training], outcome).predict(features)
            np.testing.assert_allclose(found[row, column], peer, rtol=0, atol=1e-8)


def view_of(cohort: Cohort, test: np.ndarray, *, selects: bool) -> View:
    training = np.setdiff1d(np.arange(len(cohort.names)), test)
    selector = Selector(cohort.amplitudes, 0.1) if selects else None
    return View(products_of(cohort, refit=selects), training, test, selector, training, 3)


@pytest.mark.parametrize("selects", [False, True])
def test_outcomes_of_test_participants_are_not_read_and_each_outcome_stands_alone(selects):
    cohort = Cohort.of(9, 6, seed=3)
    rng = np.random.default_rng(1)
    change = 30 + 20 * rng.standard_normal((60, 15))
    response, test = np.tile(cohort.response, (60, 1)), np.array([0, 4, 10])
    hidden, unlabelled = change.copy(), response.copy()
    hidden[:, test], unlabelled[:, test] = np.nan, -1
    view = view_of(cohort, test, selects=selects)
    found, chosen, _ = predict_measured(view, response, change, [0.01, 1, 100], 3)
    again, same, _ = predict_measured(view, unlabelled, hidden, [0.01, 1, 100], 3)
    np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(chosen, same)
    alone, strength, _ = predict_measured(view, unlabelled[57:58], hidden[57:58], [0.01, 1, 100], 3)
    np.testing.assert_allclose(alone[0], found[57], rtol=0, atol=1e-9)
    assert strength[0] == chosen[57]


def test_inner_folds_of_the_outcome_hold_everyone_out_once():
    folds = dealt(11, 4, 5)
    assert sorted(np.concatenate(folds)) == list(range(11))
    assert [len(fold) for fold in folds] == [3, 3, 3, 2]


def job(cohort: Cohort, fold: str, n_permutations: int = 0) -> Plan:
    settings = config()
    settings["classifier"]["models"]["linear"]["penalties"] = [0.01, 0.1, 1, 10, 100]
    plan = Plan.of(settings)
    predict_change(plan, cohort.batches, fold, thresholds=THRESHOLDS, n_permutations=n_permutations, seed=2021)
    return plan


def planted(seed: int = 4, effect: float = 12.0) -> Cohort:
    """Change follows the amplitude of component 2; responders are those of at least 30 %; one change of 21 is not known."""
    cohort = Cohort.of(11, 10, seed=seed)
    strength = np.random.default_rng(seed).standard_normal(21)
    cohort.maps[:, 1] += (0.8 * strength)[:, None] * cohort.components[1].astype(np.float32)
    cohort.change = 30 + effect * strength
    cohort.response = (cohort.change >= 30).astype(int)
    return cohort


def scores_of(cohort: Cohort, tmp_path, n_permutations: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    cohort.write()
    cohort.write_kernels(tuple(FOLDS))
    for fold in FOLDS:
        plan = job(cohort, fold, n_permutations)
    score_change(plan, tmp_path, thresholds=THRESHOLDS, n_permutations=n_permutations, resamples=300)
    return read_table(tmp_path / "change.tsv"), read_table(tmp_path / "thresholds.tsv", text_columns=("arm", "note"))


def test_a_planted_change_is_predicted_beyond_its_null_and_thresholds_without_a_class_say_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = planted()
    change, sweep = scores_of(cohort, tmp_path, 60)
    own = change[change["arm"] == "asc"].set_index("metric")
    assert own.loc["spearman", "value"] > 0.6 and own.loc["r2", "value"] > 0.3
    assert own.loc["spearman", "p"] == own.loc["r2", "p"] == own.loc["mae", "p"] == pytest.approx(1 / 61)
    assert own.loc["spearman", "null_mean"] < 0.15  # predictions lean to the mean of the others
    assert (change["low"] <= change["value"]).all() and (change["value"] <= change["high"]).all()
    assert (change["p_maxt"] >= change["p"] - 1e-9).all()
    told = sweep.set_index(["threshold", "arm"])
    assert told.loc[(30, "asc"), "auc"] > 0.75
    assert told.loc[(95, "asc"), "note"].startswith("too few of a class: 0 responders and 21 others")
    assert np.isnan(told.loc[(95, "asc"), "auc"])


def test_where_there_is_nothing_the_change_is_at_its_null(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = planted(seed=6)
    cohort.change = cohort.change[np.random.default_rng(2).permutation(21)]
    cohort.response = (cohort.change >= 30).astype(int)
    change, _ = scores_of(cohort, tmp_path, 40)
    assert (change["p"] > 0.1).all()
    null = change[change["metric"] == "r2"]
    assert (np.abs(null["value"] - null["null_mean"]) < 2.5 * null["null_sd"]).all()


@pytest.mark.parametrize("arm", ["asc", "ssc", "rows"])
def test_responders_at_the_configured_threshold_are_predicted_as_the_classifier_does(arm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = planted(seed=9)
    cohort.write()
    cohort.write_kernels((FOLDS[0],))
    job(cohort, FOLDS[0])
    path = f"results/classifier/measured/{FOLDS[0]}/predictions.tsv"
    table = read_table(path, text_columns=("arm", "model", "target", "participant_id"))
    arguments, folder = job_of(cohort, "linear", "clean", arm, FOLDS[0])
    fit_fold(**arguments | {"model": arguments["model"] | {"penalties": [0.01, 0.1, 1, 10, 100]}})
    found = table[(table["arm"] == arm) & (table["target"] == "threshold-30")].set_index("participant_id")["predicted"]
    peer = read_table(folder / "predictions.tsv").set_index("participant_id")["y_score"]
    np.testing.assert_allclose(found[peer.index], peer, rtol=0, atol=1e-8)


def test_a_job_given_a_test_participants_outcome_stops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = planted()
    cohort.write()
    cohort.write_kernels((FOLDS[0],))
    write_table(f"results/folds/outcomes/{FOLDS[0]}.tsv", read_table("results/folds/outcomes/all.tsv"))
    with pytest.raises(InputError, match="holds the labels of test participants"):
        job(cohort, FOLDS[0])


def test_a_change_that_nobody_knows_leaves_empty_tables_and_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = planted()
    cohort.change[:] = np.nan
    change, sweep = scores_of(cohort, tmp_path, 2)
    assert change.empty
    assert sweep["note"].str.startswith("too few of a class: 0 responders and 0 others").all()
    assert read_json(f"results/classifier/measured/{FOLDS[0]}/model.json")["fitted_on"] == []


def test_where_no_change_is_predicted_the_tables_are_empty_though_it_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planted().write()
    tables = {name: tmp_path / f"{name}.tsv" for name in ("scores", "sweep", "pairs")}
    settings = {"models": [], "thresholds": THRESHOLDS, "resamples": 10, "confidence": 0.95, "n_permutations": 3}
    known = {"folds": "results/folds/folds.tsv", "outcomes": "results/folds/outcomes/all.tsv"}
    write_measured(**known, predictions={}, permuted={}, **settings, seed=1, **tables)
    assert all(read_table(path).empty for path in tables.values())


def test_measures_are_those_of_scipy_and_scikit_learn_row_by_row():
    from scipy.stats import spearmanr
    from sklearn.metrics import mean_absolute_error, r2_score

    rng = np.random.default_rng(0)
    change, predicted = np.round(rng.normal(30, 20, (3, 12)), -1), rng.normal(30, 10, (3, 12))
    found = measures(change, predicted, change.mean(axis=1, keepdims=True))
    for row in range(3):
        assert found["spearman"][row] == pytest.approx(spearmanr(change[row], predicted[row]).statistic)
        assert found["r2"][row] == pytest.approx(r2_score(change[row], predicted[row]))
        assert found["mae"][row] == pytest.approx(mean_absolute_error(change[row], predicted[row]))


def test_permutations_are_the_same_in_every_job_and_begin_with_none():
    found = shuffles(1, FOLDS[0], 6, range(4))
    assert (found[0] == np.arange(6)).all() and (np.sort(found, axis=1) == np.arange(6)).all()
    np.testing.assert_array_equal(found[2:], shuffles(1, FOLDS[0], 6, range(2, 4)))
    assert responses_at(np.array([30.0, 29.9, np.nan, 100 * (6 - 4.2) / 6]), 30).tolist() == [1, 0, -1, 1]
    assert CHANGE == "change"
