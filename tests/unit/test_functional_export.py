"""The results of preprocessing as a BIDS derivatives dataset: a validator accepts it, and it can be started from again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from bids_tree import TIMES, TR, add_scan, add_t1w, default_settings, start
from kept_series import kept_series, left_behind

from restresponse import __version__, layout
from restresponse.anatomical import normalise_anatomical
from restresponse.dataset import read_dataset, write_tables
from restresponse.dataset.tables import SCAN_COLUMNS
from restresponse.files import read_json, read_table, write_json, write_table
from restresponse.functional.denoising import denoise_batch
from restresponse.functional.derivatives import adopt_scan
from restresponse.functional.export import export_derivatives
from restresponse.functional.preprocess import preprocess_scan
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings
from restresponse.report.methods_text import preprocessing_methods

ROOT = Path(__file__).resolve().parents[2]
DENOISING = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())["functional"]["denoising"]
DENOISING = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["functional"]["denoising"] | DENOISING
VOXEL_SIZE = 6
ENGINE = {"engine": "embedded", "voxel_size": VOXEL_SIZE}
BATCHES = {"batch-01": ["sub-01_task-rest", "sub-02_task-rest"]}
STANDARD = "space-MNI152NLin2009aSym_res-6"


def functional_files(results: Path, scan: str) -> dict[str, str]:
    """Outputs of the rules `functional_preprocess` and `functional_adopt`."""
    return layout.functional_files(results / "functional" / scan, scan)


def anatomical_files(results: Path, anat: str) -> dict[str, str]:
    """Outputs of the rule `anatomical_normalise`."""
    return layout.anatomical_files(results / "anatomical" / anat, anat)


def denoise(results: Path, rows: list[dict]) -> dict[str, list[str]]:
    """Denoise the scans as one batch, and give the batches."""
    names = [row["scan"] for row in rows]
    denoise_batch({name: results / "functional" / name for name in names}, results / "functional/denoised/batch-01",
                  repetition_times={row["scan"]: row["repetition_time"] for row in rows}, settings=DENOISING)  # fmt: skip
    return {"batch-01": names}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with `bids` and `results`: two phantom participants, one preprocessed for real, one recorded as failed."""
    folder = tmp_path_factory.mktemp("export") / "study"
    make_cohort(folder / "bids", CohortSettings(participants=2, responders=1, volumes=40, bold_voxel_size=(8.0, 8.0, 8.0), t1w_voxel_size=4.0, seed=5, distortion=4.0, field_map="phasediff"))  # fmt: skip
    results, settings = folder / "results", default_settings()
    (results / "dataset").mkdir(parents=True)
    write_tables(folder / "bids", settings, results / "dataset/scans.tsv", results / "dataset/participants.tsv")
    first, second = read_dataset(folder / "bids", settings).scans
    anatomical = anatomical_files(results, first["anat"])
    normalise_anatomical(first["t1w"], anatomical, bias_correction=False, segmentation_iterations=5, **ENGINE)
    readout = {name: first[name] for name in ("phase_encoding_direction", "total_readout_time")}
    preprocess_scan(first["bold"], anatomical, functional_files(results, first["scan"]), slice_timing=True, smoothing_fwhm=5, unwarp="auto",
                    field_map=first["fieldmap"], repetition_time=first["repetition_time"], slice_times=first["slice_timing"], **readout, **ENGINE)  # fmt: skip
    failed = {"status": "failed", "reason": "the T1w is constant"}
    write_json(anatomical_files(results, second["anat"])["record"], failed)
    preprocess_scan(second["bold"], anatomical_files(results, second["anat"]), functional_files(results, second["scan"]), slice_timing=True,
                    smoothing_fwhm=5, repetition_time=2.6, slice_times=None, **ENGINE)  # fmt: skip
    denoise(results, [first, second])
    return folder


@pytest.fixture(scope="module")
def dataset(study) -> Path:
    export_derivatives(study / "results/dataset/scans.tsv", study / "results/derivatives", bids_dir=study / "bids",
                       batches=BATCHES, derivatives=None, voxel_size=VOXEL_SIZE)  # fmt: skip
    return study / "results" / "derivatives"


def issues_of(folder: Path) -> list[dict]:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.is_file():
        pytest.skip(f"bids-validator-deno is not at {validator}: install envs/requirements-test.txt")
    done = subprocess.run([validator, "--json", folder], capture_output=True, text=True, timeout=120)
    found = json.loads(done.stdout)
    assert found["summary"]["totalFiles"] > 5 and found["summary"]["subjects"] == ["01"]
    return found["issues"]["issues"]


def test_two_compressed_series_of_a_scan_are_kept_and_no_working_folder(study):
    both = ["MNI152_desc-denoised_bold.nii.gz", "MNI152_desc-preproc_bold.nii.gz"]
    kept = kept_series(study / "results")
    assert {scan: sorted(endings) for scan, endings in kept.items()} == {"sub-01_task-rest": both}  # the other failed
    assert left_behind(study / "results") == []


def test_the_methods_text_says_how_the_scan_was_unwarped(study):
    record = functional_files(study / "results", "sub-01_task-rest")["record"]
    sentences = preprocessing_methods([], [record], [])
    assert [text for text in sentences if text.startswith("Susceptibility distortion was corrected with the field map")]
    assert [text for text in sentences if "unwrapped" in text]


def test_a_bids_validator_accepts_it(dataset):
    issues = issues_of(dataset)
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert {issue["code"] for issue in issues} <= {"TOO_FEW_AUTHORS", "NIFTI_UNIT"}, issues


def test_the_validator_looks_at_derivatives(dataset, tmp_path):
    """What it must find wrong, it does: a sidecar without a required key, and a name that BIDS has not."""
    spoilt = Path(shutil.copytree(dataset, tmp_path / "spoilt"))
    sidecar = spoilt / f"sub-01/func/sub-01_task-rest_{STANDARD}_desc-preproc_bold.json"
    write_json(sidecar, {key: value for key, value in read_json(sidecar).items() if key != "Resolution"})
    (spoilt / "sub-01/func/sub-01_task-rest_smoothed.nii.gz").write_bytes(b"")
    errors = {issue["code"] for issue in issues_of(spoilt) if issue["severity"] == "error"}
    assert errors


def test_only_the_tables_of_time_series_are_hidden_from_the_validator(dataset, tmp_path):
    open_to_it = Path(shutil.copytree(dataset, tmp_path / "open"))
    (open_to_it / ".bidsignore").unlink()
    errors = [issue for issue in issues_of(open_to_it) if issue["severity"] == "error"]
    assert errors and all("_timeseries." in issue["location"] for issue in errors), errors


def test_it_says_what_was_made_of_what_and_how(study, dataset):
    description = read_json(dataset / "dataset_description.json")
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"] == [{"Name": "restresponse", "Version": __version__}]
    assert (dataset / description["DatasetLinks"]["raw"]).resolve() == (study / "bids").resolve()
    assert [entry["URL"] for entry in description["SourceDatasets"]] == [description["DatasetLinks"]["raw"]]
    func, anat = dataset / "sub-01/func", dataset / "sub-01/anat"
    image = read_json(func / f"sub-01_task-rest_{STANDARD}_desc-preproc_bold.json")
    of_scan = ["bids:raw:sub-01/func/sub-01_task-rest_bold.nii.gz", "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
    assert image["Sources"][:2] == of_scan
    assert {uri.rpartition("_")[2] for uri in image["Sources"][2:]} == {
        "phasediff.nii.gz",
        "magnitude1.nii.gz",
        "magnitude2.nii.gz",
    }
    assert (image["TaskName"], image["RepetitionTime"], image["SkullStripped"]) == ("rest", 2.6, True)
    assert image["SliceTimingCorrected"] is True
    steps = {step["Step"]: step for step in image["ProcessingSteps"]}
    assert steps["smoothing"]["Parameters"] == {"fwhm": 5} and steps["realignment"]["Tool"] == "niimath"
    assert steps["unwarping"]["Tool"] == "restresponse" and steps["unwarping"]["Parameters"]["largest_mm"] > 1
    assert steps["unwarping"]["Description"].startswith("Susceptibility distortion was corrected with the field map")
    assert steps["field map"]["Tool"] == "niimath" and "nwrapped" in steps["field map"]["Description"]
    denoised = read_json(func / f"sub-01_task-rest_{STANDARD}_desc-denoised_bold.json")
    assert denoised["Denoising"]["Settings"] == DENOISING and "trans_x" in denoised["Denoising"]["Regressors"]
    for sidecar in [*func.glob("*_bold.json"), *func.glob("*_mask.json"), *anat.glob("*.json")]:
        for source in read_json(sidecar)["Sources"]:
            _, name, path = source.split(":")
            assert ((dataset if name == "" else study / "bids") / path).exists(), (sidecar, source)
    assert read_json(anat / "sub-01_desc-preproc_T1w.json")["SkullStripped"] is False


def test_masks_tissues_and_tables_say_how_they_were_made_too(dataset):
    """A mask and a tissue have the steps up to the one that made them, with parameters; a table's columns say whose sidecar has them."""
    func, anat = dataset / "sub-01/func", dataset / "sub-01/anat"
    last = {
        anat / "sub-01_desc-brain_mask.json": "brain extraction",
        anat / "sub-01_label-GM_probseg.json": "segmentation",
        anat / f"sub-01_{STANDARD}_label-CSF_probseg.json": "segmentation",
        func / f"sub-01_task-rest_{STANDARD}_desc-brain_mask.json": "resampling",
    }
    for sidecar, name in last.items():
        steps = read_json(sidecar)["ProcessingSteps"]
        assert steps[-1]["Step"] == name and all(step["Parameters"] for step in steps), sidecar
    series = f"sub-01/func/sub-01_task-rest_{STANDARD}"
    image, table = (
        read_json(dataset / f"{series}_desc-preproc_bold.json"),
        func / "sub-01_task-rest_desc-confounds_timeseries.tsv",
    )
    columns = read_json(table.with_suffix(".json"))
    assert list(columns) == list(read_table(table))
    for facts in columns.values():
        assert facts["Description"] and facts["Sources"] == image["Sources"]
        assert facts["ParametersIn"] == [f"bids::{series}_desc-preproc_bold.json"]
    design = read_json(func / "sub-01_task-rest_desc-denoising_timeseries.json")
    assert list(design) == read_json(dataset / f"{series}_desc-denoised_bold.json")["Denoising"]["Regressors"]
    for name, facts in design.items():
        assert facts["Sources"] == ([] if name == "linear_trend" else [f"bids::sub-01/func/{table.name}"])
        assert facts["ParametersIn"] == [f"bids::{series}_desc-denoised_bold.json"]


def test_those_who_read_fmripreps_confounds_read_these(dataset, tmp_path):
    """nilearn takes motion and components by what the JSON says of them; pandas makes a table of that JSON."""
    from nilearn.interfaces.fmriprep import load_confounds

    whole = Path(shutil.copytree(dataset, tmp_path / "whole"))
    func = whole / "sub-01/func"
    image = func / f"sub-01_task-rest_{STANDARD}_desc-preproc_bold.nii.gz"
    chosen = {"strategy": ("motion", "high_pass", "wm_csf", "global_signal", "compcor"), "motion": "derivatives"}
    found, _ = load_confounds(str(image), **chosen, compcor="anat_separated", n_compcor=2, demean=False)
    table = read_table(func / "sub-01_task-rest_desc-confounds_timeseries.tsv")
    assert len(found) == 40 and {"trans_x", "rot_z_derivative1", "csf", "white_matter", "global_signal"} <= set(found)
    components = [name for name in found if "comp_cor" in name]
    tissues = pd.read_json(func / "sub-01_task-rest_desc-confounds_timeseries.json")
    assert components and {tissues[name]["Mask"] for name in components} == {"WM", "CSF"}
    np.testing.assert_allclose(found["trans_x"], table["trans_x"])


def test_the_space_and_the_field_map_are_those_of_the_records(study, tmp_path):
    """SPM's own priors lead to a space of their own; the images that a scan was unwarped with are among its sources."""
    shutil.copytree(study / "results", tmp_path / "results", symlinks=True)
    results = tmp_path / "results"
    path = anatomical_files(results, "sub-01")["record"]
    record = read_json(path)
    assert record["spaces"]["label"] == "MNI152NLin2009aSym"
    write_json(path, record | {"spaces": record["spaces"] | {"label": "IXI549Space", "MNI152": "of SPM's maps"}})
    path = functional_files(results, "sub-01_task-rest")["record"]
    record = read_json(path)
    bare = [step for step in record["steps"] if step["step"] != "field map"]
    step = {"step": "field map", "tool": "niimath", "version": "1", "parameters": {}, "method": "It was unwrapped."}
    fmap = study / "bids/sub-01/fmap"
    cell = {
        "kind": "phasediff",
        "files": {name: str(fmap / f"sub-01_{name}.nii.gz") for name in ("phasediff", "magnitude1")},
    }
    table = read_table(results / "dataset/scans.tsv", text_columns=SCAN_COLUMNS)
    table.loc[table["scan"] == "sub-01_task-rest", "fieldmap"] = json.dumps(cell)
    write_table(results / "dataset/scans.tsv", table)
    sources = []
    for number, steps in enumerate(([], [step])):
        write_json(path, record | {"steps": [*steps, *bare]})
        out = tmp_path / str(number)
        export_derivatives(results / "dataset/scans.tsv", results / out.name, bids_dir=study / "bids",
                           batches=BATCHES, derivatives=None, voxel_size=VOXEL_SIZE)  # fmt: skip
        func = results / out.name / "sub-01/func"
        image = read_json(func / "sub-01_task-rest_space-IXI549Space_res-6_desc-preproc_bold.json")
        assert image["SpatialReference"] == "of SPM's maps"
        sources.append(image["Sources"])
    assert sources[1] == [
        *sources[0],
        *(f"bids:raw:sub-01/fmap/sub-01_{name}.nii.gz" for name in ("phasediff", "magnitude1")),
    ]


def test_images_are_links_that_survive_a_move_and_failed_scans_are_left_out(study, dataset, tmp_path):
    assert not (dataset / "sub-02").exists()
    moved = Path(shutil.copytree(study, tmp_path / "elsewhere", symlinks=True)) / "results/derivatives"
    images = list(moved.rglob("*.nii.gz"))
    assert len(images) == 12 and all(path.is_symlink() for path in images)
    for path in images:
        assert path.resolve().is_relative_to(tmp_path / "elsewhere/results")
        assert path.with_name(path.name.replace(".nii.gz", ".json")).is_file()
    whole = Path(shutil.copytree(dataset, tmp_path / "whole"))  # as rsync -L: files, no links
    assert nib.load(whole / f"sub-01/func/sub-01_task-rest_{STANDARD}_desc-preproc_bold.nii.gz").shape[3] == 40


def test_made_again_it_is_the_same_and_nothing_old_stays(study, dataset):
    before = {path.relative_to(dataset): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    (dataset / "old.txt").write_text("old")
    export_derivatives(study / "results/dataset/scans.tsv", dataset, batches=BATCHES, bids_dir=study / "bids", derivatives=None, voxel_size=VOXEL_SIZE)  # fmt: skip
    assert {path.relative_to(dataset): path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    assert not list((study / "results").glob(".*-derivatives"))


def test_it_can_be_started_from_again(study, dataset, tmp_path):
    """Taken in as derivatives: the same voxels, and the dataset made of them names both programs and keeps the space."""
    given = tmp_path / "given"
    shutil.copytree(dataset, given)
    settings = default_settings() | {"bids_dir": str(study / "bids"), "derivatives": str(given)}
    found = read_dataset(study / "bids", settings)
    assert found.origin == f"restresponse {__version__}"
    [row] = found.scans
    assert row["space"] == "MNI152NLin2009aSym" and row["mask"] != "n/a" and row["confounds"] != "n/a"
    results = tmp_path / "results"
    (results / "dataset").mkdir(parents=True)
    write_tables(study / "bids", settings, results / "dataset/scans.tsv", results / "dataset/participants.tsv")
    files = functional_files(results, row["scan"])
    adopt_scan(row["bold"], files, mask=row["mask"], given_confounds=row["confounds"], space=row["space"], origin=found.origin,
               repetition_time=row["repetition_time"], smoothing_fwhm=0, **ENGINE)  # fmt: skip
    record = read_json(files["record"])
    assert record["status"] == "done", record["reason"]
    assert record["computed_confounds"] == []
    before = functional_files(study / "results", row["scan"])
    for key in ("image", "mask"):
        first, second = (np.asarray(nib.load(paths[key]).dataobj) for paths in (before, files))
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=0.05)
    batches = denoise(results, [row])
    export_derivatives(results / "dataset/scans.tsv", results / "derivatives", batches=batches, bids_dir=study / "bids", derivatives=given, voxel_size=VOXEL_SIZE)  # fmt: skip
    assert [issue for issue in issues_of(results / "derivatives") if issue["severity"] == "error"] == []
    description = read_json(results / "derivatives/dataset_description.json")
    assert [entry["Name"] for entry in description["GeneratedBy"]] == ["restresponse", "restresponse"]
    assert list(description["DatasetLinks"]) == ["preprocessed"]
    came = "sub-01/func/sub-01_task-rest_desc-confounds_timeseries"
    for facts in read_json(results / f"derivatives/{came}.json").values():  # what they said of the raw data is not kept
        assert facts["Sources"] == [f"bids:preprocessed:{came}.tsv"]
    sidecar = read_json(results / f"derivatives/sub-01/func/sub-01_task-rest_{STANDARD}_desc-preproc_bold.json")
    assert (
        sidecar["Sources"][0] == f"bids:preprocessed:sub-01/func/sub-01_task-rest_{STANDARD}_desc-preproc_bold.nii.gz"
    )


@pytest.mark.parametrize("came", [True, False])
def test_a_mask_is_of_the_one_that_came_with_the_scan(tmp_path, came):
    """Of a scan taken over; where none came, the mask is of the image. The space is one of a template with cohorts."""
    results, given, scan = tmp_path / "results", tmp_path / "fmriprep", "sub-01_task-rest"
    stem = f"{given}/sub-01/func/{scan}_space-MNIPediatricAsym_cohort-1_res-2_desc"
    row = dict.fromkeys(SCAN_COLUMNS, "n/a") | {"scan": scan, "task": "rest", "space": "MNIPediatricAsym:cohort-1"}
    row |= {"bold": f"{stem}-preproc_bold.nii.gz", "mask": f"{stem}-brain_mask.nii.gz" if came else "n/a"}
    row |= {"repetition_time": 2.6, "set_aside": False}
    write_table(results / "dataset/scans.tsv", pd.DataFrame([row]))
    record = {"status": "done", "reason": None, "steps": []}
    write_json(functional_files(results, scan)["record"], record)
    cleaned = layout.denoised_files(results / "functional/denoised/batch-01", scan)["record"]
    write_json(cleaned, record | {"status": "failed"})
    dataset = results / "derivatives"
    export_derivatives(results / "dataset/scans.tsv", dataset, batches={"batch-01": [scan]}, bids_dir=None, derivatives=given, voxel_size=VOXEL_SIZE)  # fmt: skip
    mask = read_json(dataset / f"sub-01/func/{scan}_space-MNIPediatricAsym_cohort-1_res-6_desc-brain_mask.json")
    source = Path(row["mask" if came else "bold"])
    assert "*_cohort-*" in (dataset / ".bidsignore").read_text().splitlines()  # BIDS has the entity for templates alone
    assert mask["Sources"] == [f"bids:preprocessed:sub-01/func/{source.name}"]


def test_sessions_and_runs_keep_their_folders_and_names(tmp_path):
    """Two runs of one session, as fMRIPrep lays them out, each with its own sources; images are empty, for names alone are looked at."""
    runs = [f"sub-01_ses-pre_task-rest_run-{run}" for run in (1, 2)]
    anat = "sub-01_ses-pre"
    bids = start(tmp_path / "bids", "participant_id\nsub-01\n", RepetitionTime=TR, SliceTiming=TIMES)
    for run in runs:
        add_scan(bids, run)
    add_t1w(bids, anat)
    results = tmp_path / "results"
    (results / "dataset").mkdir(parents=True)
    write_tables(bids, default_settings(), results / "dataset/scans.tsv", results / "dataset/participants.tsv")

    step = {"step": "smoothing", "tool": "niimath", "version": "1", "parameters": {"fwhm": 5}, "method": "Smoothed."}
    spaces = {"MNI152": "the template", "label": "MNI152NLin2009aSym"}
    record = {"status": "done", "reason": None, "steps": [step], "spaces": spaces}
    denoised = {"settings": {}, "regressors": ["trans_x"], "outlier_volumes": [], "dof_residual": 3}
    made = [anatomical_files(results, anat), *(functional_files(results, run) for run in runs)]
    made += [layout.denoised_files(results / "functional/denoised/batch-01", run) for run in runs]
    for files in made:
        for name, file in files.items():
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            if name == "record":
                write_json(file, record | denoised)
            else:
                Path(file).write_text("")
    dataset = results / "derivatives"
    export_derivatives(results / "dataset/scans.tsv", dataset, batches={"batch-01": runs}, bids_dir=bids, derivatives=None, voxel_size=VOXEL_SIZE)  # fmt: skip

    t1w = ["desc-preproc_T1w", *(f"label-{tissue}_probseg" for tissue in ("GM", "WM", "CSF"))]
    images = [f"anat/{anat}_{name}" for name in ["desc-brain_mask", *t1w, *(f"{STANDARD}_{name}" for name in t1w)]]
    bold = ("desc-preproc_bold", "desc-brain_mask", "desc-denoised_bold")
    images += [f"func/{run}_{STANDARD}_{name}" for run in runs for name in bold]
    expected = {f"sub-01/ses-pre/{image}{ending}" for image in images for ending in (".nii.gz", ".json")}
    for table in ("confounds", "denoising"):
        expected |= {
            f"sub-01/ses-pre/func/{run}_desc-{table}_timeseries.{end}" for run in runs for end in ("tsv", "json")
        }
    found = {str(path.relative_to(dataset)) for path in dataset.rglob("*") if not path.is_dir()}
    assert found == expected | {"dataset_description.json", ".bidsignore", "README.md"}
    for path in dataset.rglob("*.nii.gz"):  # of the run in its name
        stem = path.name.split("_space-")[0].split("_desc-")[0].split("_label-")[0]
        assert path.is_symlink() and path.resolve().name.startswith(f"{stem}_")
    for run in runs:
        func = f"sub-01/ses-pre/func/{run}"
        raw = f"bids:raw:{func}_bold.nii.gz"
        sources = {
            "desc-preproc_bold": [raw, "bids:raw:sub-01/ses-pre/anat/sub-01_ses-pre_T1w.nii.gz"],
            "desc-brain_mask": [raw],
            "desc-denoised_bold": [
                f"bids::{func}_{STANDARD}_desc-preproc_bold.nii.gz",
                f"bids::{func}_desc-confounds_timeseries.tsv",
            ],
        }
        for name, wanted in sources.items():
            assert read_json(dataset / f"{func}_{STANDARD}_{name}.json")["Sources"] == wanted
    own = read_json(dataset / f"sub-01/ses-pre/anat/{anat}_{STANDARD}_label-GM_probseg.json")["Sources"]
    assert own == [f"bids::sub-01/ses-pre/anat/{anat}_desc-preproc_T1w.nii.gz"]
