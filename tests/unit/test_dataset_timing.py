"""Times of volumes and slices are read from sidecar, header and config, and those that cannot be are told."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_tree import (
    TIMES,
    TR,
    default_settings,
    the_problem,
    two_participants,
    write_nifti,
    write_sidecar,
)

from restresponse.dataset import read_dataset
from restresponse.dataset.header import read_header


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return two_participants(tmp_path / "bids")


@pytest.fixture
def settings() -> dict:
    return default_settings()


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
