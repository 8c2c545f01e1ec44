"""Batches of participants: who is in which, and where a participant's files lie."""

import pytest

from restresponse.batches import batches_of, files_of
from restresponse.files import writing_folder
from restresponse.layout import denoised_images, preprocessed_images


def test_batches_cut_the_sorted_participants_and_sort_as_they_are_named():
    names = [f"sub-{number:04d}" for number in range(1001)]
    batches = batches_of(list(reversed(names)), 10)
    assert list(batches) == sorted(batches) and len(batches) == 101
    assert [name for members in batches.values() for name in members] == names
    assert batches["batch-101"] == ["sub-1000"]


def test_files_of_participants_lie_in_the_folders_of_their_batches():
    batches = batches_of(["sub-1", "sub-2", "sub-3"], 2)
    files = files_of(["a/batch-01", "a/batch-02"], batches, "_maps.npy", ["sub-3", "sub-1"])
    assert files == {"sub-3": "a/batch-02/sub-3_maps.npy", "sub-1": "a/batch-01/sub-1_maps.npy"}
    with pytest.raises(ValueError, match=r"shorter|longer"):
        files_of(["a/batch-01"], batches, "_maps.npy")


def test_images_of_scans_keep_their_participant():
    scans = {"sub-1": ["sub-1_run-1", "sub-1_run-2"], "sub-2": ["sub-2_task-rest"]}
    images = preprocessed_images(["a", "b", "c"], scans)
    assert images["sub-1"]["sub-1_run-2"] == "b/sub-1_run-2_space-MNI152_desc-preproc_bold.nii.gz"
    assert list(images["sub-2"]) == ["sub-2_task-rest"]
    assert denoised_images("d", scans)["sub-2"] == {
        "sub-2_task-rest": "d/sub-2_task-rest_space-MNI152_desc-denoised_bold.nii.gz"
    }
    with pytest.raises(ValueError, match=r"shorter|longer"):
        preprocessed_images(["a", "b"], scans)


def test_a_folder_that_was_interrupted_leaves_nothing_and_the_former_one_as_it_was(tmp_path):
    def write(text, fail=False):
        with writing_folder(tmp_path / "batch-01") as folder:
            (folder / "one").write_text(text)
            if fail:
                raise KeyboardInterrupt

    write("first")
    with pytest.raises(KeyboardInterrupt):
        write("second", fail=True)
    assert (tmp_path / "batch-01/one").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["batch-01"]
    write("third")
    assert (tmp_path / "batch-01/one").read_text() == "third"
