"""What the synthetic scanner records: slices at their own times, a head that moves, networks, a distorted field."""

import functools

import nibabel as nib
import numpy as np
import pytest

from restresponse.phantom import anatomy, bold, distortion, networks, signals
from restresponse.phantom.settings import EFFECT_SIGNS


@functools.cache
def head_at_rest():
    """A head with a matrix of 6 mm, its networks and the transforms to it."""
    generator = np.random.default_rng(11)
    warp = anatomy.draw_warp(generator)
    to_bold = anatomy.rigid(np.array([2.0, -1, 1]), np.array([0.02, 0, 0.01]), np.zeros(3))
    matrix = bold.draw_matrix(generator, np.array([6.0, 6, 6]), 2.0, warp, to_bold)
    planted = networks.draw_networks(np.random.default_rng(1), True, 0, "amplitude", EFFECT_SIGNS)
    maps, maps_affine = planted.maps(4.0)
    return warp, to_bold, matrix, planted, bold.make_head(matrix, warp, to_bold, maps / 100, maps_affine, generator)


def scan(path, motion, noise=0.0, n_volumes=12, courses=None):
    _, _, matrix, _, head = head_at_rest()
    still = signals.Harmonics(np.array([0.05]), np.zeros((2, 8)), np.zeros(8))
    physiology = signals.draw_physiology(np.random.default_rng(4), 2.0 * n_volumes)
    parameters = bold.acquire(
        path, matrix, head, n_volumes, 2.0, courses or still, physiology, motion, noise, np.random.default_rng(7)
    )
    return nib.load(path).get_fdata(dtype=np.float32), parameters


def test_without_motion_and_noise_every_volume_is_the_same(tmp_path):
    motionless = signals.draw_motion(np.random.default_rng(2), 24.0, 0.0)
    data, parameters = scan(tmp_path / "still.nii.gz", motionless)
    assert np.all(parameters == 0)
    assert not motionless.inside_jerk(2.0 * np.arange(12), 2.0).any()
    assert np.all(data == data[..., :1])
    noisy, _ = scan(tmp_path / "noisy.nii.gz", motionless, noise=1.0, n_volumes=40)
    brain = data[..., 0] > 300
    deviation = (noisy[brain] - data[brain][:, :1]).std(axis=1) / data[brain][:, 0]
    assert 0.003 < np.median(deviation) < 0.015


def test_slices_before_a_movement_are_still_and_those_after_it_are_moved(tmp_path):
    _, _, matrix, _, _ = head_at_rest()
    axis = matrix.affine[:3, 0]  # one voxel along x, in mm of the world

    def moved(times):
        late = times > 2.0 + matrix.slice_times[10] + 1e-6
        return np.concatenate([late[..., None] * axis, np.zeros((*times.shape, 3))], axis=-1)

    data, parameters = scan(tmp_path / "moved.nii.gz", moved, n_volumes=10)
    assert np.all(parameters[1, :11] == 0) and np.all(parameters[1, 11:, :3] == axis)
    np.testing.assert_array_equal(data[:, :, :11, 1], data[:, :, :11, 0])
    after, before = data[1:, :, 11:, 1].ravel(), data[:-1, :, 11:, 0].ravel()
    assert np.corrcoef(after, before)[0, 1] > 0.999  # not 1: the coil's sensitivity stays where it is
    assert np.corrcoef(data[:-1, :, 11:, 1].ravel(), before)[0, 1] < 0.99
    np.testing.assert_array_equal(data[..., 5], data[..., 9])


def test_rotation_is_right_handed_about_the_centre():
    centre = np.array([10.0, 20, 30])
    matrix = anatomy.rigid(np.array([1.0, 2, 3]), np.array([0, 0, np.pi / 2]), centre)
    np.testing.assert_allclose(matrix @ [*centre, 1], [11, 22, 33, 1])
    np.testing.assert_allclose(matrix @ [11, 20, 30, 1], [11, 23, 33, 1], atol=1e-12)
    both = anatomy.rigid(np.zeros(3), np.array([0.1, 0.2, 0.3]), np.zeros(3))
    one = [anatomy.rigid(np.zeros(3), 0.1 * (axis + 1) * np.eye(3)[axis], np.zeros(3)) for axis in range(3)]
    np.testing.assert_allclose(both, one[2] @ one[1] @ one[0], atol=1e-12)


def test_a_network_is_seen_where_it_was_planted_at_its_slices_own_time(tmp_path):
    warp, to_bold, matrix, planted, _ = head_at_rest()
    courses = signals.draw_harmonics(np.random.default_rng(9), 240.0, signals.BAND, 8).scaled(2.0 * np.arange(120))
    data, _ = scan(
        tmp_path / "networks.nii.gz", lambda times: np.zeros((*times.shape, 6)), n_volumes=120, courses=courses
    )
    maps, affine = planted.maps(4.0)
    places = anatomy.apply(np.linalg.inv(to_bold) @ matrix.affine, np.indices(matrix.shape, float).reshape(3, -1))
    index = anatomy.apply(np.linalg.inv(affine), warp.to_mni(places))
    percent = anatomy.interpolate(np.ascontiguousarray(np.moveaxis(maps, 0, -1)), index)
    for network, peak in enumerate(percent.argmax(0)):
        x, y, z = np.unravel_index(peak, matrix.shape)
        series = data[x, y, z] / data[x, y, z].mean() - 1
        own_time = courses(2.0 * np.arange(120) + matrix.slice_times[z])
        assert np.corrcoef(series, own_time[:, network])[0, 1] > 0.95
        expected = own_time @ percent[peak] / 100  # its neighbours' share included
        misfit = (series - expected).std() / expected.std()
        assert misfit < 0.1
        if matrix.slice_times[z] > 0.8:  # s: enough to tell the times apart
            assert (series - courses(2.0 * np.arange(120)) @ percent[peak] / 100).std() / expected.std() > 1.5 * misfit


def test_motion_is_small_smooth_between_jerks_and_zero_at_the_start():
    starts, slices = 2.6 * np.arange(160), np.linspace(0, 2.5, 40)
    largest, within = [], []
    for seed in range(20):
        motion = signals.draw_motion(np.random.default_rng(seed), 416.0, 1.0)
        parameters = motion(starts[:, None] + slices)
        np.testing.assert_allclose(motion(np.zeros(1)), 0)
        jerk = motion.inside_jerk(starts, 2.6)
        assert jerk.any() and jerk.mean() < 0.25
        largest.append([np.abs(parameters[..., :3]).max(), np.rad2deg(np.abs(parameters[..., 3:]).max())])
        within.append(np.ptp(parameters[~jerk][..., :3], axis=1).max())
    assert np.all(np.median(largest, axis=0) < 1.2) and np.max(largest) < 3
    assert np.min(largest) > 0.1
    assert np.max(within) < 0.1


def drawn_distortion(largest):
    warp, to_bold, matrix, _, _ = head_at_rest()
    affine, shape = bold.parallel(matrix, distortion.STEP)
    return distortion.draw_distortion(np.random.default_rng(3), largest, affine, shape, 6.0, warp, to_bold)


def test_the_distortion_is_as_large_as_asked_strongest_at_the_base_and_its_inverse_is_its_inverse():
    warp, to_bold, _, _, _ = head_at_rest()
    found = drawn_distortion(4.0)
    affine = found.affine
    tissues, mni = anatomy.sampled(
        warp, anatomy.tissue_template(), found.displacement.shape[:3], np.linalg.inv(to_bold) @ affine
    )
    brain = tissues[..., :3].sum(-1) > 0.5
    size = np.abs(found.displacement[..., 0])
    assert size[brain].max() == pytest.approx(4.0, rel=1e-5)
    assert mni[brain][size[brain].argmax()][2] < 0  # mm: above the nasal cavity or the ear canals
    assert 0.3 < size[brain].mean() < 1.6
    shown, factor = np.moveaxis(found.backwards(), -1, 0)
    place = np.argwhere(brain)[::50].T.astype(float)
    displaced = anatomy.interpolate(found.displacement, place)[:, 0]
    place[1] += displaced / found.step
    np.testing.assert_allclose(anatomy.interpolate(shown[..., None], place)[:, 0], displaced, atol=0.05)
    assert (factor[brain] > 0.5).all() and (factor[brain] < 1.5).all()
    hertz = found.hertz(anatomy.apply(affine, np.argwhere(brain)[:5].T.astype(float)))
    np.testing.assert_allclose(hertz, -found.displacement[brain][:5, 0] / (6.0 * 0.03), atol=1e-3)


def test_a_distorted_scan_shows_each_place_where_the_field_puts_it_with_its_signal(tmp_path):
    _, _, matrix, _, head = head_at_rest()
    still, silent = (lambda times, n=n: np.zeros((*np.shape(times), n)) for n in (6, 8))
    scans = []
    for index, field in enumerate((None, drawn_distortion(6.0), drawn_distortion(6.0).reversed())):
        path = tmp_path / f"{index}.nii.gz"
        bold.acquire(
            path,
            matrix,
            head,
            1,
            2.0,
            silent,
            lambda times: silent(times)[..., :5],
            still,
            0.0,
            np.random.default_rng(1),
            field,
        )
        scans.append(nib.load(path).get_fdata(dtype=np.float32)[..., 0])
    plain, one, other = scans
    field = drawn_distortion(6.0)
    places = anatomy.apply(matrix.affine, np.indices(matrix.shape, float).reshape(3, -1))
    moved = (
        anatomy.interpolate(field.displacement, anatomy.apply(np.linalg.inv(field.affine), places))[:, 0].reshape(
            matrix.shape
        )
        / 6
    )
    for shown, sign in ((one, 1), (other, -1)):
        index = np.indices(matrix.shape, float)
        index[1] += sign * moved
        back = anatomy.interpolate(shown[..., None], index.reshape(3, -1))[:, 0].reshape(matrix.shape)
        back *= 1 + sign * np.gradient(moved, axis=1)
        assert np.abs(back - plain)[plain > 300].mean() < 0.7 * np.abs(shown - plain)[plain > 300].mean()
        assert shown.sum() == pytest.approx(plain.sum(), rel=0.02)
