"""Volumes as channels, and configs whose arms, models and grids cannot go together."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from classifier_cohort import config

from restresponse.classifier.architectures import memory_mb
from restresponse.classifier.inputs import Samples
from restresponse.classifier.protocols import check_plan, most_volumes, reported_folds
from restresponse.classifier.volumes import extract_volumes
from restresponse.errors import InputError
from restresponse.files import read_array, read_json, write_array, write_table
from restresponse.plan import Plan


@pytest.fixture
def scans(tmp_path):
    """Three scans of one participant, of 4, 30 and 25 volumes; the first is not included."""
    rng = np.random.default_rng(0)
    mask = rng.random((6, 7, 6)) > 0.4
    affine = np.diag([4.0, 4, 4, 1])
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    series = {
        f"sub-01_run-{i}": rng.standard_normal((6, 7, 6, n)).astype(np.float32) for i, n in ((1, 4), (2, 30), (3, 25))
    }
    for scan, data in series.items():
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{scan}.nii.gz")
    rows = pd.DataFrame(
        {"scan": list(series), "participant_id": "sub-01", "included": [False, True, True], "reason": None}
    )
    write_table(tmp_path / "inclusion.tsv", rows)
    return tmp_path, mask, series


def extract(folder, series, n_volumes):
    extract_volumes(
        bold={scan: folder / f"{scan}.nii.gz" for scan in series},
        inclusion=folder / "inclusion.tsv",
        mask=folder / "mask.nii.gz",
        participant="sub-01",
        n_volumes=n_volumes,
        voxel_size=None,
        volumes=folder / "volumes.npy",
        record=folder / "volumes.json",
    )
    return read_array(folder / "volumes.npy"), read_json(folder / "volumes.json")


@pytest.mark.parametrize(("n_volumes", "kept"), [(3, 3), (23, 23), (40, 30)])
def test_first_volumes_of_the_first_included_scan_that_has_as_many(scans, n_volumes, kept):
    folder, mask, series = scans
    rows, record = extract(folder, series, n_volumes)
    np.testing.assert_array_equal(rows, series["sub-01_run-2"][mask].T[:kept])
    assert record["scan"] == "sub-01_run-2" and record["n_volumes"] == kept
    assert record["n_available"] == {"sub-01_run-2": 30, "sub-01_run-3": 25}
    assert record["applied_to"] == ["sub-01"] and record["fitted_on"] == record["labels_of"] == []


def test_no_included_scan_gives_no_rows(scans):
    folder, mask, series = scans
    table = pd.DataFrame({"scan": list(series), "participant_id": "sub-01", "included": False, "reason": "moved"})
    write_table(folder / "inclusion.tsv", table)
    rows, record = extract(folder, series, 3)
    assert rows.shape == (0, mask.sum()) and record["scan"] is None and record["applied_to"] == []


def test_scan_on_another_grid_is_refused(scans):
    folder, _, series = scans
    nib.save(nib.Nifti1Image(np.ones((5, 7, 6, 30), np.float32), np.eye(4)), folder / "sub-01_run-2.nii.gz")
    with pytest.raises(InputError, match=r"has shape \(5, 7, 6\); expected \(6, 7, 6\)"):
        extract(folder, series, 3)


def test_plan_lists_every_arm_model_and_grid_that_cannot_go_together():
    settings = config(voxel_size=8)
    settings["functional"]["voxel_size"] = 9
    settings["classifier"]["arms"]["rsp"]["models"] = ["voxnet", "linear", "forest"]
    with pytest.raises(InputError) as error:
        check_plan(Plan.of(settings), settings)
    message = str(error.value)
    assert "(4 problems)" in message
    for words in (
        "8 mm, finer than functional.voxel_size 9 mm",
        "volumes to the linear model",
        "'forest'",
        "7.1 mm: set",
    ):
        assert words in message
    settings = config()
    check_plan(Plan.of(settings), settings)


def test_reported_folds_are_those_of_the_same_repeat():
    settings = config()
    settings["folds"]["repeats"] = 2
    plan = Plan.of(settings)
    assert reported_folds(plan, "rep-2_fold-03") == ["rep-2_fold-01", "rep-2_fold-02", "rep-2_fold-03"]
    assert most_volumes(plan) == 3


def test_memory_asked_for_grows_with_grid_channels_and_batch():
    small = memory_mb("voxnet", (46, 55, 46), 30, 4, 43)
    assert small < memory_mb("voxnet", (91, 109, 91), 30, 4, 43)
    assert small < memory_mb("voxnet", (46, 55, 46), 60, 4, 43)
    assert small < memory_mb("voxnet", (46, 55, 46), 30, 8, 43)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="only Linux says what of a file is in memory")
def test_what_was_read_of_participants_on_disk_does_not_stay_in_memory(tmp_path):
    """A study's volumes are larger than any machine's memory: 80 MB here, of which no more than a participant stays."""
    mask = np.ones((50, 50, 50), bool)
    names = [f"sub-{number}" for number in range(8)]
    for number, name in enumerate(names):
        rows = np.random.default_rng(number).standard_normal((20, mask.sum()), np.float32)
        write_array(tmp_path / f"{name}.npy", rows)
    arrays = {name: read_array(tmp_path / f"{name}.npy") for name in names}
    samples = Samples({name: rows[:19] for name, rows in arrays.items()}, mask, names)
    found = samples.batch(names, slice(3, 5))
    mapped, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:  # a mapping begins
            mine = str(tmp_path) in line
        elif mine and line.startswith("Rss:"):
            mapped += int(line.split()[1])
    assert mapped < 2_000  # kB
    again = samples.batch(names, slice(3, 5))
    np.testing.assert_array_equal(found, again)
