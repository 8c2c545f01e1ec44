"""The leakage audit on a results folder made by the real stages: whole it passes, tampered with it names what and who."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from fabricated_cohort import ORDER, PARTICIPANTS, batch_of
from fabricated_metrics import audit
from fabricated_results import edit_sidecar

from restresponse.errors import InputError
from restresponse.files import digest_of, read_array, read_json, read_table, write_array, write_table
from restresponse.group_ica.cohort import fit_cohort

FOLD = "rep-1_fold-01"
ICA = f"results/group_ica/{FOLD}/order-{ORDER}/components.json"
SELECTION = f"results/components/{FOLD}/order-{ORDER}/labels-{FOLD}/components.json"
MODEL = f"results/classifier/clean/asc/linear/{FOLD}/model.json"
MEASURED = f"results/classifier/measured/{FOLD}/model.json"
BASELINES = f"results/classifier/baselines/{FOLD}/model.json"


def violations():
    table = read_table("results/metrics/audit.tsv", text_columns=("participants", "artefact", "check", "detail"))
    return table[table["verdict"] == "VIOLATION"]


def test_the_whole_folder_has_no_violation_and_declares_the_papers_leaks(tree, tested):
    audit(tree)
    table = read_table("results/metrics/audit.tsv", text_columns=("participants", "artefact", "check"))
    assert set(table.loc[table["protocol"] == "clean", "verdict"]) == {"clean"}
    assert set(table.loc[table["protocol"] == "paper", "verdict"]) == {"clean", "leak as declared"}
    declared = table[(table["verdict"] == "leak as declared") & (table["fold"] == FOLD)]
    assert set(declared["participants"]) == {", ".join(tested)}
    ica = declared[(declared["arm"] == "asc") & declared["artefact"].str.contains("group_ica")]
    assert set(ica["check"]) == {"fitted_on", "path"}
    assert set(table["check"]) >= {"fitted_on", "labels_of", "sources", "recomputed", "predictions"}


@pytest.mark.parametrize("path", [ICA, SELECTION, MODEL, BASELINES, MEASURED])
def test_a_deleted_sidecar_is_a_violation(tree, tmp_path, path):
    (tmp_path / path).unlink()
    with pytest.raises(InputError, match=rf"{path}: sidecar: the sidecar is missing"):
        audit(tree)
    assert set(violations()["protocol"]) == {"clean"}


@pytest.mark.parametrize("path", [ICA, SELECTION, MODEL, BASELINES, MEASURED])
def test_a_sidecar_that_admits_a_test_participant_is_a_violation(tree, tested, path):
    edit_sidecar(path, fitted_on=sorted({*read_json(path)["fitted_on"], tested[0]}))
    with pytest.raises(InputError) as caught:
        audit(tree)
    assert f"{path}: fitted_on: test participants were seen" in str(caught.value)
    assert f"({tested[0]})" in str(caught.value)
    assert "run again" in str(caught.value)


def test_a_selection_that_read_a_test_label_is_a_violation(tree, tested):
    edit_sidecar(SELECTION, labels_of=sorted({*read_json(SELECTION)["labels_of"], tested[-1]}))
    with pytest.raises(InputError, match=rf"labels_of: test participants were seen.*\({tested[-1]}\)"):
        audit(tree)


def test_a_model_trained_on_fewer_than_the_others_is_a_violation(tree):
    lacking = read_json(MODEL)["fitted_on"][0]
    edit_sidecar(MODEL, fitted_on=read_json(MODEL)["fitted_on"][1:])
    with pytest.raises(InputError, match=rf"fitted_on: lacking: {lacking}"):
        audit(tree)


def leaky_ica(tree, admitted: bool, tested: list[str]) -> None:
    """Fit the fold's group ICA on one of its test participants too; with or without admitting it in the sidecar."""
    folds = read_table("results/folds/folds.tsv")
    write_table("leaky.tsv", folds[~((folds["fold"] == FOLD) & (folds["participant_id"] == tested[0]))])
    honest = read_json(ICA)
    base = ICA.removesuffix(".json")
    fit_cohort(
        cohort=FOLD,
        reduced={
            name: f"results/group_ica/participants/{batch_of(tree.batches, name)}/{name}_reduced.npy"
            for name in PARTICIPANTS
        },
        tiles={(a, b): f"results/group_ica/gram/{a}_{b}.npy" for a in tree.batches for b in tree.batches if a <= b},
        members=tree.batches,
        folds="leaky.tsv",
        mask="results/quality/group_mask.nii.gz",
        n_components=ORDER,
        restarts=3,
        subsample=20000,
        tolerance=1e-6,
        max_iterations=500,
        seed=1,
        components=f"{base}.npy",
        image=f"{base}.nii.gz",
        table=f"{base}.tsv",
        sidecar=ICA,
    )
    if not admitted:
        edit_sidecar(ICA, fitted_on=honest["fitted_on"], sources=honest["sources"])


def test_a_job_given_one_participant_more_is_caught(tree, tested):
    leaky_ica(tree, admitted=True, tested=tested)
    with pytest.raises(InputError, match=rf"{ICA}: fitted_on: test participants were seen.*\({tested[0]}\)"):
        audit(tree)


def test_one_participant_more_is_caught_by_its_eigenvalues_though_the_sidecar_hides_it(tree, tested):
    leaky_ica(tree, admitted=False, tested=tested)
    with pytest.raises(
        InputError, match=rf"{ICA}: recomputed: the claimed participants' group PCA has other eigenvalues"
    ):
        audit(tree)
    assert "fitted_on" not in set(violations().loc[violations()["artefact"] == ICA, "check"])


def test_a_selection_on_other_labels_is_caught_by_its_t_values(tree):
    path = SELECTION.replace(".json", ".tsv")
    table = read_table(path, text_columns=("network", "direction", "best_three"))
    other = read_table(
        f"results/components/all/order-{ORDER}/labels-all/components.tsv", text_columns=("network", "direction")
    )
    write_table(path, table.assign(t=other["t"]))
    with pytest.raises(InputError, match=r"recomputed: the claimed participants' group test gives other t values"):
        audit(tree)


def test_a_source_that_changed_after_the_fit_is_a_violation(tree):
    components = ICA.replace(".json", ".npy")
    write_array(components, read_array(components) * 2)
    with pytest.raises(InputError, match=rf"{components} is not the file it was made from"):
        audit(tree)


def test_a_warm_start_from_everyone_is_a_violation(tree):
    foreign = f"results/group_ica/all/order-{ORDER}/components.npy"
    sources = read_json(ICA)["sources"]
    edit_sidecar(ICA, sources={**sources, foreign: digest_of(foreign)})
    with pytest.raises(InputError, match=rf"{ICA}: sources: reads files of cohort all"):
        audit(tree)


def test_a_model_given_everyones_labels_is_caught_though_it_does_not_say_so(tree):
    everyone = "results/folds/labels/all.tsv"
    edit_sidecar(MODEL, sources={**read_json(MODEL)["sources"], everyone: digest_of(everyone)})
    with pytest.raises(InputError) as caught:
        audit(tree)
    assert "label tables read: a label table among its sources holds test participants" in str(caught.value)


def test_a_label_table_with_a_test_participant_is_a_violation(tree, tested):
    path = f"results/folds/labels/{FOLD}.tsv"
    labels = read_table("results/folds/labels/all.tsv")
    write_table(path, labels[labels["participant_id"].isin([*read_table(path)["participant_id"], tested[0]])])
    with pytest.raises(InputError, match=rf"its participants are not the training part: {tested[0]}"):
        audit(tree)


@pytest.mark.parametrize("model", ["linear", "voxnet"])
def test_a_leak_that_a_protocol_does_not_declare_is_a_violation_under_it_alone(tree, model):
    rung = {**tree.plan.protocols["paper"], "group_ica": "training"}
    plan = dataclasses.replace(
        tree.plan,
        protocols={**tree.plan.protocols, "paper": rung},
        arms={"asc": {**tree.plan.arms["asc"], "models": [model]}},
    )
    with pytest.raises(InputError, match=rf"classifier/paper/asc/{model}/{FOLD}/model.json: sources: .*cohort all"):
        audit(SimpleNamespace(plan=plan, batches=tree.batches, config=tree.config, measured=[]))
    assert set(violations()["protocol"]) == {"paper"}


def test_a_network_given_everyones_maps_is_a_violation(tree):
    path = f"results/classifier/clean/asc/voxnet/{FOLD}/model.json"
    leaky = read_json(path.replace("/clean/", "/paper/"))["sources"]
    edit_sidecar(path, sources={name: digest for name, digest in leaky.items() if "labels/all" not in name})
    with pytest.raises(InputError) as caught:
        audit(tree)
    assert f"{path}: sources: reads files of cohort all; names no file of cohort {FOLD}" in str(caught.value)


def test_an_inner_fold_with_a_test_participant_is_a_violation(tree, tested):
    inner = read_json(MODEL)["inner_folds"]
    inner[0]["watched"].append(tested[0])
    edit_sidecar(MODEL, inner_folds=inner)
    with pytest.raises(InputError, match=rf"inner folds hold participants who are not trained on \({tested[0]}\)"):
        audit(tree)


def test_a_prediction_of_someone_else_is_a_violation(tree, tested):
    path = MODEL.replace("model.json", "predictions.tsv")
    write_table(path, read_table(path).iloc[1:])
    with pytest.raises(InputError, match=rf"predictions: .*\({tested[0]}\)"):
        audit(tree)


def test_an_outcome_table_with_a_test_participant_is_a_violation(tree, tested):
    path = f"results/folds/outcomes/{FOLD}.tsv"
    everyone = read_table("results/folds/outcomes/all.tsv")
    write_table(path, everyone[everyone["participant_id"].isin([*read_table(path)["participant_id"], tested[0]])])
    with pytest.raises(InputError) as caught:
        audit(tree)
    assert f"its participants are not the training part: {tested[0]}" in str(caught.value)
    assert "test labels are read here" in str(caught.value)
    assert set(violations()["arm"]) == {"percent change"}


def test_a_change_predicted_from_other_participants_is_caught_by_its_numbers(tree):
    path = MEASURED.replace("model.json", "predictions.tsv")
    table = read_table(path, text_columns=("arm", "model", "target", "participant_id"))
    other = table["predicted"].where(table["target"] != "change", table["predicted"] + 0.01)
    write_table(path, table.assign(predicted=other))
    with pytest.raises(
        InputError, match=r"linear on asc, change: the fit on the training participants gives other scores"
    ):
        audit(tree)
    write_table(path, table)
    facts = read_json(MEASURED)["chosen"]
    edit_sidecar(MEASURED, chosen=[{**row, "penalty": row["penalty"] * 10} for row in facts])
    with pytest.raises(InputError, match=r"gives other scores"):
        audit(tree)


def test_a_change_given_the_outcomes_of_everyone_is_caught_though_it_does_not_say_so(tree):
    everyone = "results/folds/outcomes/all.tsv"
    edit_sidecar(MEASURED, sources={**read_json(MEASURED)["sources"], everyone: digest_of(everyone)})
    with pytest.raises(InputError) as caught:
        audit(tree)
    assert "label tables read: a label table among its sources holds test participants" in str(caught.value)
    assert f"read {everyone}, which its job is not given" in str(caught.value)
