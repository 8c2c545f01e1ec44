"""The engine interface: conversions held against the programs themselves, command lines, failures."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from restresponse import grid
from restresponse.engines import (
    EngineFailure,
    Normalisation,
    Realignment,
    engine,
    greedy,
    masks,
    motion,
    niimath,
    spm_priors,
    tissues,
    warps,
)
from restresponse.engines.array_interfaces import write
from restresponse.engines.warp_interfaces import write_warp
from restresponse.errors import InputError


def _turned(axis: int, degrees: float, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = motion.turn(axis, np.deg2rad([degrees]))[0]
    matrix[:3, 3] = shift
    return matrix


def _ramps(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Three volumes whose values are the x, y and z coordinates plus 1000: interpolation gives back where it sampled."""
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    return (points + 1000).reshape(*shape, 3).astype(np.float32)


def test_unknown_engines_are_refused_with_what_there_is(tmp_path):
    for name in ("ants", "embeded"):
        with pytest.raises(InputError, match="which has embedded"):
            engine(name, tmp_path)


def test_motion_parameters_and_matrices_are_inverse():
    parameters = np.array([[1.0, -2.0, 3.0, 0.3, -0.2, 0.1], [0, 0, 0, 0, 0, 0], [0.1, 0.2, 0.3, -0.01, 0.02, 0.03]])
    centre = np.array([5.0, -7.0, 11.0])
    matrices = motion.matrices_of(parameters, centre)
    np.testing.assert_allclose(motion.parameters_of(matrices, centre), parameters, atol=1e-12)
    np.testing.assert_allclose(matrices[0] @ [*centre, 1], [6, -9, 14, 1], atol=1e-12)  # the centre moves by the shift


@pytest.mark.parametrize("oblique", [False, True])
def test_resampling_composes_every_transform_as_stated(tmp_path, oblique):
    """Motion after coregistration after affine after warp, on a left-handed and on an oblique scan, against plain sums."""
    works = engine("embedded", tmp_path)
    shape = (40, 42, 30)
    affine = np.diag([-3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [60, -62, -58]
    if oblique:
        affine = _turned(0, 17) @ _turned(2, -11) @ affine
    bold = tmp_path / "bold.nii"
    image = nib.Nifti1Image(_ramps(shape, affine), affine)
    image.header.set_zooms((3, 3, 4, 2))
    image.to_filename(bold)
    rows = np.tile([3.0, -2.0, 4.0, 2.0, -3.0, 4.0], (3, 1))
    np.savetxt(tmp_path / "motion.1D", rows, fmt="%12.8f")
    coregistration = _turned(0, 6, (2, -3, 1))
    np.savetxt(tmp_path / "coregistration.mat", coregistration)
    to_t1w = _turned(1, 5, (1, 2, -3))
    to_t1w[:3, :3] *= 1.1
    np.savetxt(tmp_path / "affine.mat", to_t1w)
    fine_shape, fine = grid.grid(2)
    points = warps.world_of(np.argwhere(np.ones(fine_shape, bool)).astype(float), fine)
    field = np.column_stack([3 + 0.02 * points[:, 1], -2 + 0.01 * points[:, 0], 1.5 - 0.02 * points[:, 2]])
    warp = write_warp(works.folder / "warp.nii", field.reshape(*fine_shape, 3), fine)
    normalisation = Normalisation(tmp_path / "affine.mat", warp)

    plain = works._plain(bold, "series.nii")
    centre = np.zeros(3)
    frame = affine @ np.linalg.inv(nib.load(plain).affine)
    moved = frame @ motion.from_niimath(rows[:1], centre)[0] @ np.linalg.inv(frame)
    realignment = Realignment(bold, np.zeros((3, 6)), tmp_path / "motion.1D")
    out = works.resample(bold, realignment, tmp_path / "coregistration.mat", normalisation, 8)

    out_shape, out_affine = grid.grid(8)
    target = warps.world_of(np.argwhere(np.ones(out_shape, bool)).astype(float), out_affine)
    chain = moved @ coregistration @ to_t1w
    expected = warps.world_of(
        target + warps.sample(field.reshape(*fine_shape, 3).astype(np.float32), fine, target), chain
    )
    index = warps.world_of(expected, np.linalg.inv(affine))
    inside = np.all((index > 6) & (index < np.array(shape) - 7), axis=1)
    found = np.asarray(nib.load(out).dataobj).reshape(-1, 3) - 1000
    assert inside.sum() > 300
    np.testing.assert_allclose(found[inside], expected[inside], atol=5e-3)


def test_realignment_gives_the_heads_motion_in_the_worlds_axes(tmp_path):
    """Volumes moved by known matrices, on an oblique left-handed grid: the parameters come back, sign and axis right."""
    from scipy import ndimage

    generator = np.random.default_rng(3)
    shape, affine = (36, 40, 26), _turned(0, 12) @ np.diag([-4.0, 4.0, 5.0, 1.0])
    affine[:3, 3] = [70, -80, -60]
    middle = (np.array(shape) - 1) / 2
    centre = warps.world_of(middle[None], affine)[0]
    radius = np.linalg.norm((np.argwhere(np.ones(shape, bool)) - middle) / [14, 16, 10], axis=1).reshape(shape)
    texture = ndimage.gaussian_filter(generator.standard_normal(shape), 1.5)
    head = np.where(radius < 1, 800 + 900 * texture / texture.std() / 4, 0).astype(np.float32)
    head = ndimage.gaussian_filter(head, 0.8)
    planted = np.zeros((12, 6))
    for column, size in enumerate((1.0, -0.8, 1.2, 0.02, -0.015, 0.025)):
        planted[column + 4, column] = size
    planted[10] = [0.5, 0.4, -0.6, 0.01, 0.01, -0.012]
    volumes = []
    for matrix in motion.matrices_of(planted, centre):
        pull = np.linalg.inv(affine) @ np.linalg.inv(matrix) @ affine
        volumes.append(ndimage.affine_transform(head, pull[:3, :3], pull[:3, 3], order=3))
    noise = generator.standard_normal((*shape, len(volumes))) * 2
    image = nib.Nifti1Image((np.stack(volumes, axis=-1) + noise).astype(np.float32), affine)
    image.header.set_zooms((4, 4, 5, 2))
    image.to_filename(tmp_path / "bold.nii")
    found = engine("embedded", tmp_path).realign(tmp_path / "bold.nii").motion
    found = found - found[:4].mean(axis=0)  # the reference is a median of volumes, not the first
    np.testing.assert_allclose(found[:, :3], planted[:, :3], atol=0.1)
    np.testing.assert_allclose(found[:, 3:], planted[:, 3:], atol=np.deg2rad(0.1))


def test_greedy_takes_displacements_in_lps_and_affines_in_ras(tmp_path):
    works = engine("embedded", tmp_path)
    shape, affine = (30, 32, 28), np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-58, -62, -54]
    field = np.zeros((*shape, 3), np.float32) + np.array([2.0, 3.0, -1.5], np.float32)
    write_warp(works.folder / "warp.nii", field, affine)
    matrix = _turned(1, 6, (1, 2, -3))
    np.savetxt(tmp_path / "affine.mat", matrix)
    write(works.folder / "x.nii", _ramps(shape, affine)[..., 0], affine)
    works._run(greedy.Reslice(grid="x.nii", moving="x.nii", out_file="out.nii", transforms=["warp.nii", "affine.mat"]))
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    expected = warps.world_of(points + np.array([2.0, 3.0, -1.5]), matrix)
    index = warps.world_of(expected, np.linalg.inv(affine))
    inside = np.all((index > 1) & (index < np.array(shape) - 2), axis=1)
    found = np.asarray(nib.load(tmp_path / "out.nii").dataobj).ravel() - 1000
    np.testing.assert_allclose(found[inside], expected[inside, 0], atol=1e-2)
    stored = np.asarray(nib.load(tmp_path / "warp.nii").dataobj)
    np.testing.assert_allclose(warps.field_of(stored), field)


def test_points_come_back_through_the_inverse_of_a_warp():
    shape, affine = grid.grid(4)
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    field = (4 * np.sin(points[:, [1, 2, 0]] / 30)).reshape(*shape, 3).astype(np.float32)
    matrix = _turned(2, 9, (3, 4, 5))
    start = points[::997]
    carried = warps.world_of(start + warps.sample(field, affine, start), matrix)
    np.testing.assert_allclose(warps.inverse_points(carried, matrix, field, affine), start, atol=0.02)


def test_command_lines_say_what_the_programs_expect():
    commands = {
        niimath.BiasCorrection(in_file="a.nii", mask="m.nii", out_file="b.nii"): (
            "niimath a.nii -n4 -shrink 4 -mask m.nii -iter 30x30x20 b.nii"
        ),
        niimath.Affine(in_file="a.nii", base="t.nii", matrix="m.json", out_file="b.nii"): (
            "niimath a.nii -allineate t.nii -savemat m.json -final linear b.nii"
        ),
        niimath.SliceTiming(in_file="a.nii", times=[0.0, 1.3, 0.65], reference=1.3, out_file="b.nii"): (
            "niimath a.nii -stc --slicetiming 0.0,1.3,0.65 -tzero 1.300000 b.nii"
        ),
        niimath.Realignment(in_file="a.nii", reference="r.nii", facts="f.json", out_file="m.1D"): (
            "niimath a.nii -boldref r.nii f.json -moco -ref r.nii -estimate m.1D"
        ),
        niimath.Resampling(
            in_file="a.nii",
            grid="g.nii",
            motion="m.1D",
            matrix="c.json",
            warp="w.nii",
            affine="t.mat",
            out_file="b.nii",
        ): "niimath a.nii -resample g.nii -hmc m.1D -mat c.json -warp w.nii t.mat b.nii",
        niimath.Smoothing(in_file="a.nii", sigma=2.123, out_file="b.nii"): "niimath a.nii -s 2.123000 b.nii",
        niimath.PhaseUnwrapping(in_file="p.nii", magnitude="a.nii", mask="m.nii", out_file="u.nii"): (
            "niimath p.nii -romeo a.nii -k m.nii -no-phase-rescale u.nii"
        ),
        spm_priors.registration(fixed="f.nii", moving="m.nii", out_file="o.mat"): (
            "-d 3 -threads 1 -a -dof 12 -m NCC 4x4x4 -n 100x50x20 -seed 7 -i f.nii m.nii -ia-identity -o o.mat"
        ),
        greedy.LinearRegistration(fixed="f.nii", moving="m.nii", initial="i.mat", out_file="o.mat"): (
            "-d 3 -threads 1 -a -dof 6 -m NMI -n 100x50x10 -seed 7 -i f.nii m.nii -ia i.mat -o o.mat"
        ),
        greedy.DeformableRegistration(fixed="f.nii", moving="m.nii", initial="i.mat", out_file="w.nii"): (
            "-d 3 -threads 1 -i f.nii m.nii -it i.mat -m NCC 2x2x2 -n 40x50x10 -s 2vox 0.5vox -seed 7 -o w.nii"
        ),
        greedy.Reslice(grid="g.nii", moving="m.nii", out_file="o.nii", transforms=["w.nii", "a.mat"]): (
            "-d 3 -threads 1 -rf g.nii -ri LINEAR -rt float -rm m.nii o.nii -r w.nii a.mat"
        ),
    }
    for interface, expected in commands.items():
        assert interface.cmdline == expected


def test_slices_are_brought_to_the_middle_of_the_repetition_time(tmp_path):
    repetition_time, count = 2.0, 80
    times = np.array([0.0, 0.5, 1.0, 1.5])
    volumes = np.arange(count)[None, :] * repetition_time
    wave = np.sin(2 * np.pi * 0.04 * (volumes + times[:, None]))
    data = np.broadcast_to(1000 + 50 * wave, (6, 6, 4, count)).astype(np.float32)
    image = nib.Nifti1Image(np.ascontiguousarray(data), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_zooms((3, 3, 3, repetition_time))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "bold.nii")
    out = engine("embedded", tmp_path).slice_timing(tmp_path / "bold.nii", times.tolist(), repetition_time)
    corrected = np.asarray(nib.load(out).dataobj)[3, 3, :, 10:-10]
    expected = 1000 + 50 * np.sin(2 * np.pi * 0.04 * (volumes[0] + repetition_time / 2))[10:-10]
    np.testing.assert_allclose(corrected, np.broadcast_to(expected, corrected.shape), atol=2.5)
    assert np.abs(data[3, 3, 0, 10:-10] - expected).max() > 10  # before, the first slice was off by half a TR


def test_smoothing_has_the_width_asked_for(tmp_path):
    data = np.zeros((41, 41, 41), np.float32)
    data[20, 20, 20] = 1
    nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(tmp_path / "point.nii")
    out = np.asarray(nib.load(engine("embedded", tmp_path).smooth(tmp_path / "point.nii", 8)).dataobj, np.float64)
    profile = out.sum(axis=(1, 2)) / out.sum()
    deviation = 2 * np.sqrt((profile * (np.arange(41) - 20) ** 2).sum())
    assert deviation * 2.3548 == pytest.approx(8, rel=0.02)


def test_segmentation_separates_three_tissues_and_refuses_inverted_contrast():
    generator = np.random.default_rng(1)
    truth = generator.choice(3, size=6000, p=[0.5, 0.35, 0.15])
    values = np.array([60.0, 90.0, 20.0])[truth] + generator.normal(0, 5, truth.size)
    priors = {name: np.where(truth == index, 0.6, 0.2) for index, name in enumerate(("GM", "WM", "CSF"))}
    found = tissues.segment(values, priors, 20)
    for index, name in enumerate(("GM", "WM", "CSF")):
        assert masks.dice(found[name] > 0.5, truth == index) > 0.97
    with pytest.raises(EngineFailure, match="not T1-weighted"):
        tissues.segment(100 - values, priors, 20)


def test_segmentation_gives_a_mixed_voxel_its_shares():
    """Half the fluid is alone and half shares its voxels with grey matter: the fluid's mean stays the fluid's, the shares are right."""
    generator = np.random.default_rng(2)
    fluid = np.concatenate([np.zeros(30000), np.ones(2000), generator.uniform(0.02, 0.98, 8000), np.zeros(20000)])
    white = np.arange(fluid.size) >= 40000
    values = 20 * fluid + np.where(white, 90, 60) * (1 - fluid) + generator.normal(0, 4, fluid.size)
    guess = np.clip(fluid + generator.normal(0, 0.15, fluid.size), 0, 1)
    priors = {"GM": np.where(white, 0.1, 1 - guess), "WM": np.where(white, 0.9, 0), "CSF": np.where(white, 0, guess)}
    found = tissues.segment(values, priors, 20)
    mixed = slice(32000, 40000)
    assert np.abs(found["CSF"][mixed] - fluid[mixed]).mean() < 0.12
    assert np.corrcoef(found["CSF"][mixed], fluid[mixed])[0, 1] > 0.9
    assert found["CSF"].sum() == pytest.approx(fluid.sum(), rel=0.1)
    np.testing.assert_allclose(sum(found.values()), 1, atol=1e-5)


def test_template_places_undo_warp_and_affine_in_every_voxel():
    shape, affine = grid.grid(4)
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    field = (4 * np.sin(points[:, [1, 2, 0]] / 30)).reshape(*shape, 3).astype(np.float32)
    matrix = _turned(2, 9, (3, 4, 5))
    mask = np.zeros((40, 44, 30), bool)
    mask[4:36, 5:40, 3:27] = True
    mask_affine = _turned(0, 15) @ np.diag([3.0, 3.0, 4.0, 1.0])
    mask_affine[:3, 3] = [-60, -60, -40]
    found = warps.template_places(mask, mask_affine, matrix, field, affine).astype(float)
    back = warps.world_of(found + warps.sample(field, affine, found), matrix)
    np.testing.assert_allclose(back, warps.world_of(np.argwhere(mask).astype(float), mask_affine), atol=0.1)


def test_a_coarser_image_lies_where_the_fine_one_does():
    affine = _turned(1, 20) @ np.diag([0.9, 1.1, 3.0, 1.0])
    affine[:3, 3] = [5, -7, 2]
    fine = _ramps((20, 21, 9), affine)
    coarse, coarse_affine = masks.coarser(fine[..., 0], affine, 2.0)
    assert coarse.shape == (10, 11, 9)  # 1.8, 2.2 and 3 mm
    expected = _ramps(coarse.shape, coarse_affine)[..., 0]
    np.testing.assert_allclose(coarse[:, :10], expected[:, :10], atol=1e-3)


def test_functional_brain_is_found_from_the_image_alone():
    from scipy import ndimage

    shape = (46, 46, 26)
    radius = np.linalg.norm((np.argwhere(np.ones(shape, bool)) - [22, 24, 13]) / [14, 17, 11.0], axis=1).reshape(shape)
    generator = np.random.default_rng(0)
    image = np.where(radius < 1, 500, 20) + np.where((radius > 1.25) & (radius < 1.35), 260, 0)  # a rim of scalp
    image = ndimage.gaussian_filter(image.astype(float), 0.5) + generator.normal(0, 15, shape)
    found = masks.functional_brain(image, np.array([4.0, 4.0, 4.0]))
    assert masks.dice(found, radius < 1) > 0.95


def test_a_programs_failure_is_the_datas_and_a_kill_is_the_machines(tmp_path, monkeypatch):
    works = engine("embedded", tmp_path)
    (tmp_path / "broken.nii").write_bytes(b"not an image")
    with pytest.raises(EngineFailure, match="Smoothing failed"):
        works.smooth(tmp_path / "broken.nii", 5)

    def killed(self, cwd=None):
        raise RuntimeError("Command:\nniimath\nStandard output:\n\nReturn code: -9")

    monkeypatch.setattr(niimath.Smoothing, "run", killed)
    with pytest.raises(MemoryError):
        works.smooth(tmp_path / "broken.nii", 5)


def test_a_library_that_does_not_load_is_the_machines_failure(tmp_path, monkeypatch):
    works = engine("embedded", tmp_path)
    nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4)).to_filename(tmp_path / "a.nii")
    np.savetxt(tmp_path / "a.mat", np.eye(4))
    monkeypatch.setitem(sys.modules, "picsl_greedy", None)  # what Python does with a module that it cannot import
    with pytest.raises(ImportError):
        works.to_template(tmp_path / "a.nii", Normalisation(tmp_path / "a.mat", None))


def test_files_of_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="subpath"):
        engine("embedded", tmp_path / "work").smooth(Path("/elsewhere/image.nii"), 5)
