"""What the report says of the scores: its verdict and caution, the null, the paper's figures, and what must be zero."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from fabricated_page import TEXT, page_of

from restresponse.files import read_json, read_table, write_table
from restresponse.metrics.optimism import METRICS_COLUMNS
from restresponse.report.page import content, number, p_value
from restresponse.report.published import differences_from_paper
from restresponse.report.summary import audit_sentence, caution, verdict


def test_the_summary_leads_with_the_clean_auc_and_its_caution(run, shown):
    sentences = shown["summary"]
    metrics = read_table("results/metrics/metrics.tsv", text_columns=TEXT)
    clean = metrics[(metrics["protocol"] == "clean") & (metrics["arm"] == "asc") & (metrics["model"] == "voxnet")]
    value = clean.loc[(clean["metric"] == "auc") & (clean["scope"] == "mean"), "value"].iloc[0]
    assert sentences[0].startswith("With the clean protocol")
    assert (
        f"voxnet on asc (first in the config) tells responders from non-responders with a mean AUC of {value:.2f}"
        in sentences[0]
    )
    assert "constant classifier" in sentences[1]
    assert sentences[-1].startswith("Caution: 7 responders and 5 non-responders are few")


def table_of(clean: tuple[float, float, float], **scores: float) -> pd.DataFrame:
    """metrics.tsv of one classifier beside the constant one."""
    rows = [("clean", "asc", "voxnet", "auc", "mean", *clean, 43)]
    rows += [("clean", "asc", "voxnet", "accuracy", "pooled", 0.6, 0.5, 0.7, 43)]
    rows += [("clean", "asc", "constant", "auc", "mean", 0.5, 0.5, 0.5, 43)]
    rows += [("clean", "asc", "constant", "accuracy", "pooled", 0.674, 0.674, 0.674, 43)]
    return pd.DataFrame(rows, columns=list(METRICS_COLUMNS))


@pytest.mark.parametrize(
    ("clean", "said"),
    [
        ((0.62, 0.40, 0.85), "does not show that it does better"),
        ((0.82, 0.60, 0.95), "lies above 0.5"),
        ((0.20, 0.05, 0.40), "look for a mistake"),
    ],
)
def test_the_verdict_says_what_the_interval_allows(clean, said):
    audit = pd.DataFrame(
        [("clean", "asc", "voxnet", "f", "clean")], columns=["protocol", "arm", "model", "fold", "verdict"]
    )
    predictions = pd.DataFrame({"participant_id": ["a", "b"], "response": [1, 0]})
    optimism = pd.DataFrame(
        [("paper", "asc", "voxnet", "mean", clean[0], 0.9, 0.9 - clean[0], 0.1, 0.4, np.nan)],
        columns=["protocol", "arm", "model", "scope", "clean", "value", "difference", "low", "high", "by_construction"],
    )
    sentences = verdict(table_of(clean), optimism, audit, predictions, 0.95)
    assert said in sentences[0]
    assert "accuracy 0.67; the classifier's own accuracy is 0.60" in sentences[1]
    assert f"gets 0.90: a difference of {0.9 - clean[0]:+.2f}" in sentences[2]
    assert "optimism" in sentences[2]


def test_the_caution_has_the_papers_numbers():
    # 29 and 14: standard deviation 0.095, so that 0.686 is where a two-sided 5 % begins.
    assert "standard deviation of 0.10" in caution(29, 14)
    assert "below about 0.69" in caution(29, 14)


def test_the_audits_sentence_names_who_leaks_and_who_does_not():
    columns = ["protocol", "arm", "model", "fold", "verdict"]
    rows = [("clean", "a", "m", "f", "clean"), ("paper", "a", "m", "f", "leak as declared")]
    text = audit_sentence(pd.DataFrame(rows, columns=columns))
    assert "2 checks behind 2 models and found no violation: under clean no test participant" in text
    assert "under paper they did, as that protocol declares" in text
    broken = audit_sentence(pd.DataFrame([("clean", "a", "m", "f", "VIOLATION")], columns=columns))
    assert "found 1 violations" in broken
    assert "no test participant" not in broken


def test_rows_that_must_be_zero_are_marked_and_a_fault_among_them_is_shown(run, shown):
    table = read_table("results/metrics/optimism.tsv", text_columns=TEXT)
    constant = table["model"] == "constant"
    assert constant.any()
    rows = shown["optimism"]
    nested = (table["protocol"] == "paper_nested") & (table["arm"] == "rsp")  # no ICA, and its epoch from inner folds
    assert [bool(row["by_construction"]) for row in rows] == (constant | nested).tolist()
    assert not any(row["fault"] for row in rows)
    table.loc[constant, "difference"] = 0.1
    write_table("results/metrics/optimism.tsv", table)
    assert "but it is not zero" in page_of(run).text


def test_the_papers_figures_stand_beside_ours(run, shown):
    rows = shown["paper"]
    assert [row["arm"] for row in rows] == ["asc", "ssc", "rsp"]
    assert [row["published"]["auc"] for row in rows] == [0.966, 0.85, 0.44]
    metrics = read_table("results/metrics/metrics.tsv", text_columns=TEXT)
    own = rows[1]["own"]["paper"]["auc"].value
    chosen = (metrics["protocol"] == "paper") & (metrics["arm"] == "ssc") & (metrics["model"] == "voxnet")
    assert own == metrics.loc[chosen & (metrics["metric"] == "auc") & (metrics["scope"] == "mean"), "value"].iloc[0]


def test_settings_that_differ_from_the_paper_are_named(run):
    found = {row["key"]: (row["published"], row["own"]) for row in differences_from_paper(run.config)}
    assert found["folds.n_folds"] == (10, 2)
    assert found["functional.voxel_size"] == (2, 12)
    assert "functional.smoothing_fwhm" not in found


def test_participants_left_out_of_an_arm_are_named(run):
    assert "sub-04 of rsp (12 volumes, the arm takes 20)" in page_of(run).text
    model = read_json("results/classifier/clean/asc/voxnet/rep-1_fold-01/model.json")
    assert model["left_out"] == []


def test_numbers_that_are_missing_are_shown_as_such():
    assert number(None) == number(float("nan")) == number("x") == "n/a"
    assert number(np.float64(0.126)) == "0.13"
    assert p_value(0.0001) == "< 0.001"
    assert p_value(None) == "n/a"


def test_motion_that_differs_between_the_groups_is_said_and_warned_of_in_the_summary(run, shown):
    sentences = shown["quality"]["motion"]["sentences"]
    assert sentences[0].startswith("No difference in motion")
    assert not any("otion" in sentence for sentence in shown["summary"])
    table = run.table("metrics/motion.tsv")
    table.loc[0, ["mean_responders", "difference", "low", "high", "p_welch", "auc"]] = [0.3, 0.2, 0.1, 0.3, 0.001, 0.9]
    write_table("results/metrics/motion.tsv", table)
    page = page_of(run)
    assert page.text.count("Motion differs between the groups: mean framewise displacement 0.300 mm in responders") == 2
    assert content(run)["summary"][-1].endswith("not told apart.")


def test_the_summary_sets_the_classifier_beside_the_best_baseline_and_the_null(tree, shown):
    comparisons = read_table("results/metrics/comparisons.tsv", text_columns=TEXT)
    row = comparisons[
        (comparisons["protocol"] == "clean") & (comparisons["arm"] == "asc") & (comparisons["other_arm"] == "baseline")
    ].iloc[0]
    text = " ".join(shown["summary"])
    assert f"mean AUC {row['other_auc']:.2f}. The classifier's is {row['difference']:+.2f} from that" in text
    permutations = read_table("results/metrics/permutations.tsv", text_columns=TEXT)
    clean = permutations[(permutations["protocol"] == "clean") & (permutations["scope"] == "mean")]
    assert "On labels permuted within folds, 20 times, the whole clean procedure" in text
    assert any(f"has p = {p:.3f}" in text for p in clean["p"])
    ranked = [row["mean_auc"].value for row in shown["baselines"]]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) >= 5
    nulls = {(row["protocol"], row["arm"], row["model"]): row["null"] for row in shown["metrics"]}
    assert set(nulls["clean", "ssc", "linear"]) == {"mean", "pooled"}
    assert nulls["clean", "asc", "voxnet"] == {}


def test_without_permutations_the_page_says_that_no_null_was_made(run):
    for name in ("null", "permutations", "power"):
        path = f"results/metrics/{name}.tsv"
        write_table(path, read_table(path, text_columns=TEXT).iloc[:0])
    text = page_of(run).text
    assert "No null was made" in text and "No null was measured" in text
    assert "On labels permuted within folds" not in text


def test_the_percent_fall_of_pain_and_each_threshold_are_told(run, shown):
    told = shown["measured"]
    assert "Spearman correlation" in told["sentences"][0] and "on permuted outcomes it is" in told["sentences"][0]
    assert {row["words"] for row in told["rows"]} >= {"Spearman's correlation", "R², out of fold"}
    assert {row["threshold"] for row in told["sweep"]} == {20, 30, 50}
    assert told["figure"].startswith("data:image/")
    write_table("results/metrics/change.tsv", read_table("results/metrics/change.tsv").iloc[:0])
    off = dataclasses.replace(run, config=run.config | {"metrics": run.config["metrics"] | {"continuous": False}})
    assert content(off)["measured"]["sentences"] == [
        "The percent fall of pain was not predicted: metrics.continuous is false."
    ]
