"""The report page of a whole results folder: what it says, that it is one file, and that it escapes what it is given."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated_results import FAILED, ORDER, PARTICIPANTS, REASON, UNLABELLED, edit_sidecar, fresh_copy, scan_of

from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_table
from restresponse.identifiers import Identifiers
from restresponse.metrics.optimism import METRICS_COLUMNS
from restresponse.report.methods_text import merge_sentences, preprocessing_methods
from restresponse.report.page import Run, content, number, p_value, write_page
from restresponse.report.published import differences_from_paper
from restresponse.report.summary import audit_sentence, caution, verdict

TEXT = ("protocol", "arm", "model", "fold", "participant_id", "scan", "reason", "metric", "scope")


class Outline(HTMLParser):
    """Tags, the files an element would load, and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        wanted = {"img": "src", "link": "href", "script": "src", "iframe": "src"}.get(tag)
        self.loaded += [value for name, value in attrs if name == wanted]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path, tmp_path_factory, monkeypatch):
    """A copy of the results in the working directory, as the rule gives it to the page."""
    tree = fresh_copy(tmp_path, tmp_path_factory.mktemp("whole"))
    monkeypatch.chdir(tmp_path)
    return Run(
        results=Path("results"),
        config=tree.config | {"report": {"title": "A study", "identifiers": True}},
        scan_batches={batch: [scan_of(name) for name in members] for batch, members in tree.batches.items()},
        anatomicals=PARTICIPANTS,
        batches=tree.batches,
        classifications=tree.plan.classifications,
        order=ORDER,
        minimum_dof=5,
    )


_SHOWN: dict[str, Any] = {}


@pytest.fixture
def shown(run) -> dict[str, Any]:
    """What the page of the untouched folder shows, worked out once."""
    return _SHOWN or (_SHOWN.update(content(run)) or _SHOWN)


def page_of(run: Run) -> Outline:
    write_page(run, "results/report/index.html")
    outline = Outline()
    outline.feed(Path("results/report/index.html").read_text(encoding="utf-8"))
    return outline


def test_the_page_is_one_file_that_loads_nothing(run):
    outline = page_of(run)
    source = Path("results/report/index.html").read_text(encoding="utf-8")
    assert outline.loaded
    assert all(value.startswith("data:") for value in outline.loaded)
    assert "script" not in outline.tags
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?:https?:)?//|@import|url\(", source)
    sections = re.findall(r'<section id="(\w+)"', source)
    assert sections == [
        "summary",
        "dataset",
        "quality",
        "folds",
        "components",
        "classifier",
        "metrics",
        "methods",
        "run",
    ]


def test_the_page_is_the_same_when_made_again(run):
    write_page(run, "one.html")
    write_page(run, "two.html")
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()


def test_every_scan_is_listed_and_an_excluded_one_with_its_reason(run, shown):
    found = shown["cohort"]
    rows = {row["scan"]: row for row in found["scans"]}
    assert set(rows) == {*run.scans, "sub-02_task-rest_run-2"}
    assert not rows[scan_of(FAILED)]["used"]
    assert rows[scan_of(FAILED)]["reason"] == REASON
    assert rows["sub-02_task-rest_run-2"]["reason"].startswith("set aside")
    assert rows[scan_of(UNLABELLED)]["used"]
    assert "no outcome" in rows[scan_of(UNLABELLED)]["reason"]
    assert [(row["n"], row["lost"]) for row in found["flow"][-2:]] == [(13, [FAILED]), (12, [UNLABELLED])]
    text = page_of(run).text
    assert REASON in text


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


@pytest.mark.parametrize("place", ["scan", "reason", "characteristic", "network", "title"])
def test_what_a_table_holds_is_escaped(run, place):
    evil = "<script>alert(1)</script>"
    if place in ("scan", "reason"):
        table = read_table("results/quality/inclusion.tsv", text_columns=TEXT)
        table.loc[table["scan"] == "sub-02_task-rest_run-2", place] = evil
        write_table("results/quality/inclusion.tsv", table)
    elif place == "characteristic":
        table = read_table("results/metrics/cohort_table.tsv", text_columns=("responders", "nonresponders"))
        table.loc[1, "characteristic"] = evil
        write_table("results/metrics/cohort_table.tsv", table)
    elif place == "network":
        path = f"results/components/all/order-{ORDER}/labels-all/components.tsv"
        table = read_table(path, text_columns=("network", "direction"))
        table.loc[0, "network"] = evil
        write_table(path, table)
    else:
        run = dataclasses.replace(run, config={**run.config, "report": {"title": evil, "identifiers": True}})
    outline = page_of(run)
    assert "script" not in outline.tags
    assert evil in outline.text
    assert "&lt;script&gt;" in Path("results/report/index.html").read_text(encoding="utf-8")


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


def test_methods_are_taken_from_the_records_and_failed_ones_say_nothing(run, shown):
    text = shown["methods"]
    assert "The T1w image was corrected for bias (N4)." in text
    assert "Volumes were realigned to the first by a rigid transform." in text  # of the 13 scans that did not fail
    assert "Denoising took out 6 motion parameters, which left 24 of 40 degrees of freedom." in text
    for scan in run.scans:
        edit_sidecar(f"results/functional/{scan}/{scan}.json", methods=[])
    assert not any("realigned" in sentence for sentence in content(run)["methods"])


def test_a_model_that_did_not_run_is_not_in_the_methods(run):
    kept = [key for key in run.classifications if key[2] == "linear"]
    with_network, without = (
        " ".join(content(one)["methods"]) for one in (run, dataclasses.replace(run, classifications=kept))
    )
    assert "Classifier voxnet" in with_network
    assert "1,404,641 trainable parameters" in with_network
    assert "Classifier voxnet" not in without
    assert "Classifier linear" in without


def test_the_methods_say_how_the_group_pca_was_made_and_how_voxels_were_scaled(run):
    text = " ".join(content(run)["methods"])
    assert "scaled to unit norm" in text and "an exact group PCA" in text
    certificate = {"residual": 1e-5, "subspace": 2e-9, "eigenvalues": 1e-9}
    path = f"results/group_ica/all/order-{ORDER}/components.json"
    edit_sidecar(path, group_pca="merged", passes=6, certificate=certificate)
    for batch, members in run.batches.items():
        for name in members:
            reduced = f"results/group_ica/participants/{batch}/{name}_reduced.json"
            edit_sidecar(reduced, parameters={"reduction": 10, "normalisation": "residual"})
    text = " ".join(content(run)["methods"])
    assert "what is left without its strong components" in text
    assert "merges and 6 block Krylov passes (1 - cos of the largest angle to the exact subspace at most 2e-09)" in text


def test_sentences_that_differ_in_numbers_become_one_with_the_range():
    records = [["Kept 22 of 160 volumes at 0.1 Hz.", "Slices were corrected."], ["Kept 9 of 160 volumes at 0.1 Hz."]]
    assert merge_sentences(records, "scan") == [
        "Kept 9–22 of 160 volumes at 0.1 Hz.",
        "Slices were corrected (in 1 of 2 scans).",
    ]
    assert merge_sentences([["T1w, N4 and a 3D-CNN."]], "scan") == ["T1w, N4 and a 3D-CNN."]


def test_records_of_failed_scans_add_no_method(tmp_path):
    from restresponse.files import write_json

    for name, status in (("one", "done"), ("two", "failed")):
        write_json(tmp_path / f"{name}.json", {"status": status, "methods": [f"Method of {name}."]})
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    assert preprocessing_methods([], paths, []) == ["Method of one."]


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


def test_scans_link_to_their_quality_pages_but_the_one_that_was_never_read(run):
    write_page(run, "results/report/index.html")
    source = Path("results/report/index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="\.\./quality/([^"]+)\.html"', source))
    pages = {f"pages/{batch}/{scan}" for batch, scans in run.scan_batches.items() for scan in scans}
    assert linked == {"index", *pages}


@pytest.fixture
def anonymous(run):
    """The same run as the config has it by default, with everything in it that could tell who someone is."""
    config = {**run.config, "report": {"title": "A study of sub-03", "identifiers": False}}
    config["dataset"] = config["dataset"] | {
        "bids_dir": "/home/jane doe/bids",
        "set_aside": ["sub-02_task-rest_run-2"],
        "include": {"participant_id": PARTICIPANTS},
    }
    config["containers"] = config["containers"] | {"python": "/home/jane doe/images/python.sif"}
    config["engines"] = {"spm": {"command": "/home/jane/spm/run_spm12.sh /home/jane/mcr script", "folder": "~/spm"}}
    table = read_table("results/quality/inclusion.tsv", text_columns=TEXT)
    image = f"/home/jane doe/bids/{FAILED}/func/{scan_of(FAILED)}_bold.nii.gz"
    table.loc[table["scan"] == scan_of(FAILED), "reason"] = f"the BOLD {image} is truncated; see /home/jane/a.log"
    write_table("results/quality/inclusion.tsv", table)
    rows = read_table("results/metrics/cohort_table.tsv", text_columns=TEXT)
    each = pd.DataFrame([dict(rows.iloc[1]) | {"characteristic": "initials", "level": f"J{n}D"} for n in range(12)])
    write_table("results/metrics/cohort_table.tsv", pd.concat([rows, each]))
    return dataclasses.replace(run, config=config)


def test_without_identifiers_nothing_in_the_page_tells_who_anyone_is(anonymous):
    outline = page_of(anonymous)
    source = Path("results/report/index.html").read_text(encoding="utf-8")
    for name in PARTICIPANTS:
        assert name not in source
    source = re.sub(r"(?<=base64,)[A-Za-z0-9+/=]+", "", source)  # figures, in which any three letters may stand
    for word in ("jane", "J1D", "task-rest_run", "/home"):
        assert word not in source
    assert re.findall(r'href="([^#"]+)"', source) == [
        "data:,",
        "../quality/index.html",
        "components_order-4.html",
    ]
    assert "names no participant and no scan" in outline.text
    # what the page is for is still there
    assert "the BOLD …/(a scan).nii.gz is truncated; see …/a.log" in outline.text
    assert "1 participant of rsp (12 volumes, the arm takes 20)" in outline.text
    assert "12 values, not listed" in outline.text
    assert "set_aside: '1 (not named: report.identifiers is false)'" in outline.text
    assert "bids_dir: …/bids" in outline.text and "command: …/run_spm12.sh" in outline.text


def test_without_identifiers_scans_are_numbered_by_what_they_moved_and_not_by_name(anonymous):
    rows = content(anonymous)["cohort"]["scans"]
    assert [row["scan"] for row in rows] == [f"scan {number}" for number in range(1, len(rows) + 1)]
    moved = [row.get("mean_framewise_displacement") for row in rows]
    known = [value for value in moved if value is not None]
    assert known == sorted(known) and moved[len(known) :] == [None] * 2  # failed, and set aside
    flow = content(anonymous)["cohort"]["flow"]
    assert [(row["n"], row["lost"]) for row in flow[-2:]] == [(13, ["1"]), (12, ["1"])]


def test_with_identifiers_the_page_says_that_it_names_people(run):
    assert "This page names participants and scans" in page_of(run).text


def test_a_page_that_would_name_someone_after_all_is_not_written(anonymous, monkeypatch):
    monkeypatch.setattr(Identifiers, "without", lambda self, shown: shown)
    with pytest.raises(InputError, match=r"the page would name sub-\d\d.*though report.identifiers is false"):
        write_page(anonymous, "leak.html")
    assert not Path("leak.html").exists()


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


def test_the_summary_sets_the_classifier_beside_the_best_baseline_and_the_null(shown):
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


def test_the_methods_name_the_null_the_baselines_and_the_change(run, shown):
    text = " ".join(shown["methods"])
    assert "Baselines, on the same folds" in text and "connectivity between 32 nodes" in text
    assert "permutations of the labels within outer folds" in text
    assert "percent fall of pain of 11 participants was predicted" in text and "20, 30, 50 %" in text
    off = dataclasses.replace(run, config=run.config | {"metrics": run.config["metrics"] | {"permutations": 0}})
    assert not [sentence for sentence in content(off)["methods"] if sentence.startswith("Null:")]
