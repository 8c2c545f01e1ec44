"""A file is there whole or not at all, and reads back as it was written."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from restresponse import files
from restresponse.errors import DamagedFile
from restresponse.images import read_series


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "folder" / "a.nii.gz"
    with files.writing(target) as temporary:
        assert temporary.parent == target.parent and temporary.name.endswith("-a.nii.gz")
        assert str(os.getpid()) in temporary.name
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.writing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_never_share_a_temporary_name(tmp_path):
    with files.writing(tmp_path / "a") as first, files.writing(tmp_path / "a") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


def test_json_takes_numpy_and_turns_what_is_no_number_into_null(tmp_path):
    content = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": np.nan,
        "d": [np.inf, True],
        "e": Path("x/y"),
        "f": np.bool_(True),
        1: None,
        "é": "é",
    }
    files.write_json(tmp_path / "a.json", content)
    assert files.read_json(tmp_path / "a.json") == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": None,
        "d": [None, True],
        "e": "x/y",
        "f": True,
        "1": None,
        "é": "é",
    }
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
    json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)


def test_tables_keep_names_numbers_and_gaps(tmp_path):
    table = pd.DataFrame(
        {
            "participant_id": ["01", "sub-02", None],
            "x": [1 / 3, np.nan, 1e-12],
            "flag": [True, False, True],
            "word": ["NA", None, "None"],
        }
    )
    files.write_table(tmp_path / "a.tsv", table)
    assert (tmp_path / "a.tsv").read_text().splitlines()[1:] == [
        "01\t0.3333333333\tTrue\tNA",
        "sub-02\tn/a\tFalse\tn/a",
        "n/a\t1e-12\tTrue\tNone",
    ]
    back = files.read_table(tmp_path / "a.tsv")
    assert back["participant_id"].tolist()[:2] == ["01", "sub-02"] and back["participant_id"].isna().tolist() == [
        False,
        False,
        True,
    ]
    assert back["x"].tolist()[0] == pytest.approx(1 / 3, rel=1e-9) and back["flag"].dtype == bool
    assert back["word"].tolist()[0] == "NA" and back["word"].tolist()[2] == "None"  # words of the user, not gaps


def test_arrays_are_mapped_and_hold_no_objects(tmp_path):
    array = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    files.write_array(tmp_path / "a.npy", array)
    back = files.read_array(tmp_path / "a.npy")
    assert isinstance(back, np.memmap) and not back.flags.writeable and back.flags.c_contiguous
    assert np.array_equal(back, array) and back.dtype == np.float32
    with pytest.raises(ValueError, match="Object arrays"):
        files.write_array(tmp_path / "b.npy", np.array([{}], dtype=object))
    assert not (tmp_path / "b.npy").exists()


@pytest.mark.parametrize(
    ("given", "stored"), [(bool, np.uint8), (np.float64, np.float32), (np.int64, np.int32), (np.int16, np.int16)]
)
def test_images_say_where_they_are_and_how_fast(tmp_path, given, stored):
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -90, -126, -72
    data = np.ones((2, 3, 4, 5)).astype(given)
    files.write_image(tmp_path / "a.nii.gz", data, affine, repetition_time=2.6)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == stored and np.array_equal(np.asarray(image.dataobj), data)
    assert np.allclose(image.affine, affine) and (int(image.header["sform_code"]), int(image.header["qform_code"])) == (
        4,
        4,
    )
    assert image.header.get_zooms()[3] == pytest.approx(2.6) and image.header.get_xyzt_units() == ("mm", "sec")


def test_saving_leaves_nibabels_own_compression_as_it_was(tmp_path):
    from nibabel.openers import Opener

    before = Opener.default_compresslevel
    files.save_image(tmp_path / "a.nii.gz", nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)))
    assert Opener.default_compresslevel == before
    assert len(gzip.decompress((tmp_path / "a.nii.gz").read_bytes())) == 352 + 16


def test_the_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.digest_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("left", ["half", "nothing", "zeros"])
@pytest.mark.parametrize("name", ["a.json", "a.tsv", "a.npy", "a.nii.gz"])
def test_a_file_that_the_disk_lost_a_part_of_is_named_with_what_to_remove(tmp_path, name, left):
    path = tmp_path / "batch-01" / name
    files.write_json(path.with_name("a.json"), {"a": list(range(50))})
    files.write_table(path.with_name("a.tsv"), pd.DataFrame({"participant_id": ["sub-01"] * 9, "x": 0.123}))
    files.write_array(path.with_name("a.npy"), np.arange(500.0))
    files.write_image(path.with_name("a.nii.gz"), np.random.default_rng(0).random((5, 5, 5, 9)), np.eye(4))
    readers = {"a.json": files.read_json, "a.tsv": files.read_table, "a.npy": files.read_array, "a.nii.gz": read_series}
    readers[name](path)
    content = path.read_bytes()
    size = len(content)
    path.write_bytes({"half": content[: size // 2], "nothing": b"", "zeros": bytes(size)}[left])
    with pytest.raises(DamagedFile) as raised:
        readers[name](path)
    assert f"{path} is not whole" in str(raised.value)
    assert str(raised.value).endswith(f"rm -r {path.parent}")  # a batch's folder is made as one
    with pytest.raises(FileNotFoundError):  # which is no damage
        readers[name](tmp_path / "absent")


def test_what_killed_jobs_left_half_written_is_removed_and_what_a_living_one_writes_stays(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine, other = tmp_path / "a.npy", tmp_path / "b.npy"
    left = [tmp_path / f".{gone.pid}-0123abcd-{name}" for name in ("a.npy", "batch-01", "b.npy")]
    living = tmp_path / f".{os.getpid()}-0123abcd-a.npy"
    for path in (left[0], left[2], living, mine):
        path.write_text("half")
    left[1].mkdir()
    (left[1] / "sub-01_maps.npy").write_text("half")
    files.clear_abandoned([mine, tmp_path / "batch-01", tmp_path / "absent" / "c"])
    assert sorted(tmp_path.iterdir()) == sorted([left[2], living, mine])  # b.npy is another job's
    assert not other.exists()
