"""Explanations: planted networks rank first, shuffled weights lose it, attributions sum to the decision, bad files are named."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from classifier_cohort import FOLDS, VOXNET, config, job_of
from planted_cohort import PLANTED, explain, planted_cohort

from restresponse.classifier.attribution import (
    ATTRIBUTION,
    COMPONENT,
    DECISION,
    LEFT_OUT,
    NETWORK,
    OCCLUDED,
    WHOLE,
    NetworkDecision,
    contributions,
    integrated_gradients,
)
from restresponse.classifier.explanation import explanation_files
from restresponse.classifier.inputs import Samples
from restresponse.classifier.linear_fold import fit_fold
from restresponse.classifier.network import prepare
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.training import train
from restresponse.components.templates import network_templates
from restresponse.errors import InputError
from restresponse.files import read_array, read_json, read_table, write_table
from restresponse.metrics.explanation import fold_separations
from restresponse.plan import Plan

KEYS = [(COMPONENT, LEFT_OUT), (COMPONENT, ATTRIBUTION), (NETWORK, OCCLUDED), (NETWORK, ATTRIBUTION)]
LEARNS = VOXNET | {"epsilon": 1e-7}
SHORT = config()["classifier"]["models"] | {"voxnet": VOXNET | {"epochs": 1}}


@pytest.fixture(scope="module", autouse=True)
def prepared():
    """One thread and deterministic kernels, as in a job: must come before the library's first use."""
    prepare(0)


def explained(cohort, kind, arm, fold=FOLDS[0], **changed):
    """Fit one fold's model by its own job and explain it: the table, the folder and the arguments of the model's job."""
    arguments, folder = job_of(cohort, kind, "clean", arm, fold, **changed)
    (fit_fold if kind == "linear" else train_fold)(**arguments)
    return explain(cohort, kind, arm, arguments, folder), folder, arguments


def truth(cohort):
    return pd.Series(cohort.response, index=cohort.names)


def first(found, what, measure, n=2):
    """The units that add most to the difference between the groups."""
    part = found[(found["what"] == what) & (found["measure"] == measure)]
    return set(part.sort_values("separation", ascending=False)["name"].head(n))


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, names = planted_cohort()
    made.write()
    made.write_kernels()
    return made, {COMPONENT: {str(index + 1) for index in PLANTED}, NETWORK: {names[index] for index in PLANTED}}


@pytest.mark.parametrize("arm", ["asc", "ssc"])
def test_the_planted_networks_rank_first_in_a_linear_model_and_shuffled_weights_lose_them(arm, cohort):
    made, planted = cohort
    for fold in FOLDS:
        table, folder, _ = explained(made, "linear", arm, fold)
        found = fold_separations(table, truth(made))
        for what, measure in KEYS:
            assert first(found, what, measure) == planted[what], (fold, what, measure)
        # What little the shuffled weights add is no separation of the groups.
        own, other = (found.set_index(["what", "name", "measure"])[name] for name in ("separation", "randomised"))
        assert abs(other[WHOLE, WHOLE, DECISION]) < 0.1 * own[WHOLE, WHOLE, DECISION]
        facts, scores = read_json(folder / "explanation.json"), read_table(folder / "predictions.tsv")
        np.testing.assert_array_equal(facts["participants"], scores["participant_id"])
        maps = read_array(folder / "explanation.npy")
        whole = table[(table["what"] == WHOLE) & (table["measure"] == DECISION)]["trained"].to_numpy()
        np.testing.assert_allclose(maps.sum(axis=1), whole, rtol=1e-3, atol=1e-4)
        assert set(facts["fitted_on"]).isdisjoint(facts["applied_to"])
        assert not set(facts["labels_of"]) & set(facts["applied_to"])


def test_the_map_of_attributions_is_high_where_the_planted_networks_are(cohort):
    made, planted = cohort
    _, folder, _ = explained(made, "linear", "asc")
    names, templates = network_templates(made.mask, made.affine)
    group = truth(made)[read_json(folder / "explanation.json")["participants"]].to_numpy()
    maps = np.asarray(read_array(folder / "explanation.npy"), float)
    difference = maps[group == 1].mean(axis=0) - maps[group == 0].mean(axis=0)
    inside = {
        name: difference[values > 0.5 * values.max()].mean() for name, values in zip(names, templates, strict=True)
    }
    assert set(sorted(inside, key=inside.get)[-len(PLANTED) :]) == planted[NETWORK]


def test_a_network_finds_the_planted_networks_its_attributions_sum_up_and_shuffled_weights_lose_both():
    made, names = planted_cohort(36)
    channels = dict(zip(made.names, made.maps, strict=True))
    training, test = made.names[:24], made.names[24:32]
    samples = Samples(channels, made.mask, training)
    model = train(samples, training, truth(made), LEARNS, epochs=6, seed=3).model
    decision = NetworkDecision(model, made.mask, steps=16)
    scaled = {name: samples.batch([name])[0][made.mask].T for name in made.names[:32]}
    baseline = np.mean([scaled[name] for name in training], axis=0)
    both = network_templates(made.mask, made.affine)
    regions = {name: values > 0.5 * values.max() for name, values in zip(*both, strict=True)}
    # Before its sigmoid the model is the model.
    score = model.predict_on_batch(samples.batch(test))[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(-decision(np.stack([scaled[name] for name in test])))), score, atol=1e-5)
    shuffled = decision.randomised(7)
    rows = []
    for name in test:
        numbers = {str(index + 1): index for index in range(len(baseline))}
        added, by_voxel = contributions(decision, scaled[name], baseline, regions, numbers)
        other, _ = contributions(shuffled, scaled[name], baseline, regions, numbers)
        whole = added[WHOLE, WHOLE, DECISION]
        assert abs(added[WHOLE, WHOLE, ATTRIBUTION] - whole) < 0.05 * abs(whole) + 0.02
        assert by_voxel.shape == (made.mask.sum(),)
        rows += [(name, *key, value, other[key]) for key, value in added.items()]
    table = pd.DataFrame(rows, columns=["participant_id", "what", "name", "measure", "trained", "randomised"])
    found = fold_separations(table, truth(made))
    planted = {COMPONENT: {str(index + 1) for index in PLANTED}, NETWORK: {names[index] for index in PLANTED}}
    for what, measure in KEYS:
        assert first(found, what, measure) == planted[what], (what, measure)
    whole = found[found["what"] == WHOLE].set_index("measure")
    assert abs(whole.loc[DECISION, "randomised"]) < 0.25 * whole.loc[DECISION, "separation"]


def test_more_steps_bring_integrated_gradients_nearer_to_the_decision():
    made, _ = planted_cohort(8)
    samples = Samples(dict(zip(made.names, made.maps, strict=True)), made.mask, made.names)
    model = train(samples, made.names, truth(made), LEARNS, epochs=2, seed=3).model
    one, other = (samples.batch([name])[0][made.mask].T for name in made.names[:2])
    gaps = []
    for steps in (1, 64):
        decision = NetworkDecision(model, made.mask, steps=steps)
        change = np.diff(decision(np.stack([other, one])))[0]
        gaps.append(abs(float(integrated_gradients(decision, one, other).sum(dtype=float)) - change))
    assert gaps[1] < 0.5 * gaps[0] and gaps[1] < 0.02


def test_the_job_explains_the_network_that_predicted_and_names_one_that_is_damaged_or_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, _ = planted_cohort(12)
    made.write()
    table, folder, arguments = explained(made, "network", "asc", models=SHORT)
    scores = read_table(folder / "predictions.tsv").set_index("participant_id")["y_score"]
    assert set(table["participant_id"]) == set(scores.index)
    assert table[["trained", "randomised"]].notna().all().all()
    write_table(folder / "predictions.tsv", (1 - scores).reset_index())
    with pytest.raises(InputError, match=r"model.keras gives other scores than .*predictions.tsv .*remove both"):
        explain(made, "network", "asc", arguments, folder)
    content = (folder / "model.keras").read_bytes()
    (folder / "model.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be loaded as a network without running code"):
        explain(made, "network", "asc", arguments, folder)


def test_a_damaged_linear_model_is_named(cohort):
    made, _ = cohort
    _, folder, arguments = explained(made, "linear", "asc")
    content = (folder / "model.npz").read_bytes()
    (folder / "model.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"model.npz cannot be read as a linear model .*remove it and run again"):
        explain(made, "linear", "asc", arguments, folder)


def test_volumes_are_explained_by_networks_alone_of_an_ensemble_on_the_cut_grid_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, _ = planted_cohort(12)
    made.write()
    made.write_volumes([3] * 12)
    cut = SHORT["voxnet"] | {"preset": "voxnet_original", "crop": "brain", "members": 2}
    table, folder, _ = explained(made, "network", "rsp", models=SHORT | {"voxnet": cut})
    assert set(table["what"]) == {WHOLE, NETWORK}
    assert read_array(folder / "explanation.npy").shape == (4, made.mask.sum())


def test_an_explanation_is_given_no_label_table():
    made, _ = planted_cohort(12)
    for arm in ("asc", "ssc", "rsp"):
        wildcards = SimpleNamespace(protocol="clean", arm=arm, model="voxnet", fold=FOLDS[0])
        files = explanation_files(Plan.of(config()), list(made.batches), wildcards)
        assert "folds/labels" not in str(files) and "/all" not in str(files)
