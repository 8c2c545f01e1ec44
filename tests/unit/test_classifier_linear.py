"""Linear models on the kernel: exact algebra, choices that never see the held-out, planted and absent signal."""

import numpy as np
import pandas as pd
import pytest
from classifier_cohort import FOLDS, N_COMPONENTS, Cohort, job_of

from restresponse.classifier.inner import inner_folds, seed_of
from restresponse.classifier.kernel import Channels, MapProducts, centred, inner_products, unit_kernel
from restresponse.classifier.linear import (
    Split,
    choose_penalty,
    fit,
    fit_many,
    inner_splits,
)
from restresponse.classifier.linear_fold import fit_fold
from restresponse.classifier.protocols import kernel_memory
from restresponse.classifier.scores import area_under_curve, log_loss
from restresponse.dual_regression import restrictions, spatial_gram
from restresponse.errors import InputError
from restresponse.files import read_array, read_json, read_table, write_array

SELECTED = np.array([0, 2])


def products_of(cohort, refit=False):
    gram, sums = inner_products(list(cohort.maps))
    spatial = spatial_gram(cohort.components)
    covariances = np.stack([np.cov(courses, rowvar=False) for courses in cohort.courses])
    return MapProducts(
        gram,
        sums,
        cohort.maps.shape[2],
        (lambda chosen: restrictions(covariances, spatial, chosen)) if refit else None,
    )


def explicit_kernel(maps, training):
    """Kernel of maps (n, k, V) scaled and centred voxel by voxel, without any algebra."""
    scaled = np.stack([maps[:, k] / maps[training, k].std() for k in range(maps.shape[1])], axis=1)
    flat = (scaled - scaled[training].mean(axis=0)).reshape(len(maps), -1)
    return flat @ flat.T


@pytest.mark.parametrize("way", ["all", "subset", "refit"])
def test_kernel_algebra_equals_explicit_features(way):
    cohort = Cohort.of()
    training = np.array([0, 1, 3, 4, 7, 8, 10])
    selected = None if way == "all" else SELECTED
    maps = cohort.maps.astype(np.float64)
    if way == "subset":
        maps = maps[:, SELECTED]
    if way == "refit":
        maps = np.stack([cohort.refit(i, SELECTED) for i in range(len(maps))])
    found = products_of(cohort, refit=way == "refit").channels(selected)
    expected = explicit_kernel(maps, training)
    np.testing.assert_allclose(centred(found.kernel(training), training), expected, rtol=0, atol=1e-8 * expected.max())
    np.testing.assert_allclose(found.scaling(training).mean, maps[training].mean(axis=(0, 2)), atol=1e-10)
    np.testing.assert_allclose(found.scaling(training).deviation, maps[training].std(axis=(0, 2)), rtol=1e-10)


def test_unit_kernel_is_the_centred_kernel_of_unit_norm():
    cohort, training = Cohort.of(), np.arange(8)
    kernel = products_of(cohort).channels().kernel(training)
    scaled, norm = unit_kernel(kernel, training)
    np.testing.assert_allclose(scaled * norm, centred(kernel, training)[:, :8])
    assert np.trace(scaled[:8]) / 8 == pytest.approx(1)


def test_many_fits_at_once_are_the_fits_one_by_one():
    cohort = Cohort.of(effect=0.2)
    products, rng = products_of(cohort), np.random.default_rng(3)
    splits = [Split(products, np.delete(np.arange(12), held), np.array(held)) for held in ([0, 1], [2], [3, 4, 5])]
    labels = [rng.permutation(cohort.response) for _ in splits]
    together = fit_many(splits, labels, np.array([0.01, 100.0, 1.0]))
    for split, response, penalty, model in zip(splits, labels, (0.01, 100.0, 1.0), together, strict=True):
        alone = fit(split, response, penalty)
        np.testing.assert_allclose(model.scores, alone.scores, rtol=0, atol=1e-12)
        np.testing.assert_allclose(model.dual_coefficients, alone.dual_coefficients, rtol=1e-9)


def test_blocks_of_voxels_change_nothing():
    maps = list(Cohort.of().maps)
    whole, sums = inner_products(maps, block=10**9)
    parts, part_sums = inner_products(maps, block=700)
    np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(part_sums, sums, rtol=1e-10, atol=1e-9)


def test_fit_is_the_logistic_ridge_of_the_explicit_maps():
    from sklearn.linear_model import LogisticRegression

    cohort, training = Cohort.of(effect=0.3), np.arange(9)
    maps = cohort.maps.astype(np.float64)
    scaled = np.stack([maps[:, k] / maps[training, k].std() for k in range(N_COMPONENTS)], axis=1)
    flat = (scaled - scaled[training].mean(axis=0)).reshape(len(maps), -1)
    flat /= np.sqrt((flat[training] ** 2).sum(axis=1).mean())
    explicit = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(flat[training], cohort.response[training])
    products = products_of(cohort)
    fitted = fit(Split(products, training, np.arange(9, 12)), cohort.response, 0.5)
    np.testing.assert_allclose(fitted.scores, explicit.predict_proba(flat)[:, 1], atol=1e-5)
    middle = centred(products.channels().kernel(training), training)
    decision = middle[:, training] @ fitted.dual_coefficients + fitted.intercept
    np.testing.assert_allclose(1 / (1 + np.exp(-decision)), fitted.scores, atol=1e-10)


def test_area_and_loss_have_known_values():
    response, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1])
    assert area_under_curve(response, scores) == pytest.approx(3.5 / 4)
    assert log_loss(response, np.full(4, 0.5)) == pytest.approx(np.log(2))
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-np.log(1e-7))


def test_inner_folds_partition_and_keep_both_classes():
    response = np.array([1] * 9 + [0] * 4)
    folds = inner_folds(response, 5, seed=3)
    assert len(folds) == 4  # the smaller class has four
    assert sorted(np.concatenate(folds)) == list(range(13))
    for held_out in folds:
        assert set(response[held_out]) == {0, 1}
        assert set(response[np.delete(np.arange(13), held_out)]) == {0, 1}
    with pytest.raises(InputError, match="4 responders and 1 non-responders; inner folds need at least 2"):
        inner_folds(np.array([1, 1, 1, 1, 0]), 3, seed=0)


def test_seeds_differ_by_fold_and_stage_and_know_no_protocol():
    import inspect

    stages = [(fold, stage) for fold in FOLDS for stage in ("inner", "inner-1", "final")]
    assert len({seed_of(2021, *pair) for pair in stages}) == len(stages)
    assert seed_of(2021, FOLDS[0], "final") == seed_of(2021, FOLDS[0], "final") != seed_of(2022, FOLDS[0], "final")
    assert list(inspect.signature(seed_of).parameters) == ["seed", "fold", "stage"]


def test_ties_of_area_go_to_the_lower_loss():
    cohort = Cohort.of(effect=2.0)
    training = np.arange(12)
    splits = inner_splits(products_of(cohort), training, cohort.response, 3, 0)
    penalty, search = choose_penalty(splits, cohort.response, [100, 0.001, 1])
    assert [row["penalty"] for row in search] == [0.001, 1, 100]
    assert {row["auc"] for row in search} == {1.0}
    assert penalty == min(search, key=lambda row: row["log_loss"])["penalty"]


@pytest.mark.parametrize("arm", ["asc", "ssc", "rows"])
def test_clean_job_reads_nothing_of_its_test_participants(arm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(effect=0.5)
    held_out = cohort.tests[FOLDS[0]]

    def run():
        cohort.write()
        cohort.write_kernels((FOLDS[0],))
        arguments, folder = job_of(cohort, "linear", "clean", arm)
        assert "all" not in {part for path in str(arguments).split("/") for part in path.split(".")}
        fit_fold(**arguments)
        model = dict(np.load(folder / "model.npz", allow_pickle=False))
        return model, read_json(folder / "model.json"), read_table(folder / "predictions.tsv")

    model, facts, before = run()
    rng = np.random.default_rng(9)
    cohort.maps[held_out] = rng.standard_normal(cohort.maps[held_out].shape)
    cohort.courses[held_out] = rng.standard_normal(cohort.courses[held_out].shape)
    cohort.response[held_out] = 1 - cohort.response[held_out]
    monkeypatch.setattr(Cohort, "tests", {FOLDS[0]: held_out, **{fold: [] for fold in FOLDS[1:]}})
    changed, changed_facts, after = run()
    for key, value in model.items():
        np.testing.assert_array_equal(value, changed[key])
    assert facts["chosen"] == changed_facts["chosen"]
    assert not np.allclose(before["y_score"], after["y_score"])
    training = sorted(cohort.names[i] for i in range(12) if i not in held_out)
    assert facts["fitted_on"] == facts["labels_of"] == training
    assert facts["applied_to"] == sorted(cohort.names[i] for i in held_out) == list(before["participant_id"])


def test_paper_job_chooses_its_penalty_on_the_reported_folds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(effect=0.4)
    cohort.write()
    cohort.write_kernels(("all",))
    chosen = []
    for fold in FOLDS:
        arguments, folder = job_of(cohort, "linear", "paper", "ssc", fold)
        fit_fold(**arguments)
        facts = read_json(folder / "model.json")
        chosen.append((facts["chosen"], facts["tuning"]))
        assert set(facts["labels_of"]) == set(cohort.names)
        assert not set(facts["fitted_on"]) & set(facts["applied_to"])
    assert chosen[0][0] == chosen[1][0] == chosen[2][0]
    for rows in zip(*(tuning["trials"] for _, tuning in chosen), strict=True):
        assert rows[0]["value"] == pytest.approx(rows[1]["value"]) and rows[0]["value"] == pytest.approx(
            rows[2]["value"]
        )
    # The reported choice is the best mean fold AUC of the final models themselves.
    best = max(1 - row["value"] for row in chosen[0][1]["trials"])
    reported = [read_table(f"results/classifier/paper/ssc/linear/{fold}/predictions.tsv") for fold in FOLDS]
    truth = dict(zip(cohort.names, cohort.response, strict=True))
    areas = [
        area_under_curve(np.array([truth[p] for p in t["participant_id"]]), t["y_score"].to_numpy()) for t in reported
    ]
    assert np.mean(areas) == pytest.approx(best)


def test_one_leak_alone_reads_the_wider_selection_and_no_wider_label_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of()
    cohort.write()
    cohort.write_kernels((FOLDS[0],))
    arguments, folder = job_of(cohort, "linear", "selection_alone", "ssc")
    assert arguments["watched_labels"] == [] and "amplitudes" not in arguments
    assert "labels-all" in arguments["selection"][0] and f"/{FOLDS[0]}/" in arguments["selection"][0]
    fit_fold(**arguments)
    facts = read_json(folder / "model.json")
    assert facts["labels_of"] == facts["fitted_on"]
    assert all(row["selected"] == facts["chosen"]["selected"] for row in facts["inner_folds"])


def test_label_table_with_a_test_participant_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of()
    cohort.write()
    cohort.write_kernels((FOLDS[0],))
    arguments, _ = job_of(cohort, "linear", "clean", "asc")
    with pytest.raises(InputError, match=r"all\.tsv holds the labels of test participants sub-0"):
        fit_fold(**arguments | {"labels": "results/folds/labels/all.tsv"})


def test_one_class_in_training_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of()
    cohort.write()
    cohort.write_kernels((FOLDS[0],))
    path = f"results/folds/labels/{FOLDS[0]}.tsv"
    table = read_table(path)
    table["response"] = 1
    table.to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="8 responders, 0 non-responders"):
        fit_fold(**job_of(cohort, "linear", "clean", "asc")[0])


@pytest.mark.parametrize(("value", "words"), [(np.nan, "not finite"), (3.0, "is constant")])
def test_kernel_of_bad_maps_names_participant_and_component(value, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of()
    cohort.maps[4, 2] = value
    path = f"results/dual_regression/all/order-{N_COMPONENTS}/asc/batch-01/sub-05_maps.npy"
    clean = Cohort.of()
    clean.write()
    write_array(path, cohort.maps[4])
    with pytest.raises(InputError, match=rf"component 3 of sub-05 .*{words}"):
        clean.write_kernels(("all",))


def test_kernel_leaves_out_participants_without_maps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of()
    cohort.write()
    write_array(
        f"results/dual_regression/all/order-{N_COMPONENTS}/asc/batch-01/sub-02_maps.npy",
        np.zeros((0, cohort.maps.shape[2])),
    )
    cohort.write_kernels(("all",))
    folder = f"results/classifier/kernels/all/order-{N_COMPONENTS}"
    record = read_json(f"{folder}/gram.json")
    assert "sub-02" not in record["participants"] and record["left_out"][0]["participant_id"] == "sub-02"
    assert read_array(f"{folder}/sums.npy").shape == (11, N_COMPONENTS)


def test_channels_without_variation_are_refused():
    with pytest.raises(InputError, match="channel 1 does not vary"):
        Channels(np.ones((1, 3, 3)) * 4, np.full((3, 1), 4.0), 4).scaling(np.arange(3))


def test_memory_of_linear_jobs_grows_with_the_square_of_the_maps():
    assert kernel_memory(43, 30, least=1500) == 1500
    assert kernel_memory(1000, 30, least=1500) == pytest.approx(2.2 * 7200 / 1.048576, rel=0.01)


def test_a_search_of_the_whole_grid_chooses_the_penalty_that_trying_all_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(effect=0.4)
    cohort.write()
    cohort.write_kernels((FOLDS[0],))
    arguments, folder = job_of(cohort, "linear", "clean", "ssc")
    fit_fold(**arguments)
    whole, plain = read_json(folder / "model.json"), read_table(folder / "predictions.tsv")
    assert whole["tuning"]["share"] == 1 and whole["tuning"]["n_grid"] == 4
    fit_fold(**{**arguments, "model": {**arguments["model"], "search": {"trials": 10, "minutes": None}}})
    searched = read_json(folder / "model.json")
    assert searched["tuning"]["share"] == 1 and len(searched["tuning"]["trials"]) == 4
    assert searched["chosen"] == whole["chosen"]
    pd.testing.assert_frame_equal(read_table(folder / "predictions.tsv"), plain)
    fit_fold(**{**arguments, "model": {**arguments["model"], "search": {"trials": 2, "minutes": None}}})
    short = read_json(folder / "model.json")["tuning"]
    assert len(short["trials"]) == 2 and short["share"] == 0.5
    assert not list(folder.glob("search.journal*"))  # of no use once the fold is written
