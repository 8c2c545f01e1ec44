"""Distortion of phantom scans: planted, and found again by field map, by reversed EPIs and by registration."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from distorted_phantom import PHASE, Scan
from scipy import ndimage

from restresponse.engines import Distortion, EngineFailure, PhaseEncoding, Realignment, engine
from restresponse.engines import distortion as distorting
from restresponse.engines.array_interfaces import write
from restresponse.functional import fieldmaps
from restresponse.functional.unwarping import files_of, phase_encoding, read_field_map, unwarped


@pytest.fixture(scope="module")
def with_phases(tmp_path_factory) -> Scan:
    return Scan(tmp_path_factory.mktemp("phases"), 4.0, "phasediff")


@pytest.fixture(scope="module")
def with_epis(tmp_path_factory) -> Scan:
    return Scan(tmp_path_factory.mktemp("epis"), 4.0, "epi")


def test_a_phase_difference_leaves_little_of_the_distortion(with_phases):
    scan = with_phases
    _, _, plain = scan.unwarped("none", scan.phase_difference())
    assert scan.works.steps[0]["method"] == "Susceptibility distortion was not corrected (switched off)."
    before = scan.error(plain, None)
    distortion, mask, coregistration = scan.unwarped("auto", scan.phase_difference())
    assert [step["step"] for step in scan.works.steps] == [
        "field map",
        "unwarping",
        "functional mask",
        "coregistration",
    ]
    after = scan.error(coregistration, distortion.shift)
    assert before > 0.8
    assert after < 0.45
    assert (nib.load(mask).affine == scan.affine).all()


def test_reversed_epis_do_too(with_epis):
    scan = with_epis
    distortion, _, coregistration = scan.unwarped("fieldmap", scan.reversed_epis())
    assert scan.works.steps[0]["parameters"]["kind"] == "epi"
    assert scan.error(coregistration, distortion.shift) < 0.5


def test_reversed_epis_stored_along_other_axes_make_the_same_field(with_epis, tmp_path):
    """PhaseEncodingDirection speaks of each file's own voxel axes; theirs may be turned against the scan's."""
    scan, plain = with_epis, with_epis.reversed_epis()
    found = []
    turned = plain | {"files": dict(plain["files"]), "directions": {"epi1": "i", "epi2": "j-"}}
    for name, order, to in (("epi1", [[1, 1], [0, -1], [2, 1]], "i"), ("epi2", [[0, -1], [1, -1], [2, 1]], "j")):
        image = nib.load(plain["files"][name]).as_reoriented(np.array(order))
        assert nib.aff2axcodes(image.affine) == (("P", "R", "S") if to == "i" else ("L", "P", "S"))
        turned["files"][name] = str(tmp_path / f"{name}.nii")
        image.to_filename(turned["files"][name])
    for field_map in (
        plain,
        turned,
        plain | {"files": {"epi2": turned["files"]["epi2"]}, "directions": {"epi2": "j-"}},
    ):
        path = fieldmaps.prepare_field(scan.works, scan.realignment.reference, PHASE, field_map)
        found.append(np.asarray(nib.load(path).dataobj).copy())
    inside = np.abs(found[0]) > 20  # Hz
    np.testing.assert_allclose(found[1], found[0], atol=0.05)
    assert np.corrcoef(found[2][inside], found[0][inside])[0, 1] > 0.8  # one EPI, against the scan itself
    wrong = plain | {"files": {"epi2": turned["files"]["epi2"]}, "directions": {"epi2": "j"}}
    with pytest.raises(EngineFailure, match="read out against the scan; found j on their images' axes"):
        fieldmaps.prepare_field(scan.works, scan.realignment.reference, PHASE, wrong)


def test_registration_does_without_a_field_map_and_says_why(with_epis):
    scan = with_epis
    _, _, plain = scan.unwarped("none", None)
    before = scan.error(plain, None)
    distortion, _, coregistration = scan.unwarped("auto", None)
    after = scan.error(coregistration, distortion.shift)
    assert after < min(0.85, 0.65 * before)  # coarse voxels; with the study's, less than half is left
    steps = scan.works.steps
    assert [step["step"] for step in steps] == ["unwarping", "functional mask", "coregistration"]
    assert steps[0]["parameters"]["no_field_map"] == "there is no field map for the scan"
    assert "restricted to the phase-encoding axis" in steps[0]["method"]


def test_time_for_what_did_not_stay_is_the_steps_that_needed_it(tmp_path):
    works = engine("embedded", tmp_path)
    with works.step("coregistration", "a program", "1", {}, "Registered."):
        time.sleep(0.02)
    superseded = [works.steps.pop()]
    with works.step("unwarping", "a program", "1", {}, "Unwarped."):
        pass
    works.charge(0, superseded)
    assert works.steps[0]["seconds"] >= 0.02 and len(works.steps) == 1


def test_motion_alone_is_for_who_asks_for_it_and_where_registration_finds_nothing(with_epis, monkeypatch):
    """SPM's Realign & Unwarp leaves the distortion itself, which the registration finds."""
    scan = with_epis
    still = write(scan.works.folder / "still.nii", np.zeros(nib.load(scan.bold).shape[:3], np.float32), scan.affine)
    of_motion = Distortion(scan.realignment.reference, still, 1)

    def with_motion(bold: Path, realignment: Realignment, axis: int) -> Distortion:
        assert (bold, realignment, axis) == (scan.bold, scan.realignment, 1)
        with scan.works.step("unwarping", "a program", "1", {}, "Motion was unwarped."):
            return of_motion

    assert scan.unwarped("motion", None)[0] is None
    assert scan.works.steps[0]["parameters"]["why"] == "the engine embedded cannot unwarp with motion alone"
    monkeypatch.setattr(scan.works, "unwarp_with_motion", with_motion)
    distortion = scan.unwarped("auto", None)[0]
    assert distortion is not of_motion and np.asarray(nib.load(distortion.shift).dataobj).any()
    assert scan.unwarped("motion", None)[0] is of_motion
    assert scan.works.steps[0]["parameters"] == {}

    monkeypatch.setattr(distorting, "beyond_chance", lambda gain, chance: False)
    assert scan.unwarped("registration", None)[0] is None
    assert scan.unwarped("auto", None)[0] is of_motion
    steps = scan.works.steps
    assert [step["step"] for step in steps] == ["unwarping", "functional mask", "coregistration"]
    assert steps[0]["method"] == "Motion was unwarped."
    assert steps[0]["parameters"]["no_field_map"] == "there is no field map for the scan"
    assert "hardly more than one along an axis" in steps[0]["parameters"]["registration"]["why"]
    assert steps[0]["cpu_seconds"] > steps[2]["cpu_seconds"]  # with the first coregistration and the registration


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_second_look_does_not_confirm_leaves_the_first_registration(with_epis, monkeypatch, lost):
    scan = with_epis
    _, mask, coregistration = scan.unwarped("none", None)
    before = [np.asarray(nib.load(mask).dataobj).copy(), np.loadtxt(coregistration)]
    monkeypatch.setattr(scan.works, "passes", 2)
    answers = iter([True, False])
    monkeypatch.setattr(distorting, "beyond_chance", lambda gain, chance: next(answers))
    if lost:
        register = scan.works.coregister

        def lose(*images: Path) -> Path:
            register(*images)
            raise EngineFailure("the EPI's brain is elsewhere")

        monkeypatch.setattr(scan.works, "coregister_undistorted", lose)
    distortion, mask, coregistration = scan.unwarped("auto", None)
    assert distortion is None
    steps = scan.works.steps
    assert [step["step"] for step in steps] == ["unwarping", "functional mask", "coregistration"]
    words = "the EPI's brain is elsewhere" if lost else "hardly more than one along an axis without distortion"
    assert steps[0]["tool"] == "none" and words in steps[0]["method"]
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), before[0])
    np.testing.assert_array_equal(np.loadtxt(coregistration), before[1])


def test_a_field_map_that_cannot_be_used_is_passed_over_or_fails_the_scan(with_epis, tmp_path):
    scan = with_epis
    (tmp_path / "epi.nii.gz").write_bytes(b"not an image")
    broken = scan.reversed_epis()
    broken["files"] = {name: str(tmp_path / "epi.nii.gz") for name in broken["files"]}
    distortion, _, _ = scan.unwarped("auto", broken)
    assert distortion is not None
    assert "the field map could not be used" in scan.works.steps[0]["parameters"]["no_field_map"]
    with pytest.raises(EngineFailure, match=r"functional\.unwarp is fieldmap, but the field map could not be used"):
        scan.unwarped("fieldmap", broken)
    with pytest.raises(EngineFailure, match="there is no field map for the scan"):
        scan.unwarped("fieldmap", None)


@pytest.mark.parametrize("instead", ["registration", "nothing found", "nothing"])
def test_time_spent_on_a_field_map_that_came_to_nothing_is_the_unwarpings(with_phases, monkeypatch, instead):
    scan, field_map = with_phases, with_phases.phase_difference()

    def lose(*images: object) -> None:
        time.sleep(0.5)
        raise EngineFailure("the field folds everywhere")

    monkeypatch.setattr(scan.works, "unwarp_by_field", lose)
    monkeypatch.setattr(distorting, "beyond_chance", lambda gain, chance: instead == "registration")
    if instead == "nothing":
        monkeypatch.setattr(scan.works, "unwarp_by_registration", lambda *images: None)
    distortion = scan.unwarped("auto", field_map)[0]
    assert (distortion is not None) == (instead == "registration")
    steps = scan.works.steps
    assert [step["step"] for step in steps] == ["unwarping", "functional mask", "coregistration"]
    assert steps[0]["seconds"] > 0.5 and steps[0]["cpu_seconds"] > 0.01
    assert "the field map could not be used (the field folds everywhere)" in json.dumps(steps[0]["parameters"])


def test_without_the_scale_of_its_phases_a_field_map_is_passed_over(with_phases, tmp_path):
    scan, field_map = with_phases, with_phases.phase_difference()
    image = nib.load(field_map["files"]["phasediff"])
    stored = str(tmp_path / "percent.nii")
    nib.Nifti1Image((np.asarray(image.dataobj) / 40.96).astype(np.float32), image.affine).to_filename(stored)
    field_map["files"]["phasediff"] = stored
    scan.unwarped("auto", field_map)
    assert f"the field map could not be used ({stored} has values from" in json.dumps(scan.works.steps)


def test_without_a_known_direction_nothing_is_done(with_epis):
    scan = with_epis
    scan.works.steps.clear()
    distortion, _, _ = unwarped(
        scan.works, scan.bold, scan.realignment, scan.t1w, scan.mask, None, "auto", scan.reversed_epis()
    )
    assert distortion is None
    assert "the phase-encoding direction is not known" in scan.works.steps[0]["method"]


def test_cells_of_the_scans_table():
    assert phase_encoding("j-", "n/a") == PhaseEncoding(1, -1, None)
    assert phase_encoding("i", 0.05) == PhaseEncoding(0, 1, 0.05)
    assert phase_encoding("n/a", 0.05) is None and phase_encoding(None, None) is None
    cell = {"kind": "fieldmap", "files": {"fieldmap": "a", "magnitude": "b"}, "units": "Hz"}
    assert read_field_map(json.dumps(cell)) == cell and files_of(cell) == ["a", "b"]
    assert read_field_map("n/a") is None and files_of(None) == []


WRAPPED = np.linspace(-np.pi, np.pi * 0.999, 200)


@pytest.mark.parametrize(
    ("stored", "turn", "expected"),
    [
        (WRAPPED, [-np.pi, np.pi], WRAPPED),
        (WRAPPED / 3, [-np.pi, np.pi], WRAPPED / 3),
        (WRAPPED + np.pi, [0, 2 * np.pi], WRAPPED + np.pi),
        *((np.rint(WRAPPED / np.pi * 2**n), [-(2**n), 2**n - 1], WRAPPED) for n in (11, 12, 15)),
        *((np.rint((WRAPPED / np.pi + 1) * 2**n), [0, 2 ** (n + 1) - 1], WRAPPED) for n in (11, 12, 13)),
        (np.rint(WRAPPED * 0.98 / np.pi * 4096), [-4096, 4095], 0.98 * WRAPPED),
        (np.rad2deg(0.92 * WRAPPED), [-180, 180], 0.92 * WRAPPED),
        (np.rint(1e3 * WRAPPED), [-1e3 * np.pi, 1e3 * np.pi], WRAPPED),
        (1e3 * (WRAPPED + np.pi), [0, 2e3 * np.pi], WRAPPED + np.pi),
        (np.rad2deg(WRAPPED), [-180, 180], WRAPPED),
        (np.rad2deg(WRAPPED) + 180, [0, 360], WRAPPED + np.pi),
    ],
)
def test_phases_of_scanners_are_brought_to_radians(stored, turn, expected):
    found, taken = fieldmaps.radians(stored)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(taken, turn)


@pytest.mark.parametrize(
    "stored",
    [
        np.linspace(-4, 9, 200),  # unwrapped
        np.linspace(-700, 5000, 200),
        np.linspace(0, 3000, 200),
        np.linspace(-2600, 2600, 200),
        np.linspace(-1956, 1956, 200),  # of -4096 to 4095, masked and without wraps
        100 * WRAPPED / np.pi,
        WRAPPED / np.pi,
        np.linspace(0, 1, 200),
    ],
)
def test_a_phase_in_a_scale_that_is_not_known_is_no_field(stored):
    words = (
        rf"air\.nii has values from {stored.min():g} to {stored.max():g}, .*; expected radians over a turn, 0 to 4095"
    )
    with pytest.raises(EngineFailure, match=words):
        fieldmaps.radians(stored, "air.nii")


@pytest.mark.parametrize("kind", ["phasediff", "phases", "fieldmap"])
def test_a_field_of_several_turns_comes_back_in_hertz(tmp_path, kind):
    """500 Hz over the head at echoes 2.46 ms apart wrap; the same field as one difference, as two phases, and ready-made."""
    works = engine("embedded", tmp_path)
    shape = (40, 44, 36)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    place = np.argwhere(np.ones(shape, bool)) - (np.array(shape) - 1) / 2
    radius = np.linalg.norm(place / [15, 18, 14], axis=1).reshape(shape)
    hertz = (500 * np.exp(-0.5 * ((place - [0, 8, -4]) ** 2).sum(axis=1) / 8**2)).reshape(shape) - 30
    generator = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(generator.standard_normal(shape), 2)
    magnitude = np.where(radius < 1, 800 + 2000 * texture, 0) + 10 * generator.random(shape)
    noise = np.where(radius < 1, 0.05, 3)
    echoes = [2 * np.pi * hertz * echo + noise * generator.standard_normal(shape) for echo in (0.00492, 0.00738)]
    images = {"magnitude1": magnitude, "magnitude": magnitude, "fieldmap": 2 * np.pi * hertz}
    images |= {"phase1": np.angle(np.exp(1j * echoes[0])), "phase2": np.angle(np.exp(1j * echoes[1]))}
    images["phasediff"] = np.rint(4096 / np.pi * np.angle(np.exp(1j * (echoes[1] - echoes[0]))))
    files = {
        name: str(write(works.folder / f"{name}.nii", data.astype(np.float32), affine)) for name, data in images.items()
    }
    wanted = {
        "phasediff": ("phasediff", "magnitude1"),
        "phases": ("phase1", "phase2", "magnitude1"),
        "fieldmap": ("fieldmap", "magnitude"),
    }
    field_map = {"kind": kind, "files": {name: files[name] for name in wanted[kind]}}
    field_map |= {"echo_times": [0.00492, 0.00738], "units": "rad/s"}
    reference = write(works.folder / "reference.nii", (1.5 * magnitude).astype(np.float32), affine)
    found = np.asarray(nib.load(fieldmaps.prepare_field(works, reference, PHASE, field_map)).dataobj)
    inside = radius < 0.85
    assert np.abs(hertz[inside]).max() > 1 / (2 * 0.00246)
    assert np.abs(found - hertz)[inside].mean() < 8
    assert np.abs(found[radius > 1.1]).max() < 520  # carried on beyond the brain, no noise of the air
    (step,) = works.steps
    assert step["step"] == "field map" and step["parameters"]["kind"] == kind
    # mask, unwrapping and registration, the programs' time with ours
    assert step["seconds"] > 0 and step["cpu_seconds"] > 0
    assert step["method"].endswith("It was carried to the EPI reference by rigid registration.")
    np.testing.assert_allclose(step["parameters"]["to_reference"], np.eye(4), atol=0.5)
    pi = np.pi
    turns = {"phasediff": {"phasediff": [-4096, 4095]}, "phases": {"phase1": [-pi, pi], "phase2": [-pi, pi]}}
    assert step["parameters"].get("turn") == turns.get(kind)
