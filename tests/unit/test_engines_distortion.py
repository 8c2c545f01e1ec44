"""Distortion along one axis: fields, their signs and their place in the chain of transforms, on images with a known answer."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from distorted_head import distorted as _distorted
from distorted_head import field as _field
from distorted_head import head as _head
from distorted_head import turned as _turned
from fsl_conventions import Recorded
from scipy import ndimage

from restresponse import grid
from restresponse.engines import (
    Distortion,
    Normalisation,
    PhaseEncoding,
    Realignment,
    engine,
    motion,
    shifts,
    unwarping,
    warps,
)
from restresponse.engines import distortion as distorting
from restresponse.engines.array_interfaces import write
from restresponse.engines.warp_interfaces import write_warp

SIZE = np.array([3.0, 3.0, 3.0])


def _gain_by_chance(epi: np.ndarray, t1w: np.ndarray, brain: np.ndarray, region: np.ndarray) -> float:
    """Of a registration along the first axis, in which no field was planted."""
    turned = [np.swapaxes(image, 0, 2) for image in (epi, t1w, brain.astype(np.float32), region)]
    return unwarping.against_anatomy(*turned, SIZE).gain


def test_what_belongs_at_an_index_is_found_at_index_plus_shift_with_its_signal():
    epi, _, brain = _head()
    field = _field(epi.shape)
    distorted = _distorted(epi, field)
    back = shifts.undistorted(distorted, field)
    core = ndimage.binary_erosion(brain, iterations=2)
    assert np.abs(distorted - epi)[core].mean() > 40
    assert np.abs(back - epi)[core].mean() < 12
    np.testing.assert_allclose(back.sum(), epi.sum(), rtol=0.01)


def test_a_field_that_folds_is_made_to_rise():
    field = np.zeros((2, 2, 40), np.float32)
    field[0, 0, 20:] = -6
    field[1, 1] = np.linspace(0, 3, 40)
    flat = shifts.unfolded(field)
    assert (np.diff(np.arange(40) + flat, axis=-1) >= shifts.LEAST_STRETCH - 1e-4).all()
    np.testing.assert_allclose(flat[1, 1], field[1, 1], atol=1e-5)  # no fold, no change


def test_registration_to_the_t1w_finds_a_planted_field_though_the_contrast_is_turned_over():
    epi, t1w, brain = _head()
    field = _field(epi.shape)
    region = ndimage.binary_dilation(brain, iterations=2)
    gain = 1 + 0.2 * np.linspace(-1, 1, epi.shape[0])[:, None, None]
    noise = np.random.default_rng(1).normal(0, 8, epi.shape)
    distorted = (_distorted(epi, field) * gain + noise).astype(np.float32)
    found = unwarping.against_anatomy(distorted, t1w, brain.astype(np.float32), region, SIZE)
    before, after = (np.abs(shift - field)[brain].mean() * SIZE[2] for shift in (0, found.shift))
    assert before > 0.8  # mm
    assert after < 0.6 * before
    assert distorting.beyond_chance(found.gain, _gain_by_chance(distorted, t1w, brain, region))
    again = unwarping.against_anatomy(distorted, t1w, brain.astype(np.float32), region, SIZE)
    np.testing.assert_array_equal(found.shift, again.shift)


def test_registration_without_distortion_moves_next_to_nothing_and_is_refused():
    epi, t1w, brain = _head(2)
    region = ndimage.binary_dilation(brain, iterations=2)
    noisy = (epi + np.random.default_rng(1).normal(0, 8, epi.shape)).astype(np.float32)
    found = unwarping.against_anatomy(noisy, t1w, brain.astype(np.float32), region, SIZE)
    assert np.abs(found.shift)[brain].mean() * SIZE[2] < 0.3
    assert not distorting.beyond_chance(found.gain, _gain_by_chance(noisy, t1w, brain, region))


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_epis_read_out_both_ways_give_the_field(ratio):
    """The other one's readout may be shorter, and its scale of intensities another."""
    epi, _, brain = _head(3)
    field = _field(epi.shape)
    region = ndimage.binary_dilation(brain, iterations=2)
    generator = np.random.default_rng(4)
    one = _distorted(epi, field) + generator.normal(0, 5, epi.shape).astype(np.float32)
    other = 1.4 * (_distorted(epi, -ratio * field) + generator.normal(0, 5, epi.shape).astype(np.float32))
    found = unwarping.against_reversed(one, other, ratio, region, SIZE)
    assert np.abs(field)[brain].mean() * SIZE[2] > 0.8
    assert np.abs(found - field)[brain].mean() * SIZE[2] < 0.15


def _works(tmp_path: Path, image: np.ndarray, affine: np.ndarray, name: str = "embedded") -> tuple[object, Realignment]:
    works = Recorded(tmp_path, answers={}) if name == "fsl" else engine(name, tmp_path)
    reference = write(works.folder / "reference.nii", image.astype(np.float32), affine)
    return works, Realignment(reference, np.zeros((1, 6)), tmp_path / "motion.1D")


@pytest.mark.parametrize(("axis", "sign"), [(2, 1), (2, -1), (1, 1), (0, -1)])
def test_a_field_in_hertz_moves_by_readout_and_sign_along_the_axis(tmp_path, axis, sign):
    epi, _, brain = _head()
    field = _field(epi.shape)
    shown = _distorted(epi, field)
    turn = [np.ascontiguousarray(np.moveaxis(image, 2, axis)) for image in (shown, epi, field, brain)]
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    works, realignment = _works(tmp_path, turn[0], affine)
    hertz = write(works.folder / "hertz.nii", (sign * turn[2] / 0.04).astype(np.float32), affine)
    found = works.unwarp_by_field(tmp_path / "bold.nii", realignment, hertz, PhaseEncoding(axis, sign, 0.04))
    np.testing.assert_allclose(np.asarray(nib.load(found.shift).dataobj), turn[2], atol=1e-5)
    core = ndimage.binary_erosion(turn[3], iterations=2)
    assert np.abs(np.asarray(nib.load(found.reference).dataobj) - turn[1])[core].mean() < 12
    step = works.steps[-1]
    assert (step["step"], step["parameters"]["axis"], step["parameters"]["sign"]) == ("unwarping", axis, sign)
    assert step["parameters"]["largest_mm"] == pytest.approx(3 * np.abs(field).max(), abs=0.01)
    assert works.unwarp_by_field(tmp_path / "bold.nii", realignment, hertz, PhaseEncoding(axis, sign, None)) is None


@pytest.mark.parametrize(("gain", "chance", "taken"), [
    (0.092, 0.087, False), (0.138, 0.093, False), (0.240, 0.106, True),  # phantoms of the paper's size, 0, 1 and 2 mm
    (0.032, 0.064, False),  # a real scan whose field map shows 0.6 mm on average, of voxels of 5 mm
    (0.03, 0.0, False), (0.06, -0.1, True),
])  # fmt: skip
def test_a_field_is_taken_where_it_gains_more_than_one_along_an_axis_without_distortion(gain, chance, taken):
    assert distorting.beyond_chance(gain, chance) == taken


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_axis_without_distortion_is_another(axis):
    assert distorting.undistorted_axis(axis) in {0, 1, 2} - {axis}


@pytest.mark.parametrize("name", ["embedded", "fsl"])  # neither needs a program for it
def test_registration_along_an_axis_of_an_oblique_scan(name, tmp_path):
    """T1w on a finer grid of another world position; the coregistration carries it to the EPI."""
    epi, t1w, brain = _head()
    field = _field(epi.shape)
    shown, planted, inside = (
        np.ascontiguousarray(np.moveaxis(image, 2, 1)) for image in (_distorted(epi, field), field, brain)
    )
    affine = _turned(0, 12) @ np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [40, -60, -30]
    works, realignment = _works(tmp_path, shown, affine, name)
    to_epi = _turned(2, 8, (3, -2, 5))
    t1w_affine = np.linalg.inv(to_epi) @ affine @ np.diag([0.5, 0.5, 0.5, 1])
    fine = [
        ndimage.zoom(np.moveaxis(image, 2, 1).astype(np.float32), 2, order=1, grid_mode=False) for image in (t1w, brain)
    ]
    scale = (np.array(shown.shape) - 1) / (np.array(fine[0].shape) - 1)
    t1w_affine = np.linalg.inv(to_epi) @ affine @ np.diag([*scale, 1])
    write(works.folder / "t1w.nii", fine[0], t1w_affine)
    write(works.folder / "mask.nii", (fine[1] > 0.5).astype(np.uint8), t1w_affine)
    np.savetxt(tmp_path / "coregistration.mat", to_epi)
    found = works.unwarp_by_registration(
        tmp_path / "bold.nii", realignment, tmp_path / "mask.nii", 1, tmp_path / "t1w.nii", tmp_path / "mask.nii",
        tmp_path / "coregistration.mat",
    )  # fmt: skip
    shift = np.asarray(nib.load(found.shift).dataobj)
    assert np.abs(shift - planted)[inside].mean() < 0.6 * np.abs(planted)[inside].mean()
    assert works.steps[-1]["parameters"]["unexplained_after"] < works.steps[-1]["parameters"]["unexplained_before"]


@pytest.mark.parametrize("moving", [True, False])
def test_resampling_goes_through_the_distortion_before_the_motion(tmp_path, moving):
    """Warp, affine, coregistration, shift along the axis, motion: one interpolation, against plain sums, on an oblique scan."""
    works = engine("embedded", tmp_path)
    shape = (40, 42, 30)
    affine = _turned(0, 17) @ _turned(2, -11) @ np.diag([-3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = affine[:3, :3] @ -(np.array(shape) - 1) / 2
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    ramps = (points + 1000).reshape(*shape, 3).astype(np.float32)
    bold = tmp_path / "bold.nii"
    image = nib.Nifti1Image(ramps if moving else ramps[..., 1], affine)
    image.to_filename(bold)
    np.savetxt(tmp_path / "motion.1D", np.tile([3.0, -2.0, 4.0, 2.0, -3.0, 4.0], (3, 1)), fmt="%12.8f")
    coregistration, to_t1w = _turned(0, 6, (2, -3, 1)), _turned(1, 5, (1, 2, -3))
    to_t1w[:3, :3] *= 1.1
    np.savetxt(tmp_path / "coregistration.mat", coregistration)
    np.savetxt(tmp_path / "affine.mat", to_t1w)
    fine_shape, fine = grid.grid(2)
    there = warps.world_of(np.argwhere(np.ones(fine_shape, bool)).astype(float), fine)
    field = np.column_stack([3 + 0.02 * there[:, 1], -2 + 0.01 * there[:, 0], 1.5 - 0.02 * there[:, 2]])
    field = field.reshape(*fine_shape, 3).astype(np.float32)
    normalisation = Normalisation(tmp_path / "affine.mat", write_warp(works.folder / "warp.nii", field, fine))
    index = np.indices(shape)
    shift = (0.8 + 0.03 * (index[0] - 20) - 0.02 * (index[1] - 20)).astype(np.float32)
    distortion = Distortion(bold, write(works.folder / "shift.nii", shift, affine), 1)

    plain = works._plain(bold, "series.nii" if moving else "still.nii")
    frame = affine @ np.linalg.inv(nib.load(plain).affine)
    moved = frame @ motion.from_niimath(np.loadtxt(tmp_path / "motion.1D")[:1], np.zeros(3))[0] @ np.linalg.inv(frame)
    realignment = Realignment(bold, np.zeros((3, 6)), tmp_path / "motion.1D") if moving else None
    out = works.resample(bold, realignment, tmp_path / "coregistration.mat", normalisation, 8, distortion)

    out_shape, out_affine = grid.grid(8)
    target = warps.world_of(np.argwhere(np.ones(out_shape, bool)).astype(float), out_affine)
    at_rest = warps.world_of(target + warps.sample(field, fine, target), coregistration @ to_t1w)
    place = warps.world_of(at_rest, np.linalg.inv(affine))
    place[:, 1] += 0.8 + 0.03 * (place[:, 0] - 20) - 0.02 * (place[:, 1] - 20)
    expected = warps.world_of(place, moved @ affine if moving else affine)
    seen = warps.world_of(expected, np.linalg.inv(affine))
    inside = np.all((seen > 6) & (seen < np.array(shape) - 7), axis=1)
    inside &= np.all((place > 1) & (place < np.array(shape) - 2), axis=1)
    found = np.asarray(nib.load(out).dataobj).reshape(len(target), -1) - 1000
    assert inside.sum() > 250
    np.testing.assert_allclose(found[inside], expected[inside] if moving else expected[inside, 1:2], atol=0.01)
