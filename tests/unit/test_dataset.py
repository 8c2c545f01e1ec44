"""A BIDS folder becomes rows; whatever is wrong in it is told at once, in words, before a voxel is read."""

from __future__ import annotations

import copy
import gzip
import json
import struct
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import yaml

from restresponse.config import validate
from restresponse.dataset import digest_of_rows, labels, read_dataset, write_labels, write_tables
from restresponse.dataset.header import read_header
from restresponse.dataset.tables import SCAN_COLUMNS
from restresponse.errors import InputError
from restresponse.files import read_table

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"
TR = 2.6
N_SLICES = 4
TIMES = [0.0, 0.65, 1.3, 1.95]


def write_nifti(path: Path, shape: tuple[int, ...], repetition_time: float = TR, unit: str = "sec") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4))
    if len(shape) == 4:
        image.header["pixdim"][4] = repetition_time
        image.header.set_xyzt_units("mm", unit)
    image.to_filename(path)
    return path


def write_sidecar(path: Path, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def add_scan(
    bids: Path,
    stem: str,
    *,
    sidecar: dict | None = None,
    shape: tuple[int, ...] = (3, 3, N_SLICES, 5),
    extension: str = ".nii.gz",
) -> Path:
    folder = bids.joinpath(*[part for part in stem.split("_") if part.startswith(("sub-", "ses-"))])
    if sidecar is not None:
        write_sidecar(folder / "func" / f"{stem}_bold.json", **sidecar)
    return write_nifti(folder / "func" / f"{stem}_bold{extension}", shape)


def add_t1w(bids: Path, stem: str) -> Path:
    folder = bids.joinpath(*[part for part in stem.split("_") if part.startswith(("sub-", "ses-"))])
    return write_nifti(folder / "anat" / f"{stem}_T1w.nii.gz", (3, 3, 3))


def start(bids: Path, table: str = "", **root_sidecar: object) -> Path:
    bids.mkdir(parents=True, exist_ok=True)
    (bids / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.8.0"}')
    if root_sidecar:
        write_sidecar(bids / "task-rest_bold.json", **root_sidecar)
    (bids / "participants.tsv").write_text(table or "participant_id\tpain_pre\tpain_post\nsub-01\t8\t4\nsub-02\t8\t7\n")
    return bids


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two participants, one scan each, timing in the sidecar at the root."""
    root = start(tmp_path / "bids", RepetitionTime=TR, SliceTiming=TIMES)
    for participant in ("sub-01", "sub-02"):
        add_scan(root, f"{participant}_task-rest")
        add_t1w(root, participant)
    return root


@pytest.fixture
def settings() -> dict:
    return copy.deepcopy(validate({}, ".")["dataset"])


def problem_lines(bids: Path, settings: dict) -> list[str]:
    with pytest.raises(InputError) as raised:
        read_dataset(bids, settings)
    headline, *lines = str(raised.value).splitlines()
    return [line.removeprefix("  - ") for line in lines] or [headline]


def the_problem(bids: Path, settings: dict) -> str:
    [line] = problem_lines(bids, settings)
    return line


# --- what is read -------------------------------------------------------------------------------------------------------


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


# --- timing -------------------------------------------------------------------------------------------------------------


def test_missing_slice_times_are_reported_and_no_problem(bids, settings):
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=TR)
    dataset = read_dataset(bids, settings)
    assert [(row["slice_timing"], row["slice_timing_source"]) for row in dataset.scans] == [("n/a", "none")] * 2
    assert any("no SliceTiming in the sidecars of 2 of 2 scans" in note for note in dataset.notes)


def test_slice_times_of_the_config_serve_where_the_sidecar_has_none(bids, settings):
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=TR)
    write_sidecar(bids / "sub-01" / "func" / "sub-01_task-rest_bold.json", SliceTiming=TIMES[::-1])
    settings["slice_timing"] = TIMES
    rows = read_dataset(bids, settings).scans
    assert [row["slice_timing_source"] for row in rows] == ["sidecar", "config"]
    assert [json.loads(row["slice_timing"]) for row in rows] == [TIMES[::-1], TIMES]
    settings["slice_timing"] = [0.0, 1.0]
    assert the_problem(bids, settings).startswith(
        "sub-02_task-rest: dataset.slice_timing has 2 times and the image 4 slices"
    )


def test_slice_times_given_from_the_top_are_turned_round(bids, settings):
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=TR, SliceTiming=TIMES, SliceEncodingDirection="k-")
    assert json.loads(read_dataset(bids, settings).scans[0]["slice_timing"]) == TIMES[::-1]


def test_slices_along_another_axis_are_counted_there_and_not_corrected(bids, settings):
    write_sidecar(
        bids / "task-rest_bold.json", RepetitionTime=TR, SliceTiming=[0, 0.8, 1.6], SliceEncodingDirection="j"
    )
    dataset = read_dataset(bids, settings)
    assert dataset.scans[0]["slice_timing_source"] == "none"
    assert any("axis j" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"RepetitionTime": TR, "SliceTiming": [0, 1]}, "SliceTiming has 2 times and the image 4 slices"),
        (
            {"RepetitionTime": TR, "SliceTiming": [0, 1, 2, 2.7]},
            "SliceTiming goes from 0 to 2.7; expected times in s from 0 to the RepetitionTime, 2.6 s",
        ),
        ({"RepetitionTime": TR, "SliceTiming": [0, 650, 1300, 1950]}, "(milliseconds?)"),
        ({"RepetitionTime": TR, "SliceTiming": [-0.1, 0, 1, 2]}, "SliceTiming goes from -0.1"),
        ({"RepetitionTime": TR, "SliceTiming": "ascending"}, "SliceTiming is no list of numbers"),
        ({"RepetitionTime": TR, "SliceTiming": [0, 1, 2, None]}, "SliceTiming is no list of numbers"),
        ({"SliceTiming": TIMES}, "no RepetitionTime in its sidecars"),
        ({"RepetitionTime": 2600}, "RepetitionTime is 2600, which looks like milliseconds"),
        ({"RepetitionTime": 0.0026}, "RepetitionTime is 0.0026, which looks like another unit"),
        ({"RepetitionTime": "2.6"}, "RepetitionTime is '2.6'; expected a number of seconds"),
        ({"RepetitionTime": 0}, "expected a number of seconds above 0"),
        ({"RepetitionTime": 2.0}, "RepetitionTime is 2 s in the sidecar and 2.6 s in the image's header"),
    ],
)
def test_timing_that_cannot_be_is_a_problem_of_each_scan(bids, settings, content, said):
    write_sidecar(bids / "task-rest_bold.json", **content)
    line = the_problem(bids, settings)
    assert line.startswith("sub-01_task-rest, sub-02_task-rest: ") and said in line and "dataset.set_aside" in line


def test_a_header_a_little_off_is_a_note_and_the_sidecar_counts(bids, settings):
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=2.5)
    dataset = read_dataset(bids, settings)
    assert dataset.scans[0]["repetition_time"] == 2.5
    assert any("2.5 s in the sidecar and 2.6 s in the header" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [(2600, "msec", 2.6), (2.6e6, "usec", 2.6), (0, "sec", None), (1, "unknown", None), (2.6, "unknown", 2.6)],
)
def test_header_times_are_read_in_their_unit(tmp_path, value, unit, told):
    path = write_nifti(tmp_path / "a.nii", (2, 2, 2, 3), value, unit)
    assert read_header(path).repetition_time == (pytest.approx(told) if told else None)


def test_headers_are_read_as_nibabel_reads_them(tmp_path):
    data = np.zeros((3, 4, 5, 6), np.float32)
    for name, image in {
        "one.nii.gz": nib.Nifti1Image(data, np.eye(4)),
        "two.nii": nib.Nifti2Image(data, np.eye(4)),
    }.items():
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 0.8
        image.to_filename(tmp_path / name)
        assert read_header(tmp_path / name).shape == (3, 4, 5, 6)
        assert read_header(tmp_path / name).repetition_time == pytest.approx(0.8)
    swapped = nib.Nifti1Image(data, np.eye(4)).header.as_byteswapped(">")
    (tmp_path / "big.nii").write_bytes(swapped.binaryblock + b"\0" * (4 + data.nbytes))
    (tmp_path / "big.nii").write_bytes((tmp_path / "big.nii").read_bytes().replace(b"ni1\0", b"n+1\0"))
    assert read_header(tmp_path / "big.nii").shape == (3, 4, 5, 6)


# --- what is refused ----------------------------------------------------------------------------------------------------


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


# --- the outcome --------------------------------------------------------------------------------------------------------


def people(**columns: list[str]) -> list[dict[str, str]]:
    n = len(next(iter(columns.values())))
    return [
        {"participant_id": f"sub-{index + 1:02d}"} | {name: values[index] for name, values in columns.items()}
        for index in range(n)
    ]


def test_a_fall_of_the_threshold_itself_makes_a_responder(settings):
    before = ["10", "6", "6", "10", "5", "4"]
    after = ["7", "4.2", "4.3", "7.01", "6", "0"]  # 6 to 4.2 is 30 %, though floating point says 29.999999999999996
    rows, problems = labels(people(pain_pre=before, pain_post=after), settings)
    assert problems == []
    assert [row["response"] for row in rows] == [1, 1, 0, 0, 0, 1]
    assert [row["pain_change"] for row in rows] == pytest.approx([30, 30, 28.3333333, 29.9, -20, 100])


def test_the_threshold_is_the_configs(settings):
    settings["outcome"]["threshold"] = 50
    rows, _ = labels(people(pain_pre=["8", "8"], pain_post=["4", "4.1"]), settings)
    assert [row["response"] for row in rows] == [1, 0]


def test_no_outcome_and_outside_the_filter_mean_no_label(settings):
    table = people(
        pain_pre=["8", "n/a", "8", "8"],
        pain_post=["1", "1", "", "1"],
        type=["patient", "patient", "patient", "control"],
    )
    settings["include"] = {"type": "patient"}
    rows, problems = labels(table, settings)
    assert problems == [] and [row["participant_id"] for row in rows] == ["sub-01"]


def test_problems_of_the_outcome_are_listed_together(settings):
    table = people(pain_pre=["0", "11", "-1", "bad", "7,5", "8", "nan"], pain_post=["0", "1", "1", "1", "1", "55", "1"])
    rows, problems = labels(table, settings)
    assert rows == []
    assert [problem.split(":")[0] for problem in problems] == [
        "sub-01",
        "sub-02",
        "sub-03",
        "sub-04",
        "sub-05",
        "sub-06",
    ]
    for problem, said in zip(
        problems,
        ["is 0, so that pain cannot fall", "is 11", "is -1", "'bad'", "decimal point", "0-100 scale"],
        strict=True,
    ):
        assert said in problem


def test_problems_outside_the_filter_are_none(settings):
    settings["include"] = {"arm": ["a", "b"]}
    rows, problems = labels(people(pain_pre=["0", "8", "8"], pain_post=["0", "1", "8"], arm=["c", "a", "b"]), settings)
    assert problems == [] and [row["response"] for row in rows] == [1, 0]


def test_a_label_column_is_compared_as_text(settings):
    settings["outcome"] |= {
        "label_column": "outcome",
        "responder_values": [1, "good", True],
        "nonresponder_values": [0, "bad", False],
    }
    cells = ["1", "1.0", "good", "yes", "0", "bad", "No", "n/a", ""]
    rows, problems = labels(people(outcome=cells), settings)
    assert problems == []
    assert [row["response"] for row in rows] == [1, 1, 1, 1, 0, 0, 0]
    assert all(row["pain_change"] is None for row in rows)


def test_a_label_that_means_nothing_is_a_problem(settings):
    settings["outcome"]["label_column"] = "outcome"
    _, problems = labels(people(outcome=["1", "maybe", "Good"]), settings)
    assert (
        len(problems) == 2
        and "sub-02: outcome is 'maybe', in neither responder_values nor nonresponder_values" in problems[0]
    )


def test_pain_beside_a_label_column_is_kept_and_cannot_be_a_problem(settings):
    settings["outcome"]["label_column"] = "outcome"
    rows, problems = labels(people(outcome=["0", "1"], pain_pre=["8", "0"], pain_post=["4", "x"]), settings)
    assert problems == [] and [(row["response"], row["pain_change"]) for row in rows] == [(0, 50.0), (1, None)]


def test_columns_of_the_outcome_that_are_not_there(settings):
    _, problems = labels(people(pain_pre=["1"], pain_pst=["1"]), settings)
    assert len(problems) == 1 and "no column pain_post" in problems[0] and "did you mean pain_pst?" in problems[0]
    settings["outcome"]["label_column"] = "response"
    _, problems = labels(people(Response=["1"]), settings)
    assert "dataset.outcome.label_column: no column response" in problems[0] and "did you mean Response?" in problems[0]


def test_nobody_with_an_outcome_is_a_problem(settings):
    _, problems = labels(people(pain_pre=["n/a"], pain_post=["n/a"]), settings)
    assert len(problems) == 1 and "none of the 1 participants" in problems[0]


# --- the tables ---------------------------------------------------------------------------------------------------------


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


# --- data that no one here made -----------------------------------------------------------------------------------------


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
