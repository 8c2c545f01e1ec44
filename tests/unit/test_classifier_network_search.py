"""The search of a network's hyper-parameters in its fold: what it reads, what it keeps, what another arm takes over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classifier_cohort import CLEAN, FOLDS, PAPER, VOXNET, Cohort, config, job_of

from restresponse.classifier import network_fold
from restresponse.classifier.network import prepare
from restresponse.classifier.network_fold import train_fold
from restresponse.files import read_json, read_table

SPACE = {"epsilon": [0.1, 0.5], "learning_rate": [0.001, 0.01], "dropout": [0.1, 0.3], "epochs": [2.0]}
CONFIGS = {"epsilon": 0.1, "learning_rate": 0.001, "dropout": 0.3, "epochs": 2}
MODELS = config()["classifier"]["models"] | {"voxnet": VOXNET | {"search": {"trials": 2, "minutes": None}}}
PROTOCOLS = {"clean": CLEAN | {"inherited": "own_arm"}, "paper": PAPER | {"inherited": "other_arms"}}


@pytest.fixture(scope="module", autouse=True)
def prepared():
    prepare(0)


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network_fold, "SPACE", SPACE)
    made = Cohort.of(effect=0.5)
    made.write()
    return made


def run(cohort, protocol, arm):
    arguments, folder = job_of(cohort, "network", protocol, arm, models=MODELS, protocols=PROTOCOLS)
    train_fold(**arguments)
    return read_json(folder / "model.json"), read_table(folder / "history.tsv"), folder


def test_clean_searches_on_inner_folds_and_trains_with_what_won(cohort):
    facts, history, folder = run(cohort, "clean", "ssc")
    trials = facts["tuning"]["trials"]
    assert trials[0]["settings"] == CONFIGS and len(trials) == 2
    best = min((row for row in trials if row["state"] == "finished"), key=lambda row: row["value"])
    assert {name: facts["chosen"][name] for name in SPACE} == best["settings"]
    assert facts["tuning"]["share"] == 2 / 8
    training = {name for i, name in enumerate(cohort.names) if i not in cohort.tests[FOLDS[0]]}
    assert set(facts["fitted_on"]) == set(facts["labels_of"]) == training
    # The kept trial's own inner trainings give the epoch, and they are the history.
    assert set(history["stage"]) == {"inner-1", "inner-2", "final"}
    assert facts["chosen"]["epoch"] == min(row["epoch"] for row in facts["inner_folds"])
    watched = history[history["stage"] != "final"].groupby("stage")["watched_loss"].min()
    assert np.mean(watched) == pytest.approx(best["value"])
    assert "inner folds" in facts["hyperparameters"]
    assert not list(Path(folder).glob("search.journal*"))


def test_paper_searches_on_the_reported_fold_and_volumes_take_over_what_components_found(cohort):
    cohort.write_volumes([3] * len(cohort.names))
    found, _, folder = run(cohort, "paper", "asc")
    assert set(found["labels_of"]) == set(cohort.names)
    assert "the reported fold" in found["hyperparameters"]
    best = min((row["value"], row["number"]) for row in found["tuning"]["trials"] if row["state"] == "finished")
    history = read_table(Path(folder) / "history.tsv")
    assert history["watched_loss"].min() == pytest.approx(best[0])
    taken, _, _ = run(cohort, "paper", "rsp")
    assert taken["hyperparameters"] == "taken over from arm asc" and taken["tuning"] is None
    assert {name: taken["chosen"][name] for name in SPACE} == {name: found["chosen"][name] for name in SPACE}
    assert str(Path(folder) / "model.json") in taken["sources"]
