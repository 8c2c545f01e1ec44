"""The synthetic cohort: what is planted is what its files hold, and what its truth says."""

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
from restresponse.phantom import anatomy, networks, signals
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
