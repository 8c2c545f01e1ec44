"""The audit's paths, its recomputed models, and the certificate: leaky workflows are refuted with the way the leak came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricated_cohort import ORDER, batch_of
from fabricated_metrics import audit
from fabricated_models import scaling_of, write_linear
from fabricated_results import edit_sidecar

from restresponse.classifier.inputs import Scaling
from restresponse.classifier.kernel import Channels
from restresponse.code import code_of
from restresponse.errors import InputError
from restresponse.files import digest_of, read_json, read_table, write_table

FOLD, OTHER = "rep-1_fold-01", "rep-1_fold-02"
ICA = f"results/group_ica/{FOLD}/order-{ORDER}/components"
LINEAR = f"results/classifier/clean/asc/linear/{FOLD}"
NETWORK = f"results/classifier/clean/asc/voxnet/{FOLD}"
CERTIFICATE = "results/metrics/certificate.json"


def paths(verdict="VIOLATION"):
    """Rows of the check `path` with a verdict."""
    table = read_table(
        "results/metrics/audit.tsv", text_columns=("participants", "artefact", "check", "detail", "path", "model")
    )
    return table[(table["check"] == "path") & (table["verdict"] == verdict)]


def refuted(tree, said):
    """The audit fails and says so; what it says."""
    with pytest.raises(InputError, match=said) as caught:
        audit(tree)
    return str(caught.value)


def test_a_clean_prediction_is_proved_and_a_declared_leak_has_its_path(tree, tested):
    audit(tree)
    proved = paths("clean")
    assert set(zip(proved["protocol"], proved["arm"], strict=True)) >= {("clean", arm) for arm in ("asc", "ssc", "rsp")}
    assert not set(paths("leak as declared")["protocol"]) & {"clean"}
    declared = paths("leak as declared")
    ways = declared[(declared["protocol"] == "paper_nested") & (declared["arm"] == "ssc") & (declared["fold"] == FOLD)]
    labels = ways[ways["artefact"].str.contains("labels-all")]["path"].iloc[0]
    assert labels.startswith(f"results/classifier/paper_nested/ssc/voxnet/{FOLD}/predictions.tsv was made from ")
    assert labels.endswith("labels-all/components.tsv was made from results/folds/labels/all.tsv")
    assert set(ways["participants"]) == {", ".join(tested)}


def test_the_way_of_one_participant_too_many_in_an_ica_is_told(tree, tested):
    edit_sidecar(f"{ICA}.json", fitted_on=sorted({*read_json(f"{ICA}.json")["fitted_on"], tested[0]}))
    text = refuted(
        tree, rf"{ICA}.json: path: test participants enter this fit; the protocol allows none \({tested[0]}\)"
    )
    assert f"results/dual_regression/{FOLD}/order-{ORDER}/asc/" in text.split("; reaches")[1]
    rows = paths()
    assert set(rows["artefact"]) == {f"{ICA}.json"}  # where it entered, not all that was made from it
    assert rows["path"].str.endswith(f"was made from {ICA}.npy").all()
    assert rows["path"].str.contains(rf"clean/.*/predictions.tsv was made from .*{FOLD}").any()


def test_a_participant_read_by_an_ica_and_kept_from_its_list_is_found_by_what_it_read(tree, tested):
    reduced = f"results/group_ica/participants/{batch_of(tree.batches, tested[0])}/{tested[0]}_reduced.npy"
    edit_sidecar(f"{ICA}.json", sources={**read_json(f"{ICA}.json")["sources"], reduced: digest_of(reduced)})
    refuted(tree, rf"{ICA}.json: path: test participants enter this fit; the protocol allows none \({tested[0]}\)")


def test_a_warm_start_from_the_model_of_another_fold_is_found_with_its_way(tree, tested):
    weights = Path(NETWORK.replace(FOLD, OTHER)) / "model.keras"
    weights.write_bytes(b"weights")
    sources = read_json(f"{NETWORK}/model.json")["sources"]
    edit_sidecar(f"{NETWORK}/model.json", sources={**sources, str(weights): digest_of(weights)})
    text = refuted(
        tree, rf"{weights.parent}/model.json: path: test participants enter this fit; the protocol allows none"
    )
    assert f"{NETWORK}/predictions.tsv was made from {weights}" in text
    assert tested[0] in text


def test_a_file_that_the_job_is_not_given_is_a_violation_though_it_holds_no_test_participant(tree):
    other = f"results/components/{FOLD}/order-{ORDER}/labels-{FOLD}/components.tsv"  # asc selects nothing
    sources = read_json(f"{LINEAR}/model.json")["sources"]
    edit_sidecar(f"{LINEAR}/model.json", sources={**sources, other: digest_of(other)})
    refuted(tree, rf"{LINEAR}/model.json: inputs: read {other}, which its job is not given")


def test_weights_of_unknown_origin_prove_nothing(tree):
    Path("pretrained.npz").write_bytes(b"weights")
    sources = read_json(f"{NETWORK}/model.json")["sources"]
    edit_sidecar(f"{NETWORK}/model.json", sources={**sources, "pretrained.npz": digest_of("pretrained.npz")})
    refuted(tree, r"pretrained.npz: path: cannot be followed further")


def test_the_original_labels_read_by_a_fit_are_a_violation(tree, tested):
    labels = "results/dataset/labels.tsv"
    sources = read_json(f"{LINEAR}/model.json")["sources"]
    edit_sidecar(f"{LINEAR}/model.json", sources={**sources, labels: digest_of(labels)})
    text = refuted(
        tree, rf"{LINEAR}/model.json: path: test labels are read here; the protocol allows none \(.*{tested[0]}"
    )
    assert f"{LINEAR}/predictions.tsv was made from {labels}" in text


# Hidden in an arm of one selected component there is nothing to find: the fit is the same under any scaling of one channel.
@pytest.mark.parametrize(("arm", "hidden"), [("asc", False), ("ssc", False), ("asc", True)])
def test_a_linear_model_scaled_over_everyone_is_caught_though_its_sidecar_hides_it(tree, monkeypatch, arm, hidden):
    path = f"results/classifier/clean/{arm}/linear/{FOLD}/model.json"
    honest = read_json(path)

    def over_everyone(channels: Channels, training: np.ndarray) -> Scaling:
        n = len(channels.sums)
        squares = np.einsum("cii->ic", channels.products).sum(axis=0)
        return Scaling.of_sums(channels.sums.sum(axis=0), squares, n * channels.n_voxels)

    with monkeypatch.context() as patch:
        patch.setattr(Channels, "scaling", over_everyone)
        write_linear(tree.plan, tree.config, "clean", arm, "linear", FOLD)
    assert read_json(path)["fitted_on"] == honest["fitted_on"]
    if hidden:
        edit_sidecar(path, scaling=honest["scaling"])
        refuted(tree, rf"{path}: recomputed: the fit on the training participants gives other scores")
    else:
        refuted(tree, rf"{path}: recomputed: the scaling is not that of the training participants")


@pytest.mark.parametrize("arm", ["asc", "ssc", "rsp"])
def test_a_network_scaled_over_everyone_is_caught(tree, arm):
    path = f"results/classifier/clean/{arm}/voxnet/{FOLD}/model.json"
    facts = read_json(path)
    everyone = sorted({*facts["fitted_on"], *facts["applied_to"]})
    edit_sidecar(path, scaling=scaling_of(tree.plan, tree.config, "clean", arm, FOLD, everyone))
    refuted(tree, rf"{path}: recomputed: the scaling is not that of the training participants")


def test_a_linear_model_whose_labels_were_swapped_after_the_fit_is_caught(tree):
    path = f"{LINEAR}/predictions.tsv"
    table = read_table(path)
    write_table(path, table.assign(y_score=1 - table["y_score"]))
    refuted(tree, rf"{LINEAR}/model.json: recomputed: the fit on the training participants gives other scores")


def test_the_certificate_states_each_model_with_the_hashes_of_what_it_was_made_from(tree, tested):
    audit(tree)
    first = Path(CERTIFICATE).read_bytes()
    found = read_json(CERTIFICATE)
    verdicts = {(row["protocol"], row["arm"], row["fold"]): row for row in found["classifications"]}
    assert len(found["classifications"]) == len(tree.plan.classifications) + 2 * len(
        tree.plan.folds
    )  # baselines, measured
    assert verdicts["clean", "baseline", FOLD]["artefacts"] > 12  # each participant's connectivity among them
    assert {row["verdict"] for key, row in verdicts.items() if key[0] == "clean"} == {"clean"}
    assert found["verdict"] == "leak as declared" == verdicts["paper", "asc", FOLD]["verdict"]
    assert verdicts["paper", "asc", FOLD]["paths"] and not verdicts["clean", "asc", FOLD]["paths"]
    for row in found["classifications"]:
        names = [row[key] for key in ("protocol", "arm", "model", "fold")]
        of_fold = {"baseline": "baselines", "percent change": "measured"}.get(row["arm"])
        folder = "results/classifier/" + "/".join([of_fold, row["fold"]] if of_fold else names)
        assert row["predictions_sha256"] == digest_of(f"{folder}/predictions.tsv")
        assert row["model_sha256"] == digest_of(f"{folder}/model.json")
    assert all(digest_of(path) == digest for path, digest in found["inputs"].items())
    assert {"results/folds/folds.tsv", f"results/folds/labels/{FOLD}.tsv"} <= set(found["inputs"])
    assert sum(path.endswith("_bold.nii.gz") for path in found["inputs"]) == 13  # every usable scan
    assert found["participants"]["folds"][FOLD] == tested
    assert found["code"]["classifier"] == code_of("classifier")
    assert found["versions"]["numpy"] == np.__version__
    audit(tree)
    assert Path(CERTIFICATE).read_bytes() == first
    assert str(Path.cwd()) not in first.decode()


def test_the_certificate_of_a_leaky_run_refutes_the_models_it_reaches_and_no_others(tree):
    Path(f"{LINEAR}/model.json").unlink()
    refuted(tree, "the sidecar is missing")
    found = read_json(CERTIFICATE)
    broken = [row for row in found["classifications"] if row["verdict"] == "VIOLATION"]
    assert [(row["protocol"], row["arm"], row["model"], row["fold"]) for row in broken] == [
        ("clean", "asc", "linear", FOLD)
    ]
    assert found["verdict"] == "VIOLATION" and broken[0]["model_sha256"] is None
