"""The synthetic cohort: what is planted is what its files hold, and what its truth says."""

import functools
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from restresponse.errors import InputError
from restresponse.files import read_json, read_table
from restresponse.networks import network_names, network_nodes
from restresponse.phantom import anatomy, bold, distortion, networks, signals
from restresponse.phantom.__main__ import main
from restresponse.phantom.cohort import draw_response, make_cohort, participants_table
from restresponse.phantom.settings import EFFECT_SIGNS, CohortSettings
from restresponse.phantom.truth import read_truth

TINY = CohortSettings(
    participants=3,
    responders=3,
    volumes=40,
    bold_voxel_size=(8.0, 8.0, 8.0),
    t1w_voxel_size=6.0,
    truth_voxel_size=8.0,
    seed=5,
)
NAMES = network_names()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A tiny cohort: the BIDS folder and the truth folder."""
    bids = tmp_path_factory.mktemp("phantom") / "bids"
    assert make_cohort(bids, TINY)
    return bids, bids.with_name("bids_truth")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_bids_validator_accepts_it(cohort):
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.is_file():
        pytest.skip(f"bids-validator-deno is not at {validator}: install envs/requirements-test.txt")
    done = subprocess.run([validator, "--json", cohort[0]], capture_output=True, text=True, timeout=120)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0


def test_the_sidecar_says_what_the_image_is(cohort):
    stem = cohort[0] / "sub-01/func/sub-01_task-rest_bold"
    image, sidecar = nib.load(stem.with_suffix(".nii.gz")), read_json(stem.with_suffix(".json"))
    assert image.get_data_dtype() == np.int16
    assert image.shape[3] == 40
    assert image.header.get_zooms()[3] == pytest.approx(sidecar["RepetitionTime"]) == pytest.approx(2.6)
    assert len(sidecar["SliceTiming"]) == image.shape[2]
    assert np.all(np.diff(sidecar["SliceTiming"]) > 0)
    assert max(sidecar["SliceTiming"]) < 2.6
    assert sidecar["TaskName"] == "rest" and {"EchoTime", "PhaseEncodingDirection"} <= set(sidecar)
    np.testing.assert_allclose(image.header.get_qform(), image.header.get_sform(), atol=1e-3)


def test_the_same_seed_makes_the_same_bytes_alone_in_company_and_in_parallel(cohort, tmp_path):
    make_cohort(tmp_path / "bids", replace(TINY, participants=2, responders=2), jobs=2)
    for mine, theirs in ((tmp_path / "bids", cohort[0]), (tmp_path / "bids_truth", cohort[1])):
        for participant in ("sub-01", "sub-02"):
            assert digests(mine / participant) == digests(theirs / participant)
    assert (
        digests(cohort[0] / "sub-01")["anat/sub-01_T1w.nii.gz"]
        != digests(cohort[0] / "sub-02")["anat/sub-02_T1w.nii.gz"]
    )


def test_another_seed_makes_another_head():
    one, two = (anatomy.draw_warp(np.random.default_rng(seed)) for seed in (1, 2))
    assert np.abs(one.displacement - two.displacement).max() > 1


def test_a_cohort_cut_short_is_completed_and_a_whole_one_left_alone(cohort, tmp_path, capsys):
    bids, truth = tmp_path / "bids", tmp_path / "bids_truth"
    shutil.copytree(cohort[0], bids)
    shutil.copytree(cohort[1], truth)
    (bids / "dataset_description.json").unlink()
    (truth / "sub-03/participant.json").unlink()
    (bids / "sub-03/func/sub-03_task-rest_bold.nii.gz").unlink()
    (bids / "sub-02/anat/sub-02_T1w.json").unlink()
    half = bids / "sub-03/func/.123-0a1b2c3d-sub-03_task-rest_bold.nii.gz"
    half.write_bytes(b"half")
    untouched = (bids / "sub-01/anat/sub-01_T1w.nii.gz").stat().st_mtime_ns
    assert make_cohort(bids, TINY)
    assert digests(bids) == digests(cohort[0])
    assert digests(truth) == digests(cohort[1])
    assert (bids / "sub-01/anat/sub-01_T1w.nii.gz").stat().st_mtime_ns == untouched

    before = {path: path.stat().st_mtime_ns for path in bids.rglob("*")}
    assert not make_cohort(bids, TINY)
    assert {path: path.stat().st_mtime_ns for path in bids.rglob("*")} == before


def test_folders_that_hold_anything_else_are_refused_and_kept(cohort, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"full is not empty.*give an empty folder"):
        make_cohort(tmp_path / "full", TINY)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "notes.txt"]
    with pytest.raises(InputError, match=r"other arguments \(seed 5 instead of 6\)"):
        make_cohort(cohort[0], replace(TINY, seed=6))
    with pytest.raises(InputError, match="inside the BIDS folder"):
        make_cohort(tmp_path / "new", TINY, truth=tmp_path / "new/truth")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--responders", "21"], "--responders is 21 of 20 participants; expected 0 to 20"),
        (["--participants", "0", "--responders", "0"], "--participants is 0; expected 1 to 999"),
        (["--volumes", "3"], "--volumes is 3; expected at least 10"),
        (["--bold-voxel-size", "4", "4"], "expected one or three numbers"),
        (["--effect", "-1"], "--effect is -1.0; expected 0"),
        (["--motion", "-1"], "--motion is -1.0; expected a factor"),
    ],
)
def test_requests_that_cannot_be_met_get_a_sentence(arguments, sentence, tmp_path, capsys):
    assert main([str(tmp_path / "bids"), *arguments]) == 1
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(20))
def test_pain_agrees_with_the_30_percent_rule(seed):
    settings = CohortSettings(participants=43, responders=29, seed=seed)
    responders = draw_response(settings)
    rows = participants_table(settings, responders)
    assert responders.sum() == 29
    assert [100 * (row["pain_pre"] - row["pain_post"]) / row["pain_pre"] >= 30 for row in rows] == list(responders)
    assert all(0 < row["pain_pre"] <= 10 and 0 <= row["pain_post"] <= 10 for row in rows)


def test_the_table_is_written_as_drawn(cohort):
    table = read_table(cohort[0] / "participants.tsv")
    assert list(table["participant_id"]) == ["sub-01", "sub-02", "sub-03"]
    assert table.to_dict("records") == participants_table(TINY, draw_response(TINY))


def drawn(seed, responder, effect, effect_on="amplitude"):
    return networks.draw_networks(np.random.default_rng(seed), responder, effect, effect_on, EFFECT_SIGNS)


def test_a_null_cohort_has_no_difference():
    for effect_on in ("amplitude", "map"):
        one, other = drawn(3, True, 0, effect_on), drawn(3, False, 0, effect_on)
        for name in ("amplitudes", "weights", "centres", "radii"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_an_effect_on_amplitude_is_the_stated_ratio_in_the_stated_networks():
    one, other = drawn(3, True, 0.5), drawn(3, False, 0.5)
    ratio = dict(zip(NAMES, one.amplitudes / other.amplitudes, strict=True))
    assert ratio.pop("DefaultMode") == pytest.approx(1.5)
    assert ratio.pop("SensoriMotor") == pytest.approx(1 / 1.5)
    assert set(ratio.values()) == {1.0}
    np.testing.assert_array_equal(one.weights, other.weights)


def test_an_effect_on_the_map_changes_half_of_the_nodes_and_no_amplitude():
    one, other = drawn(3, True, 0.5, "map"), drawn(3, False, 0.5, "map")
    np.testing.assert_array_equal(one.amplitudes, other.amplitudes)
    changed = {
        node[:2]: ratio
        for node, ratio in zip(network_nodes(), one.weights / other.weights, strict=True)
        if not np.isclose(ratio, 1)
    }
    assert changed == pytest.approx(
        {
            ("DefaultMode", "MPFC"): 1.5,
            ("DefaultMode", "LP (L)"): 1.5,
            ("SensoriMotor", "Lateral (L)"): 1 / 1.5,
            ("SensoriMotor", "Lateral (R)"): 1 / 1.5,
        }
    )


def test_the_default_effect_ranks_first_in_a_cohort_of_20():
    first = []
    for seed in range(100):
        amplitudes = np.array(
            [drawn([seed, index], index < 13, CohortSettings().effect).amplitudes for index in range(20)]
        )
        t = stats.ttest_ind(amplitudes[:13], amplitudes[13:], equal_var=False).statistic
        first.append({NAMES[index] for index in np.argsort(-np.abs(t))[:2]} == set(EFFECT_SIGNS))
    assert np.mean(first) >= 0.95


def test_time_courses_lie_in_the_band_and_have_unit_variance(cohort):
    truth = read_truth(cohort[1], "sub-01")
    np.testing.assert_allclose(truth.time_courses_middle.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(truth.time_courses_middle.std(0), 1, rtol=1e-6)
    assert truth.harmonics.frequencies.min() >= 0.01 and truth.harmonics.frequencies.max() <= 0.08
    starts = 2.6 * np.arange(40)
    np.testing.assert_allclose(truth.harmonics(starts), truth.time_courses_start, atol=1e-8)
    np.testing.assert_allclose(truth.harmonics(starts + 1.3), truth.time_courses_middle, atol=1e-8)
    long = signals.draw_harmonics(np.random.default_rng(0), 2000, signals.BAND, 8)(np.arange(0, 2000, 2.0))
    power = np.abs(np.fft.rfft(long * np.hanning(1000)[:, None], axis=0)) ** 2
    frequencies = np.fft.rfftfreq(1000, 2.0)
    assert power[(frequencies > 0.009) & (frequencies < 0.081)].sum() / power.sum() > 0.99


def test_the_warp_is_one_to_one_and_its_inverse_is_true(cohort):
    truth = read_truth(cohort[1], "sub-02")
    generator = np.random.default_rng(0)
    mni = generator.uniform([[-70], [-100], [-65]], [[70], [70], [80]], (3, 2000))
    back = truth.t1w_to_mni(truth.mni_to_t1w(mni))
    assert np.linalg.norm(back - mni, axis=0).max() < 0.01
    steps = [truth.mni_to_t1w(mni + 0.5 * axis[:, None]) - truth.mni_to_t1w(mni) for axis in np.eye(3)]
    assert np.linalg.det(np.stack(steps, axis=-1).transpose(1, 0, 2) / 0.5).min() > 0.2


def test_both_images_show_the_head_where_the_truth_says(cohort):
    truth = read_truth(cohort[1], "sub-01")
    maps, affine = anatomy.tissue_template()
    for kind, name, to_t1w in (
        ("anat", "T1w", np.eye(4)),
        ("func", "task-rest_bold", np.linalg.inv(truth.coregistration)),
    ):
        image = nib.load(cohort[0] / f"sub-01/{kind}/sub-01_{name}.nii.gz")
        data = image.get_fdata(dtype=np.float32)
        data = data.mean(-1) if data.ndim == 4 else data
        places = anatomy.apply(to_t1w @ image.affine, np.indices(data.shape, float).reshape(3, -1))
        tissue = anatomy.interpolate(maps, anatomy.apply(np.linalg.inv(affine), truth.t1w_to_mni(places)))
        depth = tissue[:, 3].reshape(data.shape)
        white, fluid = (data.ravel()[tissue[:, column] > 0.9] for column in (1, 2))
        assert np.median(data[depth < -4]) > 5 * np.median(data[depth > 25])
        if fluid.size:  # coarse images may have no voxel of fluid alone
            assert np.sign(np.median(fluid) - np.median(white)) == (1 if kind == "func" else -1)
    offset = truth.coregistration @ [*truth.centre, 1] - [*truth.centre, 1]
    assert 0.1 < np.linalg.norm(offset[:3]) < 10


@functools.cache
def head_at_rest():
    """A head with a matrix of 6 mm, its networks and the transforms to it."""
    generator = np.random.default_rng(11)
    warp = anatomy.draw_warp(generator)
    to_bold = anatomy.rigid(np.array([2.0, -1, 1]), np.array([0.02, 0, 0.01]), np.zeros(3))
    matrix = bold.draw_matrix(generator, np.array([6.0, 6, 6]), 2.0, warp, to_bold)
    planted = drawn(1, True, 0)
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


def test_the_truth_tells_the_motion_that_was_scanned(cohort):
    truth = read_truth(cohort[1], "sub-03")
    assert truth.motion_slices.shape == (40, len(truth.facts["slice_times"]), 6)
    np.testing.assert_allclose(truth.motion, truth.motion_slices.mean(axis=1), atol=1e-8)
    assert truth.motion_matrices().shape == (40, 4, 4)
    with pytest.raises(InputError, match="sub-99"):
        read_truth(cohort[1], "sub-99")


@pytest.mark.parametrize("field_map", ["phasediff", "epi"])
def test_field_maps_are_valid_bids_and_say_for_which_scan_they_are(tmp_path, field_map):
    settings = replace(TINY, participants=1, responders=1, volumes=10, distortion=4.0, field_map=field_map)
    make_cohort(tmp_path / "bids", settings)
    folder = tmp_path / "bids/sub-01"
    sidecars = {path.name.removesuffix(".json"): read_json(path) for path in sorted((folder / "fmap").glob("*.json"))}
    names = {"phasediff": ["magnitude1", "magnitude2", "phasediff"], "epi": ["dir-AP_epi", "dir-PA_epi"]}[field_map]
    assert list(sidecars) == [f"sub-01_{name}" for name in names]
    for name, sidecar in sidecars.items():
        assert sidecar["IntendedFor"] == ["bids::sub-01/func/sub-01_task-rest_bold.nii.gz"]
        assert nib.load(folder / "fmap" / f"{name}.nii.gz").shape[:3] > (20, 20, 20)
    scan = read_json(folder / "func/sub-01_task-rest_bold.json")
    assert (scan["PhaseEncodingDirection"], scan["TotalReadoutTime"]) == ("j-", 0.03)
    if field_map == "epi":
        assert [sidecar["PhaseEncodingDirection"] for sidecar in sidecars.values()] == ["j-", "j"]
    else:
        assert 0 < sidecars["sub-01_phasediff"]["EchoTime1"] < sidecars["sub-01_phasediff"]["EchoTime2"]
    assert not make_cohort(tmp_path / "bids", settings)
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.is_file():
        pytest.skip(f"bids-validator-deno is not at {validator}: install envs/requirements-test.txt")
    done = subprocess.run([validator, "--json", tmp_path / "bids"], capture_output=True, text=True, timeout=120)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_without_distortion_and_field_map_a_cohorts_record_and_sidecar_are_as_ever(cohort):
    assert {"distortion", "field_map"}.isdisjoint(TINY.record())
    assert replace(TINY, distortion=2.0).record()["distortion"] == 2.0
    assert "TotalReadoutTime" not in read_json(cohort[0] / "sub-01/func/sub-01_task-rest_bold.json")
    assert not (cohort[0] / "sub-01/fmap").exists() and not (cohort[1] / "sub-01/distortion.nii.gz").exists()
    for wrong in ({"distortion": 13.0}, {"field_map": "gre"}):
        with pytest.raises(InputError, match=r"--(distortion|field-map) is"):
            replace(TINY, **wrong)


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
