"""Raw images whose header or voxels cannot be true are refused with what was found; odd but usable ones are noted."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from restresponse.engines import EngineFailure, Normalisation, engine, motion
from restresponse.engines.reading import check_axes, header_notes, processing, read_raw
from restresponse.errors import InputError
from restresponse.files import read_json
from restresponse.functional.fieldmaps import prepare_field
from restresponse.functional.unwarping import phase_encoding

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
    path = _image(tmp_path, _head(), qform=moved)
    _, image = read_raw(path, 3, "T1w")
    (note,) = header_notes(image, path, "T1w")
    assert "the header of the T1w image.nii.gz place it up to 5.0 mm apart; the sform was used" in note
    assert str(tmp_path) not in note and "upside down" not in note
    np.testing.assert_allclose(image.affine, AFFINE)
    _, image = read_raw(_image(tmp_path, _head()), 3, "T1w")
    assert header_notes(image, path, "T1w") == []


def _turned(axis: int, degrees: float) -> np.ndarray:
    """`AFFINE`, turned about an axis through the middle of the image."""
    turn, middle = np.eye(4), np.append((np.array(SHAPE) - 1) / 2, 1)
    first, second = (other for other in range(3) if other != axis)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn[[first, first, second, second], [first, second, first, second]] = cosine, -sine, sine, cosine
    affine = turn @ AFFINE
    affine[:3, 3] += (AFFINE @ middle - affine @ middle)[:3]
    return affine


@pytest.mark.parametrize(("axis", "degrees"), [(0, 180), (1, 180), (2, 180), (0, 90), (2, 31)])
def test_forms_that_turn_the_image_against_each_other_are_said_plainly(tmp_path, axis, degrees):
    path = _image(tmp_path, _head(), qform=_turned(axis, degrees))
    (note,) = header_notes(read_raw(path, 3, "T1w")[1], path, "T1w")
    assert f"the header of the T1w image.nii.gz differ by a rotation of {degrees} degrees" in note
    assert "may lie upside down, or left and right may be exchanged; the sform was used" in note
    assert "set sform_code in its header to 0 so that the qform counts" in note


def test_a_tilt_is_no_turn_and_what_the_note_advises_does_what_it_says(tmp_path):
    path = _image(tmp_path, _head(), qform=_turned(2, 29))
    assert "upside down" not in header_notes(read_raw(path, 3, "T1w")[1], path, "T1w")[0]
    turned = _turned(0, 180)
    image = nib.load(_image(tmp_path, _head(), qform=turned))
    image.set_sform(None, code=0)
    image.to_filename(tmp_path / "corrected.nii.gz")
    _, image = read_raw(tmp_path / "corrected.nii.gz", 3, "T1w")
    np.testing.assert_allclose(image.affine, turned, atol=1e-4)
    assert header_notes(image, path, "T1w") == []


def _sheared(share: float, turns: tuple[float, float, float], shears: tuple[float, float, float]) -> np.ndarray:
    """An oblique affine whose unit axes times their transpose differ from the identity by `share` of ITK's 1e-4."""
    turn = np.linalg.multi_dot([motion.turn(axis, np.deg2rad([angle]))[0] for axis, angle in enumerate(turns)])
    shear = np.zeros((3, 3))
    shear[np.triu_indices(3, 1)] = shears
    plain = np.abs(turn @ (shear + shear.T) @ turn.T).max()
    axes = turn @ (np.eye(3) + share * 1e-4 / plain * shear)
    affine = np.eye(4)
    affine[:3, :3] = axes / np.linalg.norm(axes, axis=0) * [0.9, 2.0, 3.3]
    return affine


@pytest.mark.parametrize(
    ("turns", "shears"),
    [
        ((0, 0, 0), (1, 0, 0)),
        ((20, -15, 30), (0, 1, 0)),
        ((-35, 5, 12), (0.3, -1, 0.7)),
        ((44, 44, 44), (1, 1, 1)),
    ],
)
def test_a_shear_is_refused_where_greedys_library_would_read_the_image_no_longer(tmp_path, turns, shears):
    """ITK reads no axes whose product with their transpose is 1e-4 off; what is below is rounding, oblique or not."""
    works = engine("embedded", tmp_path)
    np.savetxt(tmp_path / "head.mat", np.eye(4))
    for share, refused in ((0, False), (0.85, False), (0.95, True), (1.1, True)):
        affine, name = _sheared(share, turns, shears), f"{share}.nii"
        path = _image(tmp_path, _head(), sform=affine, qform=affine)
        data, image = read_raw(path, 3, "T1w")
        nib.Nifti1Image(data, image.affine).to_filename(tmp_path / name)
        if refused:
            with pytest.raises(
                InputError, match=r"the T1w .*image\.nii\.gz is sheared: .* 0\.0\d+ degrees off right angles"
            ):
                check_axes(image, path, "T1w")
        else:
            check_axes(image, path, "T1w")
        if share > 1:
            with pytest.raises(EngineFailure, match="orthonormal"):
                works.to_template(tmp_path / name, Normalisation(tmp_path / "head.mat", None))
        else:
            works.to_template(tmp_path / name, Normalisation(tmp_path / "head.mat", None))


def _tilted(degrees: float) -> np.ndarray:
    """`AFFINE` with its second axis that many degrees off, towards its first."""
    affine = AFFINE.copy()
    affine[:2, 1] = 2 * np.sin(np.deg2rad(degrees)), 2 * np.cos(np.deg2rad(degrees))
    return affine


def test_a_sheared_sform_is_refused_with_its_angle_and_a_remedy_that_helps(tmp_path):
    path = _image(tmp_path, _head(), sform=_tilted(2.5))
    image = nib.load(path)
    with pytest.raises(
        InputError, match=r"up to 2\.5 degrees off .*its qform has right angles: set sform_code .* to 0"
    ):
        check_axes(image, path, "T1w")
    image.set_sform(None, code=0)
    check_axes(image, path, "T1w")
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    alone = nib.Nifti1Image(_head().astype(np.float32), _tilted(2.5))  # without a qform
    with pytest.raises(
        InputError, match=r"degrees off right angles; [^:]*: convert the image again from the scanner's"
    ):
        check_axes(alone, path, "BOLD")


@pytest.mark.parametrize("kind", ["fieldmap", "epi"])
def test_a_field_map_with_a_sheared_sform_is_one_that_cannot_be_used(tmp_path, kind):
    path = str(_image(tmp_path, _head(), sform=_tilted(2.5)))
    field_map = {"kind": "fieldmap", "files": {"fieldmap": path, "magnitude": path}, "units": "Hz"}
    if kind == "epi":
        field_map = {"kind": "epi", "files": {"epi1": path}, "directions": {"epi1": "j"}, "readouts": {"epi1": 0.03}}
    works = engine("embedded", tmp_path)
    nib.Nifti1Image(_head().astype(np.float32), AFFINE).to_filename(tmp_path / "reference.nii")
    with pytest.raises(InputError, match=r"image\.nii\.gz is sheared: the axes of its voxels are up to 2\.5 degrees"):
        prepare_field(works, tmp_path / "reference.nii", phase_encoding("j-", 0.03), field_map)


def test_a_header_that_does_not_say_how_the_image_lies_is_noted(tmp_path):
    image = nib.load(_image(tmp_path, _head()))
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    path = tmp_path / "analyze.nii.gz"
    image.to_filename(path)
    _, image = read_raw(path, 3, "T1w")
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")  # as the note says
    (note,) = header_notes(image, path, "T1w")
    assert (
        "the header of the T1w analyze.nii.gz does not say how the image lies (sform_code and qform_code are 0)" in note
    )
    assert "from right to left, from back to front and from bottom to top" in note and "convert it again" in note


def test_notes_are_in_the_record_and_in_the_jobs_log_even_of_data_that_fail(tmp_path, capsys):
    outputs = {"record": tmp_path / "out" / "record.json"}
    with processing("embedded", {}, outputs, {}) as (_, facts):
        facts["notes"] = ["the header is odd"]
        raise InputError("it is no head")
    assert read_json(outputs["record"])["notes"] == ["the header is odd"]
    assert capsys.readouterr().out.splitlines() == ["failed: it is no head", "note: the header is odd"]
