"""A folder of images preprocessed elsewhere: what is taken from it, and what is wrong with it in words."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from bids_tree import default_settings, write_nifti, write_sidecar

from restresponse.dataset import read_dataset, write_tables
from restresponse.dataset.tables import SCAN_COLUMNS
from restresponse.errors import InputError
from restresponse.files import read_table

ROOT = Path(__file__).resolve().parents[2]
SPACE = "MNI152NLin2009cAsym"
N_VOLUMES = 5


def add_derivative(
    root: Path, scan: str, *, space: str = f"_space-{SPACE}_res-2", desc: str = "_desc-preproc", mask: bool = True,
    confounds: int | None = N_VOLUMES, sidecar: dict | None = None, shape: tuple[int, ...] = (3, 3, 3, N_VOLUMES), **header,
) -> Path:  # fmt: skip
    """One scan in fMRIPrep's layout and names; `confounds` is the number of rows, None for no table."""
    folder = root.joinpath(*[part for part in scan.split("_") if part.startswith(("sub-", "ses-"))]) / "func"
    if mask:
        write_nifti(folder / f"{scan}{space}_desc-brain_mask.nii.gz", shape[:3])
    if confounds is not None:
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["trans_x\tframewise_displacement", *["0.1\tn/a"] * confounds]
        (folder / f"{scan}_desc-confounds_timeseries.tsv").write_text("\n".join(rows) + "\n")
    if sidecar is not None:
        write_sidecar(folder / f"{scan}{space}{desc}_bold.json", **sidecar)
    return write_nifti(folder / f"{scan}{space}{desc}_bold.nii.gz", shape, **header)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two participants as fMRIPrep leaves them, with participants.tsv beside."""
    folder = tmp_path / "fmriprep"
    generated = [{"Name": "fMRIPrep", "Version": "23.1.3"}]
    write_sidecar(
        folder / "dataset_description.json",
        Name="fMRIPrep",
        BIDSVersion="1.4.0",
        DatasetType="derivative",
        GeneratedBy=generated,
    )
    for participant in ("sub-01", "sub-02"):
        add_derivative(folder, f"{participant}_task-rest_run-1", sidecar={"RepetitionTime": 2.6, "TaskName": "rest"})
        write_nifti(folder / participant / "anat" / f"{participant}_desc-preproc_T1w.nii.gz", (3, 3, 3))
    (folder / "participants.tsv").write_text("participant_id\tpain_pre\tpain_post\nsub-01\t8\t4\nsub-02\t8\t7\n")
    return folder


@pytest.fixture
def settings(root: Path) -> dict:
    return default_settings() | {"bids_dir": None, "derivatives": str(root)}


def problems_of(settings: dict) -> list[str]:
    with pytest.raises(InputError) as raised:
        read_dataset(settings["bids_dir"], settings)
    headline, *lines = str(raised.value).splitlines()
    return [line.removeprefix("  - ") for line in lines] or [headline]


def problem_of(settings: dict) -> str:
    [line] = problems_of(settings)
    return line


def test_a_scan_has_its_image_mask_and_confounds_and_no_t1w(root, settings):
    dataset = read_dataset(None, settings)
    assert [row["scan"] for row in dataset.scans] == ["sub-01_task-rest_run-1", "sub-02_task-rest_run-1"]
    row, func = dataset.scans[0], root / "sub-01" / "func"
    assert list(row) == list(SCAN_COLUMNS)
    assert row["bold"] == str(func / f"sub-01_task-rest_run-1_space-{SPACE}_res-2_desc-preproc_bold.nii.gz")
    assert row["mask"] == str(func / f"sub-01_task-rest_run-1_space-{SPACE}_res-2_desc-brain_mask.nii.gz")
    assert row["confounds"] == str(func / "sub-01_task-rest_run-1_desc-confounds_timeseries.tsv")
    assert (row["space"], row["run"], row["repetition_time"], row["n_volumes"]) == (SPACE, "1", 2.6, 5)
    assert row["anat"] == row["t1w"] == row["slice_timing"] == "n/a"
    assert dataset.anatomicals == {}
    assert dataset.origin == "fMRIPrep 23.1.3"
    assert dataset.notes == []


def test_the_table_of_scans_fits_its_schema(root, settings, tmp_path):
    add_derivative(root, "sub-02_task-rest_run-2", mask=False, confounds=None)
    settings["set_aside"] = ["sub-01_task-rest_run-1"]
    write_tables(None, settings, tmp_path / "scans.tsv", tmp_path / "participants.tsv")
    schema = yaml.safe_load((ROOT / "workflow/schemas/scans.schema.yaml").read_text())
    text = tuple(name for name, part in schema["properties"].items() if part.get("type") == "string")
    table = read_table(tmp_path / "scans.tsv", text_columns=text).astype(object)
    rows = table.where(table.notna(), "n/a").to_dict("records")
    for row in rows:
        jsonschema.validate(
            row | {"n_volumes": row["n_volumes"] if row["set_aside"] else int(row["n_volumes"])}, schema
        )
    assert [row["set_aside"] for row in rows] == [False, False, True]
    assert read_table(tmp_path / "participants.tsv")["participant_id"].tolist() == ["sub-01", "sub-02"]


def test_nifti_files_with_a_table_of_participants_are_enough(root, settings, tmp_path):
    """No description, sidecar, mask or confounds: the time between volumes is the header's, and what is missing is noted."""
    folder = tmp_path / "plain"
    for participant in ("sub-01", "sub-02"):
        add_derivative(
            folder, f"{participant}_task-rest", space="_space-MNI152", mask=False, confounds=None, repetition_time=1.5
        )
    (folder / "participants.tsv").write_text((root / "participants.tsv").read_text())
    dataset = read_dataset(None, settings | {"derivatives": str(folder)})
    assert [(row["repetition_time"], row["mask"], row["confounds"]) for row in dataset.scans] == [
        (1.5, "n/a", "n/a")
    ] * 2
    assert dataset.origin is None
    notes = "\n".join(dataset.notes)
    assert "which program made the images is not known" in notes
    assert "2 of 2 scans came without a brain mask; it is made from the image" in notes
    assert "2 of 2 scans came without confounds; head motion is not known there" in notes


def test_participants_are_those_of_the_raw_dataset_where_there_is_one(root, settings, tmp_path):
    raw = tmp_path / "bids"
    raw.mkdir()
    (raw / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\t40\nsub-03\t50\n")
    dataset = read_dataset(raw, settings)
    assert dataset.participants_file == str(raw / "participants.tsv")
    assert "1 of 3 participants in participants.tsv have no scan: sub-03" in "\n".join(dataset.notes)
    (raw / "participants.tsv").unlink()
    dataset = read_dataset(raw, settings)
    assert dataset.participants_file == str(root / "participants.tsv")
    assert f"no {raw / 'participants.tsv'}" in dataset.notes[0]
    (root / "participants.tsv").unlink()
    assert problem_of(settings | {"bids_dir": str(raw)}) == f"{raw / 'participants.tsv'}: no such file; restore it"


def test_time_between_volumes_is_inherited(root, settings):
    for path in root.rglob("*_bold.json"):
        path.unlink()
    for path in root.rglob("*_bold.nii.gz"):
        write_nifti(path, (3, 3, 3, N_VOLUMES), repetition_time=0)
    assert "no RepetitionTime in its sidecars" in problem_of(settings)
    write_sidecar(root / "task-rest_bold.json", RepetitionTime=1.25)
    assert {row["repetition_time"] for row in read_dataset(None, settings).scans} == {1.25}


def test_several_spaces_must_be_chosen_from(root, settings):
    for participant in ("sub-01", "sub-02"):
        scan = f"{participant}_task-rest_run-1"
        for space in (f"_space-{SPACE}", "_space-MNI152NLin6Asym_res-2", "_space-T1w", ""):
            add_derivative(root, scan, space=space)
    line = problem_of(settings)
    assert line.startswith("dataset.space: BOLD images in several spaces: ")
    assert f"MNI152NLin2009cAsym, {SPACE}:res-2, MNI152NLin6Asym:res-2;" in line
    for wanted, space, name in (
        ("MNI152NLin6Asym", "MNI152NLin6Asym", "NLin6Asym_res-2_desc"),
        (f"{SPACE}:res-2", SPACE, "cAsym_res-2_desc"),
        (SPACE, SPACE, "cAsym_desc"),
    ):
        rows = read_dataset(None, settings | {"space": wanted}).scans
        assert [row["space"] for row in rows] == [space, space]
        assert all(name in row["bold"] and name in row["mask"] for row in rows)
    line = problem_of(settings | {"space": "MNI152NLin6Sym"})
    assert "no BOLD image in space MNI152NLin6Sym; spaces found:" in line and "did you mean MNI152NLin6Asym" in line


def test_cohorts_of_a_template_are_spaces_of_their_own(root, settings, tmp_path):
    """MNIPediatricAsym has a template for each age: two cohorts are not mixed, and one is named as fMRIPrep does."""
    pediatric = "MNIPediatricAsym"
    for path in root.rglob(f"*_space-{SPACE}_*"):
        path.unlink()
    for cohort, participant in (("1", "sub-01"), ("2", "sub-02")):
        add_derivative(root, f"{participant}_task-rest_run-1", space=f"_space-{pediatric}_cohort-{cohort}_res-2")
    mixed = f"BOLD images in several spaces: {pediatric}:cohort-1:res-2, {pediatric}:cohort-2:res-2; expected one space"
    assert mixed in problem_of(settings) and mixed in problem_of(settings | {"space": pediatric})
    add_derivative(root, "sub-01_task-rest_run-1", space=f"_space-{pediatric}_cohort-2_res-2")
    assert mixed in problem_of(settings)
    config = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    allowed = config["properties"]["dataset"]["properties"]["space"]
    for ending in (":cohort-2", ":cohort-2:res-2", ":res-2:cohort-2"):
        jsonschema.validate(pediatric + ending, allowed)
        rows = read_dataset(None, settings | {"space": pediatric + ending}).scans
        assert [row["space"] for row in rows] == [f"{pediatric}:cohort-2"] * 2
        assert all("_cohort-2_res-2_desc-" in row["bold"] and "_cohort-2_res-2_" in row["mask"] for row in rows)
    line = problem_of(settings | {"space": f"{pediatric}:cohort-1"})
    assert line.startswith(f"sub-02_task-rest_run-1: no BOLD image in space {pediatric}:cohort-1:res-2")
    assert f"no BOLD image in space {pediatric}:cohort-3;" in problem_of(settings | {"space": f"{pediatric}:cohort-3"})
    write_tables(None, settings | {"space": f"{pediatric}:cohort-2"}, tmp_path / "scans.tsv", tmp_path / "p.tsv")
    table = yaml.safe_load((ROOT / "workflow/schemas/scans.schema.yaml").read_text())["properties"]["space"]
    for space in read_table(tmp_path / "scans.tsv")["space"]:
        jsonschema.validate(space, table)


def test_a_scan_that_lacks_the_space_is_named(root, settings):
    add_derivative(root, "sub-02_task-rest_run-2", space="_space-MNI152NLin6Asym")
    line = problem_of(settings | {"space": SPACE})
    assert line.startswith(f"sub-02_task-rest_run-2: no BOLD image in space {SPACE}:res-2")


def test_of_several_images_of_a_scan_the_preprocessed_one_is_taken(root, settings):
    add_derivative(root, "sub-01_task-rest_run-1", desc="_desc-smoothAROMAnonaggr")
    assert "desc-preproc_bold" in read_dataset(None, settings).scans[0]["bold"]
    next(root.glob("sub-01/func/*desc-preproc_bold.nii.gz")).unlink()
    dataset = read_dataset(None, settings)
    assert "desc-smoothAROMAnonaggr" in dataset.scans[0]["bold"]
    assert "no image with desc-preproc; used:" in dataset.notes[0]
    add_derivative(root, "sub-01_task-rest_run-1", desc="_desc-denoised")
    assert "several images in one space" in problem_of(settings)


def test_every_problem_is_told_at_once(root, settings):
    func = root / "sub-01" / "func"
    stem = f"sub-01_task-rest_run-1_space-{SPACE}_res-2_desc"
    write_nifti(func / f"{stem}-brain_mask.nii.gz", (4, 3, 3))
    add_derivative(root, "sub-02_task-rest_run-1", confounds=N_VOLUMES - 1, sidecar={"RepetitionTime": 2600})
    add_derivative(root, "sub-03_task-rest_run-1", shape=(3, 3, 3))
    lines = problems_of(settings)
    for said in (
        "its shape is (4, 3, 3) and the image's (3, 3, 3)",
        "4 rows and the image 5 volumes",
        "RepetitionTime is 2600, which looks like milliseconds",
        "a single volume (shape (3, 3, 3))",
        "sub-03: has a scan but no line in",
    ):
        assert sum(said in line for line in lines) == 1, (said, lines)
    assert len(lines) == 5


def test_no_folder(settings, tmp_path):
    line = problem_of(settings | {"derivatives": str(tmp_path / "nowhere")})
    assert f"dataset.derivatives: no folder {tmp_path / 'nowhere'}" in line


def test_a_raw_dataset_is_no_derivative(root, settings):
    write_sidecar(root / "dataset_description.json", Name="x", DatasetType="raw")
    assert "DatasetType is raw; expected derivatives" in problem_of(settings)


def test_nothing_in_standard_space_says_what_is_there(root, settings):
    for path in root.rglob("*_bold.nii.gz"):
        path.unlink()
    line = problem_of(settings)
    assert "there is no BOLD image at all" in line
    (root / "sub-01" / "func" / "sub-01_task-rest_space-fsLR_den-91k_bold.dtseries.nii").write_bytes(b"x")
    assert "on surfaces (GIFTI, CIFTI) alone" in problem_of(settings)
    add_derivative(root, "sub-01_task-rest", space="_space-T1w")
    add_derivative(root, "sub-01_task-rest", space="")
    assert "spaces of the 2 BOLD images there: T1w, none in the name" in problem_of(settings)


def test_a_folder_above_the_derivatives_names_them(root, settings):
    line = problems_of(settings | {"derivatives": str(root.parent)})[-1]
    assert "sub-* in fmriprep: set dataset.derivatives to that folder?" in line


@pytest.mark.parametrize("change", [{"task": "nback"}, {"session": "2"}])
def test_task_and_session_are_chosen_as_in_a_raw_dataset(root, settings, change):
    key = next(iter(change))
    assert problem_of(settings | change).startswith(f"dataset.{key}: no ")


def test_old_names_of_fmriprep_are_read(root, settings):
    """Before 20.2 the table was called regressors, and before BIDS 1.4 the programs were PipelineDescription."""
    write_sidecar(root / "dataset_description.json", PipelineDescription={"Name": "fMRIPrep", "Version": "1.5.0"})
    for path in list(root.rglob("*desc-confounds_timeseries.tsv")):
        path.rename(path.with_name(path.name.replace("timeseries", "regressors")))
    dataset = read_dataset(None, settings)
    assert dataset.origin == "fMRIPrep 1.5.0"
    assert all(row["confounds"].endswith("desc-confounds_regressors.tsv") for row in dataset.scans)
