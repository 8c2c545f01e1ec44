"""What the engine SPM gives to Realign & Unwarp and takes from it, with a program that acts as SPM; no SPM is needed."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from distorted_head import distorted, field, head, turned
from engine_watch import voxels_in_interfaces_alone
from scipy.io import loadmat

from restresponse.engines import PhaseEncoding, Realignment, engine
from restresponse.engines import distortion as distorting
from restresponse.engines.array_interfaces import write
from restresponse.engines.spm import Spm
from restresponse.functional.unwarping import unwarped

# It keeps what it is given. Realign & Unwarp gives the series back with the mean that lies ready; Coregister moves the
# source to the place that lies ready as a header.
ACTS_AS_SPM = r"""#!/bin/sh
set -e
for script; do :; done
cd "$(dirname "$script")"
echo 'SPM version: SPM12 Release: 7771'
if grep -q spatial.coreg "$script"; then
    dd if=registered.hdr of=moving.nii bs=348 count=1 conv=notrunc 2>/dev/null
    echo coregistered >> calls.txt
else
    cp "$script" given.m
    for name in unwarp.nii unwarp.mat vdm5_unwarp.nii; do
        if [ -e "$name" ]; then cp "$name" "given_$name"; fi
    done
    cp unwarp.nii uunwarp.nii
    cp mean.nii meanuunwarp.nii
    echo '0 0 0 0 0 0' > rp_unwarp.txt
fi
"""
READOUT = 0.04  # s
MOTION = np.array([[0.0, 0, 0, 0, 0, 0], [2.0, -1.0, 0.5, 0, 0, 0]])  # rows of rp_*.txt, without rotations


def _spm(folder: Path) -> dict:
    program = folder / "spm.sh"
    program.write_text(ACTS_AS_SPM)
    program.chmod(0o755)
    return {"command": f"{program} /opt/mcr script", "use_mcr": True, "folder": None}


def _second(image: np.ndarray, axis: int) -> np.ndarray:
    """An image with its phase-encoding axis as the second one."""
    order = [0, 1, 2, *range(3, image.ndim)]
    order[1], order[axis] = order[axis], order[1]
    return image.transpose(order)


@pytest.fixture(autouse=True)
def _watched():
    with voxels_in_interfaces_alone(Spm):
        yield


class Scan:
    """Two volumes and a field map of noise on an oblique grid whose axes all differ in length and voxel size."""

    shape = (5, 6, 7)

    def __init__(self, folder: Path, axis: int) -> None:
        generator = np.random.default_rng(axis)
        self.affine = turned(0, 17) @ turned(2, -11) @ np.diag([-3.0, 3.5, 4.0, 1.0])
        self.affine[:3, 3] = [40, -60, -30]
        self.works = engine("spm", folder, _spm(folder))
        self.series = generator.uniform(100, 900, (*self.shape, 2)).astype(np.float32)
        self.mean = generator.uniform(100, 900, self.shape).astype(np.float32)
        self.hertz = generator.uniform(-60, 60, self.shape).astype(np.float32)
        self.bold = write(self.works.folder / "bold.nii", self.series, self.affine)
        np.savetxt(folder / "rp_series.txt", MOTION)
        self.realignment = Realignment(self.bold, np.zeros((2, 6)), folder / "rp_series.txt")
        ready = _second(self.mean, axis).copy()
        ready[0, 0, 0] = np.nan  # SPM's value where a volume has none
        self.mean[0, 0, 0] = 0
        write(self.works.folder / "mean.nii", ready, np.eye(4))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_field_map_reaches_spm_as_shifts_in_voxels_along_its_second_axis(tmp_path, axis, sign):
    """Manual, field map toolbox: a voxel displacement map is in voxels along the phase-encoding axis, which is y."""
    scan = Scan(tmp_path, axis)
    hertz = write(scan.works.folder / "hertz.nii", scan.hertz, scan.affine)
    phase = PhaseEncoding(axis, sign, READOUT)
    found = scan.works.unwarp_by_field(scan.bold, scan.realignment, hertz, phase)

    shift = scan.hertz * READOUT * sign
    series, displacements = (nib.load(tmp_path / f"given_{name}") for name in ("unwarp.nii", "vdm5_unwarp.nii"))
    np.testing.assert_allclose(np.asarray(displacements.dataobj), _second(shift, axis), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(series.dataobj), _second(scan.series, axis))
    for image in (series, displacements):
        np.testing.assert_allclose(image.affine[:3, 1], scan.affine[:3, axis], atol=1e-5)
        at = image.affine @ [*_second(np.arange(24).reshape(2, 3, 4), axis).shape, 1]  # a place by its indices
        np.testing.assert_allclose(at, scan.affine @ [2, 3, 4, 1], atol=1e-4)
    assert f"{tmp_path}/vdm5_unwarp.nii,1" in (tmp_path / "given.m").read_text()
    # SPM counts voxels from 1, and the realignment is where it starts
    places = loadmat(tmp_path / "given_unwarp.mat")["mat"]
    for volume, row in enumerate(MOTION):
        expected = series.affine @ [3, 2, 1, 1] + [*row[:3], 0]
        np.testing.assert_allclose(places[..., volume] @ [4, 3, 2, 1], expected, atol=1e-4)

    assert found.axis == axis
    for path, values in ((found.series, scan.series), (found.reference, scan.mean), (found.shift, shift)):
        image = nib.load(path)
        np.testing.assert_allclose(np.asarray(image.dataobj), values, rtol=1e-5)
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
    [step] = scan.works.steps
    assert (step["step"], step["tool"], step["version"]) == ("unwarping", "SPM", "SPM12 7771")
    assert {name: step["parameters"][name] for name in ("axis", "sign", "readout_s")} == {
        "axis": axis,
        "sign": sign,
        "readout_s": READOUT,
    }


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_without_a_field_map_spm_is_given_no_displacement_and_the_shift_is_zero(tmp_path, axis):
    scan = Scan(tmp_path, axis)
    found = scan.works.unwarp_with_motion(scan.bold, scan.realignment, axis)
    assert "vdm5" not in (tmp_path / "given.m").read_text() and not (tmp_path / "given_vdm5_unwarp.nii").exists()
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "given_unwarp.nii").dataobj), _second(scan.series, axis)
    )
    np.testing.assert_allclose(np.asarray(nib.load(found.series).dataobj), scan.series)
    shift = nib.load(found.shift)
    assert shift.shape == scan.shape and not np.asarray(shift.dataobj).any()


class Head:
    """A head with a field planted along its last axis; the EPI given to the engine lies elsewhere than its T1w."""

    axis = 2

    def __init__(self, folder: Path, largest: float, registered: np.ndarray) -> None:
        """`registered`: (4, 4), from the EPI's world to where Coregister takes it for the T1w's."""
        epi, t1w, self.brain = head()
        self.planted = field(epi.shape, largest)
        shown = distorted(epi, self.planted)
        noise = np.random.default_rng(1).normal(0, 8, (*epi.shape, 2)).astype(np.float32)
        self.affine = turned(0, 12) @ np.diag([-3.0, 3.0, 3.0, 1.0])
        self.affine[:3, 3] = [40, -60, -30]
        self.folder, self.works = folder, engine("spm", folder, _spm(folder))
        self.bold = write(self.works.folder / "bold.nii", shown[..., None] + noise, self.affine)
        self.reference = write(self.works.folder / "reference.nii", shown + noise.mean(axis=3), self.affine)
        np.savetxt(folder / "rp_series.txt", MOTION)
        t1w_affine = np.linalg.inv(TO_EPI) @ self.affine
        self.t1w = write(self.works.folder / "t1w.nii", t1w.astype(np.float32), t1w_affine)
        self.mask = write(self.works.folder / "mask.nii", self.brain.astype(np.uint8), t1w_affine)
        moving = nib.Nifti1Image(np.zeros(epi.shape, np.float32), registered @ self.affine)
        moving.header.set_xyzt_units("mm", "sec")
        (folder / "registered.hdr").write_bytes(moving.to_bytes()[:348])
        write(self.works.folder / "mean.nii", _second(epi, self.axis).astype(np.float32), np.eye(4))

    def unwarped(self, coregistration: np.ndarray):
        np.savetxt(self.folder / "coregistration.txt", coregistration)
        realignment = Realignment(self.reference, np.zeros((2, 6)), self.folder / "rp_series.txt")
        return self.works.unwarp_by_registration(
            self.bold, realignment, self.mask, self.axis, self.t1w, self.mask, self.folder / "coregistration.txt"
        )


TO_EPI = turned(2, 5, (3, -2, 5))  # from the T1w's world to the EPI's
OFF = turned(0, 0, (0.4, 0.0, 0.8)) @ TO_EPI  # what a distorted reference makes of it


def test_the_field_of_a_second_look_at_the_images_reaches_spm(tmp_path):
    scan = Head(tmp_path, 1.6, np.linalg.inv(TO_EPI))
    spent = sum(os.times()[:4])
    found = scan.unwarped(OFF)
    spent = sum(os.times()[:4]) - spent
    assert (tmp_path / "calls.txt").read_text().split() == ["coregistered"]

    once, twice = (
        distorting.match_to_anatomy(scan.reference, scan.axis, scan.t1w, scan.mask, coregistration).shift
        for coregistration in (OFF, TO_EPI)
    )
    given = nib.load(tmp_path / "given_vdm5_unwarp.nii")
    np.testing.assert_allclose(np.asarray(given.dataobj), _second(twice, scan.axis), atol=0.01)
    assert np.abs(once - twice)[scan.brain].mean() > 0.1
    np.testing.assert_allclose(given.affine[:3, 1], scan.affine[:3, scan.axis], atol=1e-5)
    assert f"{tmp_path}/vdm5_unwarp.nii,1" in (tmp_path / "given.m").read_text()
    left = np.abs(np.asarray(nib.load(found.shift).dataobj) - scan.planted)[scan.brain].mean()
    assert left < 0.6 * np.abs(scan.planted)[scan.brain].mean()
    for path in (found.series, found.reference, found.shift):
        assert nib.load(path).shape[:3] == scan.planted.shape
        np.testing.assert_allclose(nib.load(path).affine, scan.affine, atol=1e-5)
    np.testing.assert_allclose(nib.load(found.series).dataobj, nib.load(scan.bold).dataobj)

    first, second = scan.works.steps
    assert [step["step"] for step in (first, second)] == ["unwarping", "unwarping"]
    assert (first["tool"], second["tool"]) == ("restresponse", "SPM")
    assert first["parameters"]["passes"] == 2
    assert second["parameters"] == {"axis": scan.axis, "model": "registration and pitch, roll"}
    # hardly a moment is outside the steps: what was superseded, more than a third, is in the first
    assert first["cpu_seconds"] + second["cpu_seconds"] > 0.8 * spent  # with those of what was superseded


@pytest.mark.parametrize(
    ("wish", "largest", "model"),
    [("auto", 1.6, "registration and pitch, roll"), ("auto", 0.0, "pitch, roll"), ("motion", 1.6, "pitch, roll")],
)
def test_auto_with_spm_is_registration_and_motion_alone_where_that_finds_nothing(tmp_path, wish, largest, model):
    scan = Head(tmp_path, largest, np.linalg.inv(TO_EPI))
    scan.works.functional_mask = lambda reference: scan.mask  # of a head of this test's, not of a person
    realignment = Realignment(scan.reference, np.zeros((2, 6)), tmp_path / "rp_series.txt")
    phase = PhaseEncoding(scan.axis, 1, None)
    images = scan.bold, realignment, scan.t1w, scan.mask
    distortion, _, _ = unwarped(scan.works, *images, phase, wish, None)
    assert ("vdm5" in (tmp_path / "given.m").read_text()) == (model != "pitch, roll")
    assert np.asarray(nib.load(distortion.shift).dataobj).any() == (model != "pitch, roll")
    steps = [step for step in scan.works.steps if step["step"] == "unwarping"]
    assert steps[-1]["parameters"]["model"] == model
    looked = steps[-1]["parameters"].get("registration")
    assert (looked is not None) == (largest == 0)
    assert [step["step"] for step in scan.works.steps][-1] == "coregistration"


def test_spm_is_not_started_where_there_is_no_distortion(tmp_path):
    scan = Head(tmp_path, 0.0, np.linalg.inv(TO_EPI))
    assert scan.unwarped(TO_EPI) is None
    [step] = scan.works.steps
    assert (step["step"], step["tool"]) == ("unwarping", "none")
    assert "hardly more than one along an axis without distortion" in step["parameters"]["why"]
    assert "passes" not in step["parameters"]
    assert not (tmp_path / "calls.txt").exists() and not (tmp_path / "given.m").exists()


def test_a_field_that_a_second_look_does_not_confirm_is_not_given_to_spm(tmp_path):
    """The corrected reference comes to lie beside the T1w, where no field makes them alike."""
    scan = Head(tmp_path, 1.6, np.linalg.inv(turned(0, 0, (12, 0, 0)) @ TO_EPI))
    assert scan.unwarped(OFF) is None
    [step] = scan.works.steps
    assert (step["step"], step["tool"], step["parameters"]["passes"]) == ("unwarping", "none", 2)
    assert "hardly more than one along an axis without distortion" in step["parameters"]["why"]
    assert (tmp_path / "calls.txt").exists() and not (tmp_path / "given.m").exists()
