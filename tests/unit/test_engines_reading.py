"""Raw images whose header or voxels cannot be true are refused with what was found; odd but usable ones are noted."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from restresponse.engines.reading import header_notes, read_raw
from restresponse.errors import InputError

SHAPE = (12, 14, 10)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def _image(folder: Path, data: np.ndarray, sform: np.ndarray = AFFINE, qform: np.ndarray = AFFINE) -> Path:
    image = nib.Nifti1Image(data.astype(np.float32), sform)
    image.set_sform(sform, code=1)
    image.set_qform(qform, code=1)
    image.to_filename(folder / "image.nii.gz")
    return folder / "image.nii.gz"


def _head(*further: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 100, (*SHAPE, *further))


@pytest.mark.parametrize(("axis", "name"), [(0, "i"), (1, "j"), (2, "k")])
def test_empty_slices_inside_a_t1w_are_named(tmp_path, axis, name):
    data = _head()
    np.moveaxis(data, axis, 0)[[4, 6]] = 0
    with pytest.raises(InputError, match=rf"zero in 2 of {SHAPE[axis]} slices along {name} \(4, 6\)"):
        read_raw(_image(tmp_path, data), 3, "T1w")


def test_padding_around_a_head_is_no_problem(tmp_path):
    data = _head()
    data[:2] = data[:, -3:] = data[..., -1] = 0
    assert read_raw(_image(tmp_path, data), 3, "T1w")[0].shape == SHAPE
    series = _head(6)
    series[:, :, 0] = 0
    assert read_raw(_image(tmp_path, series), 4, "BOLD")[0].shape == (*SHAPE, 6)


def test_empty_slices_and_volumes_of_a_series_are_named(tmp_path):
    data = _head(8)
    data[:, :, 5, 2:4] = 0
    with pytest.raises(InputError, match=r"zero in 1 of 10 slices along k \(5\) in 2 of 8 volumes"):
        read_raw(_image(tmp_path, data), 4, "BOLD")
    data = _head(8)
    data[..., 7] = 0
    with pytest.raises(InputError, match=r"zero in 1 of 8 volumes \(7\).*set_aside"):
        read_raw(_image(tmp_path, data), 4, "BOLD")


def test_one_volume_is_no_series(tmp_path):
    for data in (_head(), _head(1)):
        with pytest.raises(InputError, match=r"single volume|1 volumes; expected at least 4"):
            read_raw(_image(tmp_path, data), 4, "BOLD")
    assert read_raw(_image(tmp_path, _head(1)), 3, "T1w")[0].shape == SHAPE  # one volume in four dimensions is a T1w
    with pytest.raises(InputError, match="expected 3 dimensions"):
        read_raw(_image(tmp_path, _head(3)), 3, "T1w")


def test_forms_that_contradict_each_other_are_refused(tmp_path):
    flipped = np.diag([-2.0, 2.0, 3.0, 1.0])
    with pytest.raises(InputError, match="left and right exchanged"):
        read_raw(_image(tmp_path, _head(), qform=flipped), 3, "T1w")
    with pytest.raises(InputError, match="voxels of 2 x 2 x 3 mm in the sform and of 1 x 1 x 3 mm in the qform"):
        read_raw(_image(tmp_path, _head(), qform=np.diag([1.0, 1.0, 3.0, 1.0])), 3, "T1w")


def test_forms_that_lie_apart_are_noted_and_the_sform_counts(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] = [3, 4, 0]
    _, image = read_raw(_image(tmp_path, _head(), qform=moved), 3, "T1w")
    assert header_notes(image) == [note for note in header_notes(image) if "5.0 mm apart; the sform was used" in note]
    assert len(header_notes(image)) == 1
    np.testing.assert_allclose(image.affine, AFFINE)
    _, image = read_raw(_image(tmp_path, _head()), 3, "T1w")
    assert header_notes(image) == []
