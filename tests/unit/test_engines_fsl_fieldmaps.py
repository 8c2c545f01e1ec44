"""FSL itself on planted distortion and slice times: signs, axes and units are right. Not run, and said so, where FSL is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from distorted_head import distorted
from distorted_phantom import PHASE, Scan
from engine_watch import voxels_in_interfaces_alone
from scipy import ndimage

from restresponse.engines import Normalisation, PhaseEncoding, Realignment, engine, fsl_installation, masks
from restresponse.engines.array_interfaces import write
from restresponse.engines.fsl import Fsl
from restresponse.errors import InputError
from restresponse.functional.fieldmaps import prepare_field

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    try:
        fsl_installation.check()
    except InputError as error:
        pytest.skip(f"THE ENGINE fsl WAS NOT RUN on field maps: {error}")
    with voxels_in_interfaces_alone(Fsl):
        yield


@pytest.mark.parametrize(("kind", "worst"), [("phasediff", 0.15), ("epi", 0.4)])
def test_fsl_finds_the_field_that_a_field_map_shows(tmp_path, kind, worst):
    scan = Scan(tmp_path, 4.0, kind, "fsl")
    field_map = scan.phase_difference() if kind == "phasediff" else scan.reversed_epis()
    hertz = prepare_field(scan.works, scan.realignment.reference, PHASE, field_map)
    found = scan.works.unwarp_by_field(scan.bold, scan.realignment, hertz, PHASE)
    planted, error = scan.field_error(found.shift)
    print(f"fsl, {kind}: {planted:.2f} mm of distortion, known but for {error:.2f} mm")
    assert [step["step"] for step in scan.works.steps] == ["field map", "unwarping"]
    assert planted > 0.9
    assert error < worst


def _head(handed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A textured ellipsoid, its affine, the voxels well inside, and a hill of 3 voxels beside its middle."""
    shape, affine = (34, 38, 24), np.diag([handed * 4.0, 4, 5, 1])
    affine[:3, 3] = [-handed * 66, -74, -58]
    middle = (np.array(shape) - 1) / 2
    place = np.argwhere(np.ones(shape, bool)) - middle
    radius = np.linalg.norm(place / [13, 15, 9.5], axis=1).reshape(shape)
    texture = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(shape), 1.3)
    head = ndimage.gaussian_filter(np.where(radius < 1, 800 + 900 * texture / texture.std() / 4, 0), 0.7)
    hill = 3 * np.exp(-((place - [0, 4, 2]) ** 2).sum(axis=1) / (2 * 6**2)).reshape(shape)
    return head, affine, radius < 0.9, hill


@pytest.mark.parametrize(("handed", "axis", "sign"), [(-1, 0, -1), (1, 0, 1), (-1, 1, 1), (1, 1, -1)])
def test_fsl_removes_the_distortion_of_a_known_field(tmp_path, handed, axis, sign):
    """FUGUE's shift, and convertwarp's and applywarp's use of it, along either axis, either way, in files of either hand."""
    head, affine, core, shift = _head(handed)
    seen, heaped = (
        np.moveaxis(distorted(np.moveaxis(image, axis, 2), np.moveaxis(shift, axis, 2)), 2, axis)
        for image in (head, np.ones_like(head))
    )
    works, phase = engine("fsl", tmp_path), PhaseEncoding(axis, sign, 0.05)
    series = {  # applywarp moves the signal and leaves it as strong as it was
        name: write(tmp_path / f"{name}.nii", np.stack([data] * 2, axis=-1).astype(np.float32), affine)
        for name, data in (("still", head), ("seen", seen / heaped))
    }
    reference = write(tmp_path / "reference.nii", seen, affine)
    hertz = write(tmp_path / "hertz.nii", (shift / (phase.readout * sign)).astype(np.float32), affine)
    np.savetxt(tmp_path / "motion.mat", np.tile(np.eye(4), (2, 1)))
    np.savetxt(tmp_path / "identity.mat", np.eye(4))
    realignment = Realignment(reference, np.zeros((2, 6)), tmp_path / "motion.mat")

    def likeness(path: Path) -> float:
        return masks.correlation(np.asarray(nib.load(path).dataobj), head, core)

    found = works.unwarp_by_field(series["seen"], realignment, hertz, phase)
    np.testing.assert_allclose(np.asarray(nib.load(found.shift).dataobj)[core], shift[core], atol=0.2)
    assert likeness(reference) < 0.8
    assert likeness(found.reference) > 0.99

    def resampled(name: str, distortion: object) -> np.ndarray:
        where = Normalisation(tmp_path / "identity.mat", None)
        path = works.resample(series[name], realignment, tmp_path / "identity.mat", where, 4, distortion)
        return np.asarray(nib.load(path).dataobj)[..., 0].astype(float)

    wanted = resampled("still", None)
    inside = ndimage.binary_erosion(wanted > 400, iterations=2)
    likenesses = [masks.correlation(resampled("seen", way), wanted, inside) for way in (None, found)]
    print(f"fsl, hand {handed}, axis {axis}, sign {sign}: resampled {likenesses}")
    assert likenesses[0] < 0.8
    assert likenesses[1] > 0.98


def test_fsl_brings_slices_to_the_middle_of_the_volume(tmp_path):
    """A slow wave that every slice sees at its own time is the same in all slices then."""
    repetition, count, times = 2.0, 80, np.array([0.0, 0.5, 1.0, 1.5])
    start = np.arange(count) * repetition

    def wave(time: np.ndarray) -> np.ndarray:
        return 1000 + 50 * np.sin(2 * np.pi * 0.04 * time)

    data = np.broadcast_to(wave(start + times[:, None]), (6, 6, 4, count)).astype(np.float32)
    image = nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, repetition))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "bold.nii")
    found = engine("fsl", tmp_path).slice_timing(tmp_path / "bold.nii", times.tolist(), repetition)
    inner = slice(10, -10)  # the ends are made up
    middle = wave(start + repetition / 2)[inner]
    assert np.abs(data[3, 3, 0, inner] - middle).max() > 10
    assert np.abs(np.asarray(nib.load(found).dataobj)[3, 3, :, inner] - middle).max() < 1.5
