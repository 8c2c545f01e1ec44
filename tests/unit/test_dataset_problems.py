"""Whatever is wrong in a dataset is told at once, in words, before a voxel is read."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from bids_tree import (
    N_SLICES,
    TIMES,
    TR,
    add_scan,
    add_t1w,
    default_settings,
    problem_lines,
    start,
    the_problem,
    two_participants,
    write_nifti,
    write_sidecar,
)

from restresponse.dataset import read_dataset


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return two_participants(tmp_path / "bids")


@pytest.fixture
def settings() -> dict:
    return default_settings()


def test_every_problem_is_told_at_once(bids, settings):
    (bids / "dataset_description.json").unlink()
    (bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    write_nifti(bids / "sub-02" / "func" / "sub-02_task-rest_bold.nii.gz", (3, 3, N_SLICES))
    write_sidecar(bids / "task-rest_bold.json", SliceTiming=TIMES)
    lines = problem_lines(bids, settings)
    assert len(lines) == 4
    for said in ("dataset_description.json", "no T1w image", "a single volume", "no RepetitionTime"):
        assert sum(said in line for line in lines) == 1


def test_the_same_problem_of_many_scans_is_one_line(tmp_path, settings):
    names = [f"sub-{number:02d}" for number in range(1, 13)]
    root = start(tmp_path / "bids", "participant_id\n" + "\n".join(names) + "\n", TaskName="rest")
    for name in names:
        add_scan(root, f"{name}_task-rest")
        add_t1w(root, name)
    assert "sub-08_task-rest and 4 more: no RepetitionTime" in the_problem(root, settings)


def test_no_folder(tmp_path, settings):
    assert f"no folder {tmp_path / 'nowhere'}" in the_problem(tmp_path / "nowhere", settings)


def test_a_folder_above_the_dataset_names_the_dataset(bids, settings):
    lines = problem_lines(bids.parent, settings)
    assert any("there is one in bids: set dataset.bids_dir to that folder" in line for line in lines)


def test_a_derivative_dataset(bids, settings):
    (bids / "dataset_description.json").write_text('{"Name": "x", "DatasetType": "derivative"}')
    assert "DatasetType is derivative; expected the raw dataset" in the_problem(bids, settings)


def test_no_participants_table(bids, settings):
    (bids / "participants.tsv").unlink()
    assert the_problem(bids, settings) == f"{bids / 'participants.tsv'}: no such file; restore it"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "the file is empty"),
        (b"participant_id\n", "no participant in it"),
        (b"participant_id,age\nsub-01,3\n", "separated by commas; expected tabs"),
        (b"participant_id;age\nsub-01;3\n", "separated by semicolons"),
        (
            b"Participant_ID\tage\nsub-01\t3\n",
            "no column participant_id; found Participant_ID, age; rename Participant_ID",
        ),
        (b"participant_id\tage\nsub-01\nsub-02\t3\n", "line 2: 1 cells where the header has 2"),
        (b"participant_id\tage\tage\nsub-01\t1\t2\nsub-02\t1\t2\n", "the same name ('age')"),
        (b"participant_id\nsub-01\nsub-02\nsub-01\n", "sub-01 on more than one line"),
        (
            b"participant_id\nsub-01\nsub-02\n03\nsub-0/4\n",
            "participant_id 03, sub-0/4; expected sub- and letters or digits",
        ),
        (b"participant_id\tname\nsub-01\tJos\xe9\n", "not UTF-8 text"),
        ("participant_id\nsub-01\n".encode("utf-16"), "not UTF-8 text"),
    ],
)
def test_tables_of_participants_that_cannot_be_used(bids, settings, table, said):
    (bids / "participants.tsv").write_bytes(table)
    lines = problem_lines(bids, settings)
    assert any(str(bids / "participants.tsv") in line and said in line for line in lines), lines


def test_a_scanned_person_missing_from_the_table(bids, settings):
    (bids / "participants.tsv").write_text("participant_id\nsub-1\nsub-02\n")
    line = the_problem(bids, settings)
    assert line.startswith("sub-01: has a scan but no line in") and "sub-1 there" in line and "set_aside" in line


def test_an_unknown_task_names_those_found(bids, settings):
    settings["task"] = "Rest"
    assert "no BOLD scan of task Rest" in the_problem(bids, settings)
    assert "tasks found: rest; set dataset.task; did you mean rest?" in the_problem(bids, settings)


def test_several_sessions_must_be_chosen_from(tmp_path, settings):
    root = start(tmp_path / "bids", "participant_id\nsub-01\n", RepetitionTime=TR)
    for session in ("ses-1", "ses-2"):
        add_scan(root, f"sub-01_{session}_task-rest")
        add_t1w(root, f"sub-01_{session}")
    assert "sessions 1, 2; only scans from before treatment may be used: set dataset.session" in the_problem(
        root, settings
    )
    settings["session"] = "3"
    assert "session 3; sessions found: 1, 2" in the_problem(root, settings)
    settings["session"] = "1"
    assert [row["scan"] for row in read_dataset(root, settings).scans] == ["sub-01_ses-1_task-rest"]


def test_a_participant_with_and_without_a_session_must_be_chosen_from(bids, settings):
    add_scan(bids, "sub-01_ses-1_task-rest")
    assert "sessions 1 and scans without a session of sub-01" in the_problem(bids, settings)


def test_no_sidecar_at_all(bids, settings):
    (bids / "task-rest_bold.json").unlink()
    assert (
        "no sidecar: neither sub-01_task-rest_bold.json beside it nor one above it (task-rest_bold.json)"
        in problem_lines(bids, settings)[0]
    )


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_sidecar_that_is_no_json_object(bids, settings, text):
    (bids / "sub-01" / "func" / "sub-01_task-rest_bold.json").write_text(text)
    line = the_problem(bids, settings)
    assert line.startswith("sub-01_task-rest: ") and "sub-01_task-rest_bold.json" in line


def test_images_that_cannot_be_read(bids, settings):
    bold = bids / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz"
    whole = bold.read_bytes()
    plain = gzip.decompress(whole)
    no_numbers = bytearray(plain)
    struct.pack_into("<h", no_numbers, 70, 32)  # complex64
    no_shape = bytearray(plain)
    struct.pack_into("<h", no_shape, 42, -3)
    contents = {
        b"": "the file is empty (0 bytes)",
        b"not an image at all": "not compressed as its name says",
        whole[:40]: "cut short",
        gzip.compress(plain[:100]): "only 100 bytes where a NIfTI header has 348",
        gzip.compress(b"x" * 400): "its header has no NIfTI mark",
        gzip.compress(bytes(no_numbers)): "not real numbers",
        gzip.compress(bytes(no_shape)): "the file is damaged",
        b"/annex/objects/MD5E-s4--0.nii.gz\n": "datalad get",
    }
    for content, said in contents.items():
        bold.write_bytes(content)
        line = the_problem(bids, settings)
        assert line.startswith(str(bold)) and said in line and "dataset.set_aside" in line


def test_an_uncompressed_image_cut_short_shows_by_its_size(bids, settings):
    (bids / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz").unlink()
    path = add_scan(bids, "sub-01_task-rest", extension=".nii")
    whole = path.read_bytes()
    assert len(read_dataset(bids, settings).scans) == 2
    path.write_bytes(whole[:-1])
    assert f"{len(whole) - 1} bytes where the header promises {len(whole)}" in the_problem(bids, settings)


def test_a_link_without_content_asks_for_datalad_get(bids, settings):
    bold = bids / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz"
    bold.unlink()
    bold.symlink_to("../../.git/annex/objects/gone")
    assert "fetch the content with datalad get" in the_problem(bids, settings)


@pytest.mark.parametrize("shape", [(3, 3, N_SLICES), (3, 3, N_SLICES, 1)])
def test_a_single_volume_is_no_bold_series(bids, settings, shape):
    write_nifti(bids / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz", shape)
    assert "a single volume" in the_problem(bids, settings)


def test_a_t1w_that_is_no_volume(bids, settings):
    write_nifti(bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz", (3, 3, 3, 2))
    assert "expected a 3D T1w image" in the_problem(bids, settings)


def test_one_run_in_two_files(bids, settings):
    add_scan(bids, "sub-01_task-rest", extension=".nii")
    assert "the same image as" in the_problem(bids, settings)


@pytest.mark.parametrize("stem", ["sub-01_task-rest_echo-1", "sub-01_task-rest_space-MNI"])
def test_scans_that_are_no_runs_of_their_own(bids, settings, stem):
    add_scan(bids, stem)
    line = the_problem(bids, settings)
    assert line.startswith(str(bids / "sub-01" / "func" / stem)) and ("multi-echo" in line or "derivative" in line)


def test_the_phase_of_a_complex_scan_is_left_out(bids, settings):
    add_scan(bids, "sub-01_task-rest_part-phase")
    assert len(read_dataset(bids, settings).scans) == 2


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_task-rest_run-1;rm_bold.nii.gz",
        "sub-01_task-re st_bold.nii.gz",
        "sub-01_task-$(id)_bold.nii.gz",
        "rest_bold.nii.gz",
    ],
)
def test_names_that_are_no_bids_names_never_become_paths(bids, settings, name):
    write_nifti(bids / "sub-01" / "func" / name, (3, 3, N_SLICES, 5))
    assert "a name that BIDS does not allow" in the_problem(bids, settings)


def test_folders_and_names_that_do_not_agree(bids, settings):
    write_nifti(bids / "sub-01" / "func" / "sub-02_task-rest_run-2_bold.nii.gz", (3, 3, N_SLICES, 5))
    (bids / "sub-03 copy").mkdir()
    lines = problem_lines(bids, settings)
    assert any("the name is not of the folder it lies in" in line for line in lines)
    assert any("sub-03 copy: a folder name that BIDS does not allow" in line for line in lines)


def test_a_scan_to_set_aside_that_is_not_there(bids, settings):
    settings["set_aside"] = ["sub-1_task-rest"]
    assert "no scan sub-1_task-rest in the dataset" in the_problem(bids, settings)
    assert "did you mean sub-01_task-rest?" in the_problem(bids, settings)


def test_every_scan_set_aside(bids, settings):
    settings["set_aside"] = ["sub-01_task-rest", "sub-02_task-rest"]
    assert "all 2 scans are set aside" in the_problem(bids, settings)


def test_a_filter_on_a_column_or_value_that_is_not_there(bids, settings):
    settings["include"] = {"pain_per": 8}
    assert "no column pain_per in" in the_problem(bids, settings) and "did you mean pain_pre?" in the_problem(
        bids, settings
    )
    settings["include"] = {"pain_post": [4, 9]}
    assert "no participant has pain_post: 9" in the_problem(bids, settings)
