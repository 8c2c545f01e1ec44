"""A linear model's procedure on other labels: the jobs' own numbers on the true ones, chance or a leak on permuted ones."""

from __future__ import annotations

import numpy as np
import pytest
from classifier_cohort import FOLDS, Cohort, config, job_of
from test_classifier_linear import products_of

from restresponse.classifier.linear import Split, fit
from restresponse.classifier.linear_fold import fit_fold
from restresponse.classifier.permuted import Procedure, View, mean_fold_areas, rerun
from restresponse.classifier.selection import Selector
from restresponse.files import read_table
from restresponse.metrics.permutations import permutation_files, permuted_labels, write_null
from restresponse.plan import Plan

PENALTIES = [0.01, 0.1, 1, 10]
CLEAN = Procedure(PENALTIES, on_reported_folds=False, selects_in_inner_folds=True, n_inner_folds=3)


def views_of(cohort, tests, *, amplitudes=None, select_on_all=False):
    """Views of one product of maps for every fold."""
    products = products_of(cohort, refit=amplitudes is not None)
    selector = None if amplitudes is None else Selector(amplitudes, 0.1)
    everyone = np.arange(len(cohort.names))
    views = {}
    for number, test in enumerate(tests):
        training = np.setdiff1d(everyone, test)
        views[f"fold-{number}"] = View(
            products, training, test, selector, everyone if select_on_all else training, number
        )
    return views


@pytest.mark.parametrize("protocol", ["clean", "paper", "selection_alone"])
@pytest.mark.parametrize("arm", ["asc", "ssc", "rows"])
def test_labels_as_they_are_give_the_jobs_own_predictions(protocol, arm, tmp_path, monkeypatch):
    """To 1e-8, through the files and jobs of both: every leak of the protocol is in the null."""
    null_is_the_jobs_own(protocol, arm, None, tmp_path, monkeypatch)


@pytest.mark.parametrize(("protocol", "arm"), [("clean", "ssc"), ("paper", "asc")])
def test_a_search_within_trials_is_made_again_for_the_null(protocol, arm, tmp_path, monkeypatch):
    """Three of four penalties: which of them depends on labels and seed, and the null tries the job's own."""
    null_is_the_jobs_own(protocol, arm, {"trials": 3, "minutes": None}, tmp_path, monkeypatch)


def null_is_the_jobs_own(protocol, arm, search, tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(9, 6, effect=0.3, seed=3)
    cohort.maps += 0.6 * np.random.default_rng(0).standard_normal((15, 4, 1)).astype(np.float32)
    cohort.write()
    cohort.write_kernels()
    own, scores = {}, {}
    models = config()["classifier"]["models"]
    models["linear"] = models["linear"] | {"search": search}
    for fold in FOLDS:
        arguments, folder = job_of(cohort, "linear", protocol, arm, fold, models=models)
        fit_fold(**arguments)
        table = read_table(folder / "predictions.tsv")
        own[fold] = table["y_score"].to_numpy()
    plan = Plan.of(config(models=models))
    wildcards = SimpleNamespace(protocol=protocol, arm=arm, model="linear")
    common = {key: arguments[key] for key in ("batches", "protocol", "arm", "model", "seed", "n_inner_folds")}

    def remember(views, labellings, procedure):
        scores.update(rerun(views, labellings, procedure))
        return scores

    monkeypatch.setattr("restresponse.metrics.permutations.rerun", remember)
    write_null(
        **permutation_files(plan, list(cohort.batches), wildcards),
        **common,
        normalise=True,
        require_match=False,
        cohorts={fold: plan.cohort(protocol, fold) for fold in FOLDS},
        key=(protocol, arm, "linear"),
        permutations=(0, 1),
        null="null.tsv",
    )
    for fold in FOLDS:
        np.testing.assert_allclose(scores[fold][0], own[fold], rtol=0, atol=1e-8)
    assert list(read_table("null.tsv").columns) == ["protocol", "arm", "model", "permutation", "mean", "pooled"]


def test_permutations_keep_every_folds_classes_and_those_without_a_label():
    response = np.array([1, 1, 0, 1, 0, 0, -1, 1])
    tests = [np.array([0, 2, 3]), np.array([1, 4, 5, 7])]
    found = permuted_labels(response, tests, 5, range(40))
    assert (found[0] == response).all()
    assert (found[:, 6] == -1).all()
    for test in tests:
        assert (found[:, test].sum(axis=1) == response[test].sum()).all()
    assert len(np.unique(found, axis=0)) > 10
    np.testing.assert_array_equal(found[17:20], permuted_labels(response, tests, 5, range(17, 20)))


def test_each_permutations_scores_do_not_depend_on_what_it_is_run_with():
    cohort = Cohort.of(8, 7, seed=2)
    tests = [np.arange(start, 15, 3) for start in range(3)]
    views = views_of(cohort, tests, amplitudes=cohort.amplitudes)
    labels = permuted_labels(cohort.response, tests, 1, range(1, 8))
    together = rerun(views, labels, CLEAN)
    alone = rerun(views, labels[4:5], CLEAN)
    for fold in views:
        np.testing.assert_allclose(together[fold][4], alone[fold][0], rtol=0, atol=1e-12)


def test_planted_signal_is_learned_and_permuted_labels_give_half():
    cohort = Cohort.of(10, 10, effect=1.0, seed=4)
    tests = [np.arange(start, start + 4) for start in range(0, 20, 4)]  # two of each class
    views = views_of(cohort, tests, amplitudes=cohort.amplitudes)
    labels = permuted_labels(cohort.response, tests, 3, range(101))
    mean, pooled = mean_fold_areas(views, labels, rerun(views, labels, CLEAN))
    assert mean[0] == pooled[0] == 1.0
    assert 0.45 < mean[1:].mean() < 0.55
    assert mean[1:].max() < 1.0


def test_selection_on_all_labels_lifts_the_null_by_as_much_as_it_takes_noise_for_signal():
    rng = np.random.default_rng(0)
    cohort = Cohort.of(10, 10, seed=7)
    amplitudes = rng.standard_normal((20, 4))
    cohort.maps += 0.6 * amplitudes[:, :, None].astype(np.float32)
    tests = [np.arange(start, start + 4) for start in range(0, 20, 4)]
    labels = permuted_labels(cohort.response, tests, 3, range(1, 61))
    fixed = Procedure([0.1], on_reported_folds=False, selects_in_inner_folds=False, n_inner_folds=3)
    means = []
    for on_all in (False, True):
        views = views_of(cohort, tests, amplitudes=amplitudes, select_on_all=on_all)
        means.append(mean_fold_areas(views, labels, rerun(views, labels, fixed))[0].mean())
    assert means[1] - means[0] > 0.08


def test_a_penalty_chosen_on_the_reported_folds_is_the_one_of_greatest_reported_area():
    cohort = Cohort.of(8, 7, effect=0.1, seed=5)
    tests = [np.arange(start, 15, 3) for start in range(3)]
    views = views_of(cohort, tests)
    labels = permuted_labels(cohort.response, tests, 1, range(1, 6))
    leaky = Procedure(PENALTIES, on_reported_folds=True, selects_in_inner_folds=False, n_inner_folds=3)
    found = mean_fold_areas(views, labels, rerun(views, labels, leaky))[0]
    products = next(iter(views.values())).products
    for index, response in enumerate(labels):
        best = 0.0
        for penalty in PENALTIES:
            scores = {
                fold: fit(Split(products, view.training, view.test), response, penalty).scores[view.test][None]
                for fold, view in views.items()
            }
            best = max(best, mean_fold_areas(views, response[None], scores)[0][0])
        assert found[index] == pytest.approx(best)
