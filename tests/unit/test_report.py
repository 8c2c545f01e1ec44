"""The report page of a whole results folder: one file, escaped, who was in the study, what was done, nobody named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest
from fabricated_cohort import FAILED, ORDER, PARTICIPANTS, REASON, UNLABELLED, UNWARPED, WARPED, scan_of
from fabricated_page import TEXT, page_of
from fabricated_results import edit_sidecar

from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.identifiers import Identifiers
from restresponse.report.methods_text import merge_sentences, preprocessing_methods
from restresponse.report.page import content, write_page


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


def test_scans_with_odd_headers_are_counted_and_linked_where_there_are_any(run):
    page_of(run)
    link = '<a href="../quality/index.html#notes">'
    assert link not in Path("results/report/index.html").read_text(encoding="utf-8")
    batch, (scan, *_) = next(iter(run.scan_batches.items()))
    edit_sidecar(f"results/quality/scans/{batch}/{scan}.json", notes=["the header of the BOLD is odd"])
    assert f"In 1 of {len(run.scans)} scans the headers of the images are odd" in page_of(run).text
    assert link in Path("results/report/index.html").read_text(encoding="utf-8")


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


def test_methods_are_taken_from_the_records_and_failed_ones_say_nothing(run, shown):
    text = shown["methods"]
    assert "The T1w image was corrected for bias (N4)." in text
    assert "Volumes were realigned to the first by a rigid transform." in text  # of the 13 scans that did not fail
    assert "Denoising took out 6 motion parameters, which left 24 of 40 degrees of freedom." in text
    assert (
        f"{UNWARPED.rstrip('.')} (in 12 of 13 scans)." in text and f"{WARPED.rstrip('.')} (in 1 of 13 scans)." in text
    )
    assert (
        f"{UNWARPED.rstrip('.')} (in 12 of 13 scans)." in text and f"{WARPED.rstrip('.')} (in 1 of 13 scans)." in text
    )
    for scan in run.scans:
        edit_sidecar(f"results/functional/{scan}/{scan}.json", methods=[])
    assert not any("realigned" in sentence or "istortion" in sentence for sentence in content(run)["methods"])


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


def test_the_methods_name_the_null_the_baselines_and_the_change(run, shown):
    text = " ".join(shown["methods"])
    assert "Baselines, on the same folds" in text and "connectivity between 32 nodes" in text
    assert "permutations of the labels within outer folds" in text
    assert "percent fall of pain of 11 participants was predicted" in text and "20, 30, 50 %" in text
    off = dataclasses.replace(run, config=run.config | {"metrics": run.config["metrics"] | {"permutations": 0}})
    assert not [sentence for sentence in content(off)["methods"] if sentence.startswith("Null:")]
