"""The null of networks: the fold's own job on other labels, chance where nothing leaks, counted together with linear models."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from classifier_cohort import FOLDS, VOXNET, Cohort, config, job_of
from test_metrics import paper_size
from test_metrics_further import null_of

from restresponse.classifier.network import prepare
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.search import SPACE
from restresponse.files import read_json, read_table, write_table
from restresponse.metrics.network_null import (
    network_areas,
    network_chunk_range,
    network_chunks,
    network_null_files,
    permuted_network_files,
    permuted_row,
    write_network_null,
)
from restresponse.metrics.permutations import null_table, permuted_labels, with_observed
from restresponse.metrics.scores import Sample, mean_fold_auc
from restresponse.plan import Plan


@pytest.fixture(scope="module", autouse=True)
def prepared():
    prepare(0)


def settings(**network):
    """A config with a network of one epoch, and a protocol that takes over what another arm has found."""
    classifier = config()["classifier"]
    protocols = classifier["protocols"] | {"taking": classifier["protocols"]["clean"] | {"inherited": "other_arms"}}
    models = classifier["models"] | {"voxnet": VOXNET | {"epochs": 1} | network}
    return {"models": models, "protocols": protocols}


def null_job(cohort: Cohort, protocol: str, arm: str, fold: str, permutations: tuple[int, int], **network):
    plan = Plan.of(config(**settings(**network)))
    wildcards = SimpleNamespace(protocol=protocol, arm=arm, model="voxnet", fold=fold)
    path = f"results/metrics/null/{protocol}/{arm}/voxnet/{fold}/chunk-001.tsv"
    write_table(path, pd.DataFrame())  # as a workflow makes the folder
    write_network_null(
        **permuted_network_files(plan, list(cohort.batches), wildcards),
        **permuted_row(plan, wildcards),
        batches=cohort.batches,
        fold=fold,
        key=(protocol, arm, "voxnet"),
        permutations=permutations,
        seed=2021,
        n_inner_folds=2,
        voxel_size=None,
        gpu=0,
        normalise=True,
        require_match=False,
        null=path,
    )
    return read_table(path, text_columns=("protocol", "arm", "model", "fold", "participant_id"))


@pytest.mark.parametrize(("protocol", "arm"), [("clean", "ssc"), ("paper", "ssc")])
def test_labels_as_they_are_give_the_folds_own_predictions(protocol, arm, tmp_path, monkeypatch):
    """Permutation 0 through the null's own selection, refitted maps and label tables: the job's numbers, to the last digits."""
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(effect=0.5)
    cohort.write()
    arguments, folder = job_of(cohort, "network", protocol, arm, **settings())
    train_fold(**arguments)
    own = read_table(folder / "predictions.tsv")
    found = null_job(cohort, protocol, arm, FOLDS[0], (0, 1))
    assert found["participant_id"].tolist() == own["participant_id"].tolist()
    np.testing.assert_allclose(found["y_score"], own["y_score"], rtol=0, atol=1e-5)
    assert not list((tmp_path / "results/metrics/null").rglob("permutation-*"))


def test_a_search_is_made_again_and_an_arm_that_takes_over_its_result_waits_for_it(tmp_path, monkeypatch):
    """Permutation 0 of an arm of volumes: the other arm's search and its own training, as in their jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SPACE, "epochs", [1.0, 2.0, 3.0])
    cohort = Cohort.of(effect=0.5)
    cohort.write()
    cohort.write_volumes([3] * 12)
    search = {"search": {"trials": 2, "minutes": None}}
    for arm in ("asc", "rsp"):
        arguments, folder = job_of(cohort, "network", "taking", arm, **settings(**search))
        train_fold(**arguments)
    taken, source = (
        read_json(f"results/classifier/taking/{arm}/voxnet/{FOLDS[0]}/model.json") for arm in ("rsp", "asc")
    )
    assert len(source["tuning"]["trials"]) == 2 and taken["hyperparameters"] == "taken over from arm asc"
    own = read_table(folder / "predictions.tsv")
    found = null_job(cohort, "taking", "rsp", FOLDS[0], (0, 1), **search)
    np.testing.assert_allclose(found["y_score"], own["y_score"], rtol=0, atol=1e-5)


def test_permuted_labels_give_chance_though_an_effect_is_planted(tmp_path, monkeypatch):
    """Few trainings, for the time they take: a null that kept the true labels would be at 1."""
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of(effect=3.0)
    cohort.write()
    parts = [null_job(cohort, "clean", "asc", fold, (1, 3)) for fold in FOLDS]
    folds, labels = read_table("results/folds/folds.tsv"), read_table("results/folds/labels/all.tsv")
    areas = network_areas(pd.concat(parts), folds, labels, 2021).set_index("permutation")["mean"]
    assert sorted(areas.index) == [1, 2]
    assert 0.2 < areas.mean() < 0.8


def test_networks_and_linear_models_are_given_the_same_permutations(tmp_path):
    cohort = Cohort.of()
    response = cohort.response
    tests = [np.array(sorted(members)) for members in cohort.tests.values()]
    folds = pd.DataFrame(
        [(1, fold, cohort.names[index]) for fold, members in cohort.tests.items() for index in members],
        columns=["repeat", "fold", "participant_id"],
    )
    labels = pd.DataFrame({"participant_id": cohort.names, "response": response})
    for number in (1, 4):
        answers = permuted_labels(response, tests, 5, [number])[0]
        scores = folds.assign(protocol="clean", arm="asc", model="net", permutation=number)
        scores["y_score"] = [float(answers[cohort.names.index(name)]) for name in scores["participant_id"]]
        found = network_areas(scores.sample(frac=1, random_state=0), folds, labels, 5)
        assert found["mean"].tolist() == found["pooled"].tolist() == [1.0]


def test_chunks_cover_every_permutation_once_and_a_network_searched_by_the_clock_has_none():
    for n in (1, 5, 6, 19):
        numbers = [number for name in network_chunks(n) for number in range(*network_chunk_range(name, n))]
        assert numbers == list(range(1, n + 1))
    plan = Plan.of(config())
    assert network_null_files(plan, 0) == []
    found = network_null_files(plan, 6)
    assert "results/metrics/null/paper/rsp/voxnet/rep-1_fold-03/chunk-002.tsv" in found
    assert len(found) == 3 * 3 * 3 * 2  # protocols, arms, folds, chunks
    models = config()["classifier"]["models"]
    for budget, n_files in (({"trials": 2, "minutes": None}, len(found)), ({"trials": 2, "minutes": 5}, 0)):
        searched = Plan.of(config(models=models | {"voxnet": VOXNET | {"search": budget}}))
        assert len(network_null_files(searched, 6)) == n_files


def test_max_t_is_over_the_permutations_that_all_models_have():
    rng = np.random.default_rng(0)
    linear = paper_size(3, signal=0.8, model="linear")
    network = paper_size(4, signal=0.8, model="voxnet")
    rows = pd.concat([linear, network])
    many = null_of(linear, *rng.normal(0.5, 0.13, (2, 400)))
    few = pd.DataFrame(
        {**{name: network[name].iloc[0] for name in ("protocol", "arm", "model")}, "permutation": range(1, 20)}
    ).assign(mean=rng.normal(0.5, 0.13, 19), pooled=rng.normal(0.5, 0.13, 19))
    observed = with_observed(rows, few)
    assert observed.loc[observed["permutation"] == 0, "mean"].tolist() == [mean_fold_auc(Sample.of(network))]
    table = null_table(rows, pd.concat([many, observed]), 0.95).set_index(["model", "scope"])
    assert (
        table.loc[("linear", "mean"), "n_permutations"] == 400 and table.loc[("voxnet", "mean"), "n_permutations"] == 19
    )
    assert set(table["n_maxt"]) == {19}
    assert (table["p_maxt"] >= 1 / 20 - 1e-12).all()
    assert table.loc[("linear", "mean"), "p"] < 1 / 20
    alone = null_table(rows, many, 0.95)
    assert set(alone["n_maxt"]) == {400}
