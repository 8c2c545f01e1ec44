"""Baselines: fitted on training participants alone, what defines the outcome refused, known answers recovered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classifier_cohort import FOLDS, Cohort

from restresponse.classifier.baselines import (
    baseline_files,
    design,
    fit_baselines,
    logistic_scores,
    support_vector_scores,
)
from restresponse.classifier.connectivity import connectivity, node_weights
from restresponse.dataset.characteristics import refusals, write_characteristics
from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_array, write_json, write_table
from restresponse.grid import brain_mask, grid

OUTCOME = {"label_column": None, "pain_before": "pain_pre", "pain_after": "pain_post", "change_column": None}
ORDER = 4


def write_study(cohort: Cohort, seed: int = 0, motion: float = 0.0) -> None:
    """What a fold's baselines read, at random; `motion` of responders is greater by so many standard deviations."""
    rng = np.random.default_rng(seed)
    cohort.write()
    n = len(cohort.names)
    values = rng.standard_normal(n) + motion * cohort.response
    for position, name in enumerate(cohort.names):
        folder = Path(f"results/classifier/connectivity/{cohort.batch_of(name)}")
        write_array(folder / f"{name}.npy", rng.standard_normal(496))
        write_json(folder / f"{name}.json", {"mean_framewise_displacement": values[position], "global_signal": 1.0})
    people = {"participant_id": cohort.names, "age": rng.integers(30, 80, n).astype(float), "pain_before": np.nan}
    write_table("results/dataset/characteristics.tsv", pd.DataFrame(people))
    for fold in FOLDS:
        matches = {"component": range(1, 5), "network": ["Visual", None, "Default Mode", None], "best_three": ""}
        write_table(f"results/components/{fold}/order-{ORDER}/matches.tsv", pd.DataFrame(matches))


def fit(cohort: Cohort, fold: str) -> tuple[pd.DataFrame, dict]:
    fit_baselines(
        **baseline_files(list(cohort.batches), ORDER, fold),
        batches=cohort.batches,
        fold=fold,
        predictions="predictions.tsv",
        sidecar="model.json",
    )
    return read_table("predictions.tsv", text_columns=("participant_id", "baseline")), read_json("model.json")


def test_every_baseline_predicts_each_test_participant_and_an_absent_feature_gives_the_training_share(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(9, 6)
    write_study(cohort, motion=6.0)
    table, facts = fit(cohort, FOLDS[0])
    test = sorted(cohort.names[index] for index in cohort.tests[FOLDS[0]])
    names = {"motion", "global_signal", "pain_before", "clinical", "connectivity"}
    assert set(table["baseline"]) == names | {"network Visual", "network Default Mode"}
    for _, rows in table.groupby("baseline"):
        assert sorted(rows["participant_id"]) == test
    training = cohort.training(FOLDS[0])
    share = cohort.response[training].mean()
    for constant in ("pain_before", "global_signal"):
        assert table.loc[table["baseline"] == constant, "y_score"].to_numpy() == pytest.approx(share)
    assert facts["fitted_on"] == facts["labels_of"] == [cohort.names[index] for index in training]
    assert facts["applied_to"] == test
    truth = dict(zip(cohort.names, cohort.response, strict=True))
    motion = table[table["baseline"] == "motion"]
    scores = motion["y_score"].to_numpy()
    response = np.array([truth[name] for name in motion["participant_id"]])
    assert scores[response == 1].min() > scores[response == 0].max()


def test_nothing_of_the_test_participants_reaches_a_baselines_fit(tmp_path, monkeypatch):
    """The scores of one test participant stay, whatever the numbers of the others become."""
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(9, 6)
    write_study(cohort)
    before, _ = fit(cohort, FOLDS[0])
    first, *others = cohort.tests[FOLDS[0]]
    ages = read_table("results/dataset/characteristics.tsv").astype({"age": float})
    ages.loc[others, "age"] = [np.nan, *np.full(len(others) - 1, 1000.0)]
    write_table("results/dataset/characteristics.tsv", ages)
    for index in others:
        name = cohort.names[index]
        folder = Path(f"results/classifier/connectivity/{cohort.batch_of(name)}")
        write_array(folder / f"{name}.npy", np.full(496, 5.0))
        write_json(folder / f"{name}.json", {"mean_framewise_displacement": None, "global_signal": 50.0})
    after, _ = fit(cohort, FOLDS[0])
    own = before["participant_id"] == cohort.names[first]
    assert own.sum() == 7
    np.testing.assert_array_equal(before.loc[own, "y_score"], after.loc[own, "y_score"])
    assert not np.allclose(before.loc[~own, "y_score"], after.loc[~own, "y_score"])


def test_missing_values_and_unseen_levels_are_filled_from_training_alone():
    table = pd.DataFrame({"age": [40.0, 50.0, np.nan, 90.0, np.nan], "sex": ["F", "M", "F", "X", None]})
    training = np.array([0, 1, 2])
    found = design(table, training)
    np.testing.assert_allclose(found[training].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found[training].std(axis=0), 1)
    assert found[2, 0] == found[4, 0] == pytest.approx(0)  # the training median, 45, is also the mean of 40, 50, 45
    assert found[3, 1] == found[4, 1] == found[0, 1]  # the commonest level of training, F
    assert design(pd.DataFrame({"age": [1.0, 1.0, 1.0, 7.0, 2.0]}), training).shape == (5, 0)


def test_scores_are_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    rng = np.random.default_rng(1)
    features, response = rng.standard_normal((20, 4)), np.tile([1, 0], 10)
    training = np.arange(15)
    expected = LogisticRegression(C=1.0, tol=1e-10).fit(features[training] / 2, response[training])
    found = logistic_scores(features, training, response)
    np.testing.assert_allclose(found, expected.predict_proba(features / 2)[:, 1], atol=1e-6)
    machine = SVC(kernel="linear", C=1.0).fit(features[training] / 2, response[training])
    order = np.argsort(machine.decision_function(features / 2))
    assert (np.diff(support_vector_scores(features, training, response)[order]) >= -1e-6).all()


def test_connectivity_is_fishers_z_of_the_correlations():
    rng = np.random.default_rng(0)
    courses = rng.standard_normal((200, 4))
    courses[:, 1] += courses[:, 0]
    courses[:, 3] = 2.0  # no signal
    found = connectivity(courses)
    expected = np.arctanh(np.corrcoef(courses[:, :3].T)[np.triu_indices(3, 1)])
    np.testing.assert_allclose(found[[0, 1, 3]], expected)
    np.testing.assert_allclose(found[[2, 4, 5]], 0)


def test_a_node_is_averaged_around_its_own_place():
    mask, (_, affine) = brain_mask(4), grid(4)
    weights = node_weights(mask, affine)
    assert weights.shape == (32, int(mask.sum()))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    places = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    assert np.linalg.norm(weights[3] @ places - [1, -61, 38]) < 3  # PCC


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["age", "pain_post"], "pain_post, pain after treatment, which defines the outcome"),
        (["pain_pre"], "a baseline of its own already"),
        (["pain_change"], "of this workflow's own tables"),
    ],
)
def test_columns_that_define_the_outcome_are_refused_by_name(columns, words):
    (found,) = refusals(columns, OUTCOME)
    assert words in found and "take it out" in found


@pytest.mark.parametrize("disguise", ["after", "fall", "percent"])
def test_the_outcome_under_another_name_is_refused_by_its_values(disguise, tmp_path):
    rng = np.random.default_rng(0)
    before = rng.uniform(5, 9, 12)
    after = before * rng.uniform(0.2, 1, 12)
    hidden = {"after": after * 10, "fall": after - before, "percent": 1 - after / before}[disguise]
    people = {"participant_id": [f"sub-{i:02d}" for i in range(12)], "pain_pre": before, "pain_post": after}
    people |= {"age": rng.integers(30, 80, 12), "visit_2": hidden}
    write_table(tmp_path / "participants.tsv", pd.DataFrame(people))
    arguments = {"columns": ["age", "visit_2"], "outcome": OUTCOME}
    with pytest.raises(InputError, match="visit_2 orders the participants as"):
        write_characteristics(tmp_path / "participants.tsv", tmp_path / "out.tsv", **arguments)
    write_characteristics(
        tmp_path / "participants.tsv", tmp_path / "out.tsv", **arguments | {"columns": ["age", "sex"]}
    )
    assert list(read_table(tmp_path / "out.tsv").columns) == ["participant_id", "age", "pain_before"]


def test_a_label_under_another_name_is_refused(tmp_path):
    label = ["yes", "no"] * 6
    people = {
        "participant_id": [f"sub-{i:02d}" for i in range(12)],
        "outcome": label,
        "group": [v.upper() for v in label],
    }
    write_table(tmp_path / "participants.tsv", pd.DataFrame(people))
    outcome = OUTCOME | {"label_column": "outcome"}
    changed = OUTCOME | {"change_column": "improvement"}
    assert "the outcome itself" in refusals(["improvement"], changed)[0]
    with pytest.raises(InputError, match="group orders the participants as outcome does"):
        write_characteristics(tmp_path / "participants.tsv", tmp_path / "o.tsv", columns=["group"], outcome=outcome)
