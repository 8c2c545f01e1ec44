"""A BIDS folder becomes rows: one a run, with its T1w image and timing, whatever the layout; and the tables of them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from bids_tree import (
    N_SLICES,
    TIMES,
    TR,
    add_scan,
    add_t1w,
    default_settings,
    start,
    two_participants,
    write_nifti,
    write_sidecar,
)

from restresponse.dataset import digest_of_rows, labels, read_dataset, write_labels, write_tables
from restresponse.dataset.tables import SCAN_COLUMNS
from restresponse.errors import InputError
from restresponse.files import read_table

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return two_participants(tmp_path / "bids")


@pytest.fixture
def settings() -> dict:
    return default_settings()


def test_one_row_a_run_with_its_t1w_and_timing(bids, settings):
    dataset = read_dataset(bids, settings)
    assert [row["scan"] for row in dataset.scans] == ["sub-01_task-rest", "sub-02_task-rest"]
    row = dataset.scans[0]
    assert list(row) == list(SCAN_COLUMNS)
    assert row["bold"] == str(bids / "sub-01/func/sub-01_task-rest_bold.nii.gz")
    assert (row["anat"], row["t1w"]) == ("sub-01", str(bids / "sub-01/anat/sub-01_T1w.nii.gz"))
    assert (row["repetition_time"], row["n_volumes"]) == (TR, 5)
    assert (json.loads(row["slice_timing"]), row["slice_timing_source"]) == (TIMES, "sidecar")
    assert dataset.anatomicals == {
        name: str(bids / name / "anat" / f"{name}_T1w.nii.gz") for name in ("sub-01", "sub-02")
    }
    assert dataset.set_aside == [] and dataset.notes == []


def test_deeper_sidecars_override_key_by_key(bids, settings):
    write_sidecar(bids / "bold.json", RepetitionTime=9.9, PhaseEncodingDirection="j-")
    write_sidecar(bids / "sub-01" / "sub-01_task-rest_bold.json", PhaseEncodingDirection="i")
    write_sidecar(bids / "sub-01" / "sub-01_task-other_bold.json", PhaseEncodingDirection="k")
    first, second = read_dataset(bids, settings).scans
    assert (first["phase_encoding_direction"], first["repetition_time"]) == ("i", TR)
    assert (second["phase_encoding_direction"], second["repetition_time"]) == ("j-", TR)


def test_sessions_runs_and_further_entities_on_one_odd_tree(tmp_path, settings):
    root = start(tmp_path / "bids", "participant_id\nsub-01\nsub-02\nsub-03\n", RepetitionTime=TR)
    stems = [
        "sub-01_ses-pre_task-rest_run-1",
        "sub-01_ses-pre_task-rest_run-2",
        "sub-02_ses-pre_task-rest_acq-fast_dir-AP",
        "sub-03_ses-pre_task-rest",
    ]
    for stem in [*stems, "sub-01_ses-post_task-rest", "sub-02_ses-pre_task-nback"]:
        add_scan(root, stem, extension=".nii" if "post" in stem else ".nii.gz")
    for stem in (
        "sub-01_ses-pre_run-1",
        "sub-01_ses-pre_run-2",
        "sub-01_ses-post",
        "sub-02_acq-mprage",
        "sub-03_ses-post",
    ):
        add_t1w(root, stem)
    settings["session"] = "pre"
    dataset = read_dataset(root, settings)
    assert [row["scan"] for row in dataset.scans] == sorted(stems)
    assert {row["scan"]: row["anat"] for row in dataset.scans} == {
        stems[0]: "sub-01_ses-pre_run-1",  # the first of its session
        stems[1]: "sub-01_ses-pre_run-1",
        stems[2]: "sub-02_acq-mprage",  # outside sessions
        stems[3]: "sub-03_ses-post",  # the only one there is
    }
    assert any("sub-01 has 2 T1w images" in note for note in dataset.notes)
    assert any("sub-03_ses-pre_task-rest has no T1w image of its session" in note for note in dataset.notes)
    assert [row["session"] for row in dataset.scans] == ["pre"] * 4
    assert [row["run"] for row in dataset.scans] == ["1", "2", "n/a", "n/a"]


def test_of_several_t1w_from_other_sessions_the_first_by_name_is_taken_and_both_facts_are_told(tmp_path, settings):
    root = start(tmp_path / "bids", "participant_id\nsub-01\n", RepetitionTime=TR)
    add_scan(root, "sub-01_ses-2_task-rest")
    for stem in ("sub-01_ses-3", "sub-01_ses-1_run-2", "sub-01_ses-1_run-1"):
        add_t1w(root, stem)
    dataset = read_dataset(root, settings)
    assert [row["anat"] for row in dataset.scans] == ["sub-01_ses-1_run-1"]
    assert list(dataset.anatomicals) == ["sub-01_ses-1_run-1"]
    told = "\n".join(dataset.notes)
    assert "sub-01 has 3 T1w images for sub-01_ses-2_task-rest; used: sub-01_ses-1_run-1_T1w.nii.gz" in told
    assert "has no T1w image of its session; used: sub-01_ses-1_run-1_T1w.nii.gz" in told


def test_a_sidecar_of_one_run_does_not_reach_another(tmp_path, settings):
    root = start(tmp_path / "bids", "participant_id\nsub-01\n")
    add_t1w(root, "sub-01")
    add_scan(root, "sub-01_task-rest_run-1", sidecar={"RepetitionTime": 2.0})
    add_scan(root, "sub-01_task-rest_run-10", sidecar={"RepetitionTime": 3.0})
    for path in root.rglob("*_bold.nii.gz"):
        write_nifti(path, (3, 3, N_SLICES, 5), repetition_time=0)
    assert [row["repetition_time"] for row in read_dataset(root, settings).scans] == [2.0, 3.0]


def test_a_mixed_tree_with_one_session_needs_no_choice(bids, settings):
    (bids / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    add_scan(bids, "sub-03_ses-1_task-rest")
    add_t1w(bids, "sub-03_ses-1")
    assert [row["session"] for row in read_dataset(bids, settings).scans] == ["n/a", "n/a", "1"]


def test_derivatives_hidden_files_and_other_folders_are_not_read(bids, settings):
    for folder in ("derivatives/fmriprep", "sourcedata", "code", ".git"):
        write_nifti(bids / folder / "sub-09" / "func" / "sub-09_task-rest_bold.nii.gz", (3, 3, 3, 5))
    for name in ("._sub-01_task-rest_bold.nii.gz", ".DS_Store", "sub-01_task-rest_sbref.nii.gz"):
        (bids / "sub-01" / "func" / name).write_bytes(b"odd")
    (bids / "sub-01" / "fmap").mkdir()
    (bids / "sub-01" / "fmap" / "M22_gre_field_mapping.nii.gz").write_bytes(b"odd")
    (bids / "sub-01" / ".DS_Store").write_bytes(b"odd")
    assert len(read_dataset(bids, settings).scans) == 2


def test_a_scan_set_aside_is_not_looked_into_and_its_names_are_kept(bids, settings):
    (bids / "sub-02" / "func" / "sub-02_task-rest_bold.nii.gz").write_bytes(b"")
    (bids / "sub-02" / "anat" / "sub-02_T1w.nii.gz").unlink()
    settings["set_aside"] = ["sub-02_task-rest"]
    dataset = read_dataset(bids, settings)
    assert [row["scan"] for row in dataset.scans] == ["sub-01_task-rest"]
    assert dataset.set_aside == [{"scan": "sub-02_task-rest", "participant_id": "sub-02"}]
    assert set(dataset.anatomicals) == {"sub-01"}


def test_participants_without_scans_are_counted_not_refused(bids, settings):
    (bids / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    assert "1 of 3 participants in participants.tsv have no scan: sub-03" in read_dataset(bids, settings).notes


def test_a_table_written_by_a_spreadsheet_is_read(bids, settings):
    text = "participant_id\t sex \tpain_pre\t\r\nsub-01 \tf\t 8\t\r\nsub-02\tm\t\t\r\n\r\n"
    (bids / "participants.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_dataset(bids, settings).participants == [
        {"participant_id": "sub-01", "sex": "f", "pain_pre": "8"},
        {"participant_id": "sub-02", "sex": "m", "pain_pre": "n/a"},
    ]


def rows_as_written(path: Path) -> list[dict[str, str]]:
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_the_tables_hold_what_was_read_and_keep_to_their_schemas(bids, settings, tmp_path, capsys):
    (bids / "participants.tsv").write_text(
        "participant_id\tcode\ttype\tincluded\nsub-01\t007\tpatient\tmaybe\nsub-02\tn/a\tcontrol\t\n"
    )
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=TR, SliceTiming=TIMES, PhaseEncodingDirection="j-")
    settings |= {"include": {"type": "patient"}, "set_aside": ["sub-02_task-rest"]}
    scans, participants = tmp_path / "out" / "scans.tsv", tmp_path / "out" / "participants.tsv"
    write_tables(bids, settings, scans, participants)
    rows = rows_as_written(scans)
    assert [(row["scan"], row["set_aside"]) for row in rows] == [
        ("sub-01_task-rest", "False"),
        ("sub-02_task-rest", "True"),
    ]
    assert json.loads(read_table(scans)["slice_timing"][0]) == TIMES
    assert rows[1]["bold"] == "n/a"
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "scans.schema.yaml").read_text())
    assert list(schema["properties"]) == list(SCAN_COLUMNS)
    for row in read_dataset(bids, settings).scans:
        jsonschema.validate(row, schema)
    rows = rows_as_written(participants)
    assert rows == [
        {"participant_id": "sub-01", "included": "True", "code": "007", "type": "patient"},
        {"participant_id": "sub-02", "included": "False", "code": "n/a", "type": "control"},
    ]
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "participants.schema.yaml").read_text())
    for row in rows:
        jsonschema.validate(row | {"included": row["included"] == "True"}, schema)


def test_labels_are_written_from_the_table_of_participants(bids, settings, tmp_path):
    (bids / "participants.tsv").write_text(
        "participant_id\ttype\tpain_pre\tpain_post\nsub-01\tpatient\t8\t4\nsub-02\tcontrol\t0\t0\n"
    )
    settings["include"] = {"type": "patient"}
    paths = [tmp_path / name for name in ("scans.tsv", "participants.tsv", "labels.tsv")]
    write_tables(bids, settings, *paths[:2])
    write_labels(paths[1], {"outcome": settings["outcome"]}, paths[2])
    assert paths[2].read_text() == "participant_id\tresponse\tpain_change\nsub-01\t1\t50\n"


def test_labels_with_a_problem_are_not_written(bids, settings, tmp_path):
    (bids / "participants.tsv").write_text("participant_id\tpain_pre\tpain_post\nsub-01\t8\t4\nsub-02\t0\t0\n")
    paths = [tmp_path / name for name in ("scans.tsv", "participants.tsv", "labels.tsv")]
    write_tables(bids, settings, *paths[:2])
    with pytest.raises(InputError, match="sub-02: pain_pre is 0"):
        write_labels(paths[1], settings, paths[2])
    assert not paths[2].exists()


def test_the_digest_follows_the_rows(bids, settings):
    before = digest_of_rows(read_dataset(bids, settings).scans)
    assert digest_of_rows(read_dataset(bids, settings).scans) == before
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=TR, SliceTiming=TIMES[::-1])
    assert digest_of_rows(read_dataset(bids, settings).scans) != before


def test_a_real_scan_is_accepted_and_has_no_labels(settings):
    bids = REAL / "pumi-minitest"
    if not bids.is_dir():
        pytest.skip(f"the real dataset pumi-minitest is not at {bids}")
    dataset = read_dataset(bids, settings)
    [row] = dataset.scans
    assert (row["scan"], row["anat"], row["repetition_time"], row["n_volumes"]) == (
        "sub-001_task-rest",
        "sub-001",
        2.52,
        20,
    )
    assert (row["slice_timing_source"], row["phase_encoding_direction"], len(json.loads(row["slice_timing"]))) == (
        "sidecar",
        "j-",
        26,
    )
    assert dataset.participants == [{"participant_id": "sub-001", "sex": "f", "age": "26"}]
    _, problems = labels(dataset.participants, settings)
    assert "no column pain_pre" in problems[0]


def test_the_metadata_of_a_published_trial_are_accepted(settings, tmp_path):
    source = REAL / "ds000208"
    if not source.is_dir():
        pytest.skip(f"the metadata of ds000208 are not at {source}")
    bids = tmp_path / "ds000208"
    bold = write_nifti(tmp_path / "bold.nii.gz", (3, 3, N_SLICES, 5), 2.5).read_bytes()
    t1w = write_nifti(tmp_path / "t1w.nii.gz", (3, 3, 3)).read_bytes()
    for name in (source / "files.txt").read_text().split():
        path = bids / name
        path.parent.mkdir(parents=True, exist_ok=True)
        given = source / name
        path.write_bytes(
            given.read_bytes() if given.is_file() else bold if "bold" in name else t1w if "T1w" in name else b""
        )
    dataset = read_dataset(bids, settings)
    assert (len(dataset.scans), len(dataset.anatomicals), len(dataset.participants)) == (76, 76, 76)
    assert {row["repetition_time"] for row in dataset.scans} == {2.5}
    assert {row["slice_timing_source"] for row in dataset.scans} == {"none"}
    assert any("no SliceTiming in the sidecars of 76 of 76 scans" in note for note in dataset.notes)
    settings["outcome"]["label_column"] = "Response"
    rows, problems = labels(dataset.participants, settings)
    assert problems == []
    assert (len(rows), sum(row["response"] for row in rows)) == (56, 26)
    settings["include"] = {"Drug": "duloxetine"}
    assert len(labels(dataset.participants, settings)[0]) == 19
    settings["slice_timing"] = TIMES
    assert {row["slice_timing_source"] for row in read_dataset(bids, settings).scans} == {"config"}
