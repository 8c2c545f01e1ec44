"""The ladder of leaks, on a results folder made by the stages themselves: one leak a rung and all else the same."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pandas as pd
import pytest
from fabricated_cohort import tiny_config
from fabricated_metrics import write_metrics
from fabricated_results import build

from restresponse.classifier.ladder import CLOSED, LEAKS, leak_of, rung, source_arm
from restresponse.files import read_json, read_table
from restresponse.metrics.optimism import OPTIMISM_COLUMNS
from restresponse.metrics.permutations import null_files
from restresponse.report.figures import ladder_figure
from restresponse.report.ladder import ladder_sentences, rungs_of

TEXT = ("protocol", "arm", "model", "scope", "leaks", "by_construction", "artefact", "check", "participants")


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """The folder of a run with `metrics.ladder`, and its tree."""
    folder = tmp_path_factory.mktemp("ladder")
    config = tiny_config()
    config["classifier"]["protocols"] = {"clean": CLOSED}
    config["metrics"]["ladder"] = True
    with contextlib.chdir(folder):
        tree = build(config)
        write_metrics(tree)
    return folder, tree


def facts_of(folder, key):
    return read_json(folder / "results/classifier" / "/".join(key) / "model.json")


def test_a_rung_has_the_clean_protocols_participants_folds_seeds_and_inner_folds(ladder):
    folder, tree = ladder
    rungs = [key for key in tree.plan.classifications if leak_of(key[0])]
    assert {leak_of(key[0]) for key in rungs} == {"group_ica", "selection", "hyperparameters", "epoch"}
    for key in rungs:
        own, clean = facts_of(folder, key), facts_of(folder, ("clean", *key[1:]))
        for fact in ("fitted_on", "applied_to", "left_out", "seed"):
            assert own[fact] == clean[fact], (key, fact)
        if leak_of(key[0]) in ("group_ica", "selection") and key[2] == "linear":
            folds = [[{name: fold[name] for name in ("fitted_on", "watched")} for fold in facts["inner_folds"]] for facts in (own, clean)]  # fmt: skip
            assert folds[0] and folds[0] == folds[1], key


def test_every_rung_is_in_the_table_of_optimism_with_its_interval(ladder):
    folder, tree = ladder
    table = read_table(folder / "results/metrics/optimism.tsv", text_columns=TEXT)
    table = table[(table["scope"] == "mean") & (table["model"] != "constant")]
    assert set(table["protocol"]) == {rung(leak) for leak in LEAKS}
    pairs = {(arm, model) for arm, row in tree.plan.arms.items() for model in row["models"]}
    assert len(table) == len(LEAKS) * len(pairs)
    assert ((table["low"] <= table["difference"]) & (table["difference"] <= table["high"])).all()
    run = {key[:3] for key in tree.plan.classifications}
    for row in table.itertuples():
        if (row.protocol, row.arm, row.model) in run:
            assert row.leaks.split()[1] == leak_of(row.protocol)
        else:  # nothing was run, and the table says why
            assert row.difference == row.low == row.high == 0
            assert isinstance(row.by_construction, str) and f"(L{LEAKS.index(leak_of(row.protocol)) + 1})" in row.by_construction  # fmt: skip


def test_every_rung_that_a_linear_model_has_is_permuted_and_one_searched_by_the_clock_is_not(ladder):
    folder, tree = ladder
    table = read_table(folder / "results/metrics/permutations.tsv", text_columns=TEXT)
    permuted = {(row.protocol, row.arm, row.model) for row in table.itertuples()}
    linear = {key[:3] for key in tree.plan.classifications if tree.plan.models[key[2]]["kind"] == "linear"}
    assert permuted == linear
    assert {leak_of(key[0]) for key in permuted} == {None, "group_ica", "selection", "hyperparameters"}
    models = {name: row | {"search": {"minutes": 2}} for name, row in tree.plan.models.items()}
    assert null_files(dataclasses.replace(tree.plan, models=models), 20) == []


def test_the_audit_finds_on_each_rung_its_own_leak_and_no_other(ladder):
    folder, _ = ladder
    audit = read_table(folder / "results/metrics/audit.tsv", text_columns=TEXT)
    assert set(audit["verdict"]) == {"clean", "leak as declared"}
    declared = audit[audit["verdict"] == "leak as declared"]
    assert "clean" not in set(declared["protocol"])
    stages = {
        name: {(path.split("/")[1], check) for path, check in zip(part["artefact"], part["check"], strict=True)}
        for name, part in declared.groupby("protocol")
    }
    ica = {("group_ica", "fitted_on"), ("dual_regression", "fitted_on"), ("components", "fitted_on")}
    assert {pair for pair in stages[rung("group_ica")] if pair[1] != "path"} == ica
    selected = {("components", "fitted_on"), ("components", "labels_of"), ("dual_regression", "fitted_on"), ("dual_regression", "labels_of")}  # fmt: skip
    assert {pair for pair in stages[rung("selection")] if pair[1] != "path"} == selected
    for leak in ("hyperparameters", "epoch"):
        assert {pair for pair in stages[rung(leak)] if pair[1] != "path"} == {("classifier", "labels_of")}


def test_the_report_draws_the_ladder_and_says_which_leak_it_is(ladder):
    folder, tree = ladder
    table = read_table(folder / "results/metrics/optimism.tsv", text_columns=TEXT)
    ladders = rungs_of(table)
    assert [(one["arm"], one["model"]) for one in ladders] == [
        (arm, model) for arm, row in tree.plan.arms.items() for model in row["models"]
    ]
    assert all(list(one["rungs"]) == list(LEAKS) for one in ladders)
    assert ladder_figure(ladders).startswith("data:image/png;base64,")
    assert len(ladder_sentences(table, 0.95)) == len(ladders) + 1


def optimism_of(**rungs: tuple[float, float, float]) -> pd.DataFrame:
    """optimism.tsv of one arm and model: leak -> difference, low, high."""
    rows = [(rung(leak), "ssc", "linear", "auc", "mean", 0.5, 0.5 + gap, gap, low, high, 43, f"L0 {leak}", None) for leak, (gap, low, high) in rungs.items()]  # fmt: skip
    rows.append(
        (rung("epoch"), "ssc", "linear", "auc", "mean", 0.5, 0.5, 0, 0, 0, 43, None, "no epoch to stop at (L4)")
    )
    rows.append(
        ("paper", "ssc", "linear", "auc", "mean", 0.5, 0.8, 0.3, 0.2, 0.4, 43, "L1 group_ica; L2 selection", None)
    )
    return pd.DataFrame(rows, columns=list(OPTIMISM_COLUMNS))


def test_the_words_name_the_leak_that_makes_the_difference():
    table = optimism_of(group_ica=(0.01, -0.05, 0.06), selection=(0.2, 0.1, 0.3), hyperparameters=(0.1, 0.02, 0.2))
    first = ladder_sentences(table, 0.95)[0]
    assert first.startswith(
        "linear on ssc: what makes the difference is L2 (components selected with test labels): alone it adds +0.20"
    )
    assert (
        "L3 (hyper-parameters chosen on the reported folds) adds +0.10"
        in first.split("adds +0.20")[1].split("Not told")[0]
    )
    assert "L1" in first.split("Not told apart from none:")[1]
    assert "Under paper (L1, L2 together) the difference is +0.30" in first
    assert "L4" not in first


def test_the_words_blame_nothing_where_every_interval_holds_zero():
    table = optimism_of(
        group_ica=(0.01, -0.05, 0.06), selection=(0.1, -0.02, 0.3), hyperparameters=(np.nan, np.nan, np.nan)
    )
    first = ladder_sentences(table, 0.95)[0]
    assert "no leak alone makes a difference that can be told from none" in first
    assert "the largest is that of L2" in first
    assert "makes the difference is" not in first and "L3" not in first


def test_without_the_ladder_nothing_is_said_of_it():
    assert ladder_sentences(optimism_of().iloc[1:], 0.95) == []


def test_an_arm_of_volumes_inherits_from_the_first_arm_of_components_with_its_model():
    arms = {
        "rsp": {"input": "volumes", "models": ["voxnet"]},
        "asc": {"input": "components", "models": ["linear"]},
        "ssc": {"input": "components", "models": ["voxnet"]},
    }
    assert source_arm("rsp", "voxnet", arms) == "ssc"
    assert source_arm("ssc", "voxnet", arms) is None
