"""The engine on FSL: its conversions against FSL's conventions, its programs missing and failing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fsl_conventions import KINDS, SHAPE, epi_affine, fsl_home, fsl_millimetres, turned, voxel_of, write_image  # noqa: F401
from preprocessed_phantom import (
    ANATOMICAL,
    FUNCTIONAL,
    anatomical_outputs,
    functional_outputs,
    noise_anatomical,
    noise_image,
)
from scipy import ndimage

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.engines import EngineFailure, Normalisation, engine, fsl_installation, warps
from restresponse.engines import fsl_transforms as transforms
from restresponse.engines.fsl import Fsl
from restresponse.engines.warp_interfaces import write_warp
from restresponse.errors import InputError
from restresponse.files import read_json
from restresponse.functional.preprocess import preprocess_scan


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("reference", KINDS)
def test_flirts_matrix_takes_the_same_voxel_to_the_same_place(source, reference):
    generator = np.random.default_rng(2)
    sizes, other_shape, other_sizes = (3.0, 3.0, 4.0), (30, 28, 26), (2.0, 2.5, 2.2)
    first = epi_affine(source)
    second = turned(1, 8) @ np.diag([2.0 if "right" in reference else -2.0, 2.5, 2.2, 1.0])
    second[:3, 3] = [3, -20, 7]
    flirt = turned(2, 12, (4, -5, 6)) @ np.diag([1.05, 0.97, 1.1, 1.0])
    frames = transforms.frame_of(SHAPE, sizes, first), transforms.frame_of(other_shape, other_sizes, second)
    world = transforms.world_matrix(flirt, *frames)
    for index in generator.uniform(0, 17, (20, 3)):
        moved = (flirt @ [*fsl_millimetres(index, SHAPE, sizes, first), 1])[:3]
        there = voxel_of(moved, other_shape, other_sizes, second)
        expected = (second @ [*there, 1])[:3]
        np.testing.assert_allclose((world @ first @ [*index, 1])[:3], expected, atol=1e-9)
    np.testing.assert_allclose(transforms.flirt_matrix(world, *frames), flirt, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_fnirts_field_and_the_houses_normalisation_are_the_same_map(tmp_path, kind):
    """A field as FNIRT writes it (affine included, relative, scaled voxels) through the house's format and back."""
    shape, affine = (13, 15, 12), np.diag([16.0, 16.0, 16.0, 1.0])
    affine[:3, 3] = [-90, -126, -72]
    sizes, t1w, t1w_shape = (1.0, 1.1, 1.2), turned(1, 9) @ epi_affine(kind), (180, 200, 170)
    t1w[:3, :3] = t1w[:3, :3] @ np.diag([1 / 3, 1.1 / 3, 1.2 / 4])
    generator = np.random.default_rng(4)
    field = ndimage.gaussian_filter(generator.standard_normal((*shape, 3)), (2, 2, 2, 0)).astype(np.float32) * 60
    source = transforms.frame_of(t1w_shape, sizes, t1w)
    target = transforms.frame_of(shape, (16.0,) * 3, affine)
    points = transforms.points_of_field(field, affine, source, target)
    for index in ([0, 0, 0], [12, 3, 7], [5, 14, 11], [6, 7, 6]):
        there = fsl_millimetres(index, shape, 16.0, affine) + field[tuple(index)]
        expected = (t1w @ [*voxel_of(there, t1w_shape, sizes, t1w), 1])[:3]
        np.testing.assert_allclose(points[tuple(index)], expected, atol=1e-4)
    matrix = turned(0, 7, (3, 2, 1)) @ np.diag([1.1, 0.9, 1.05, 1.0])  # any affine: the field holds the rest
    displacements = transforms.displacements_of_points(points, affine, matrix)
    stored = nib.load(write_warp(tmp_path / "warp.nii", displacements, affine))
    assert stored.shape == (*shape, 1, 3)
    back = transforms.normalised_points(
        shape, affine, matrix, warps.field_of(np.asarray(stored.dataobj, np.float32)), stored.affine
    )
    np.testing.assert_allclose(back, points, atol=1e-3)
    np.testing.assert_allclose(transforms.field_of_points(back, affine, source, target), field, atol=1e-3)


def test_a_normalisation_goes_to_other_voxel_sizes_through_its_2_mm_grid(tmp_path):
    shape, affine = grid.grid(2)
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    field = np.column_stack([3 + 0.02 * points[:, 1], -2 + 0.01 * points[:, 0], 1.5 - 0.02 * points[:, 2]])
    works = Fsl(tmp_path)
    warp = write_warp(works.folder / "warp.nii", field.reshape(*shape, 3).astype(np.float32), affine)
    matrix, onward = turned(1, 5, (1, 2, -3)), turned(0, 6, (2, -3, 1))
    np.savetxt(tmp_path / "T1w.mat", matrix)
    epi = epi_affine("right oblique")
    source = write_image(tmp_path / "epi.nii", np.zeros(SHAPE, np.float32), epi)
    found = nib.load(works._field("f.nii", 5, Normalisation(tmp_path / "T1w.mat", warp), source, onward))
    assert found.header["intent_code"] == 2006
    coarse_shape, coarse = grid.grid(5)
    assert found.shape == (*coarse_shape, 3)
    index = np.array([7, 20, 11])
    place = (coarse @ [*index, 1])[:3]
    moved = place + np.array([3 + 0.02 * place[1], -2 + 0.01 * place[0], 1.5 - 0.02 * place[2]])
    in_epi = np.linalg.inv(epi) @ onward @ matrix @ [*moved, 1]
    expected = fsl_millimetres(in_epi[:3], SHAPE, np.array([3, 3, 4]), epi)
    here = fsl_millimetres(index, coarse_shape, 5.0, coarse)
    np.testing.assert_allclose(here + np.asarray(found.dataobj)[tuple(index)], expected, atol=2e-3)
    affine_alone = works._field("a.nii", 5, Normalisation(tmp_path / "T1w.mat", None), source, onward)
    in_epi = np.linalg.inv(epi) @ onward @ matrix @ [*place, 1]
    expected = fsl_millimetres(in_epi[:3], SHAPE, np.array([3, 3, 4]), epi)
    alone = np.asarray(nib.load(affine_alone).dataobj)
    np.testing.assert_allclose(here + alone[tuple(index)], expected, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_mcflirts_matrices_become_the_heads_motion(kind):
    affine = epi_affine(kind)
    frame = transforms.frame_of(SHAPE, (3, 3, 4), affine)
    flirt = np.stack([np.eye(4), turned(0, 3, (1, 2, -1)), turned(2, -4, (0.5, -2, 3))])
    moves = transforms.motion_matrices(flirt, frame)
    for number, index in enumerate(([3, 4, 5], [10, 11, 9], [15, 2, 14])):
        in_volume = (affine @ [*index, 1])[:3]
        in_reference = flirt[number] @ [*fsl_millimetres(index, SHAPE, np.array([3, 3, 4]), affine), 1]
        world = (affine @ [*voxel_of(in_reference[:3], SHAPE, np.array([3, 3, 4]), affine), 1])[:3]
        np.testing.assert_allclose((moves[number] @ [*world, 1])[:3], in_volume, atol=1e-9)


def test_directions_are_those_of_the_file_although_fsl_turns_x_round():
    left, right = epi_affine("left"), epi_affine("right")
    assert [transforms.direction(axis, 1, left) for axis in range(3)] == ["x", "y", "z"]
    assert [transforms.direction(axis, -1, left) for axis in range(3)] == ["x-", "y-", "z-"]
    assert [transforms.direction(axis, 1, right) for axis in range(3)] == ["x-", "y", "z"]
    assert [transforms.direction(axis, -1, right) for axis in range(3)] == ["x", "y-", "z-"]


def _program(folder: Path, name: str, lines: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o755)


def test_programs_that_are_not_found_are_named_before_any_work(tmp_path, home, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(InputError, match=r"applywarp, bet, .*slicetimer not found.*fslconf/fsl\.sh.*embedded"):
        engine("fsl", tmp_path)
    (home / "bin").mkdir()
    for name in fsl_installation.PROGRAMS:
        _program(home / "bin", name, "exit 0")
    assert isinstance(engine("fsl", tmp_path, {"nonlinear": False}), Fsl)  # FSLDIR alone is enough
    (home / "bin" / "fnirt").unlink()
    with pytest.raises(InputError, match="needs FSL: fnirt not found"):
        fsl_installation.check()
    monkeypatch.delenv("FSLDIR")
    with pytest.raises(InputError, match="FSLDIR \\(not set\\)"):
        fsl_installation.check()
    assert fsl_installation.version() is None


def test_a_program_that_fails_leaves_its_words_and_no_output(tmp_path, home, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # FSL itself may be on it, and the user's PATH comes first
    (home / "bin").mkdir()
    works = Fsl(tmp_path)
    series = write_image(tmp_path / "s.nii", np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    _program(home / "bin", "fslmaths", "echo half > smooth.nii; echo 'Cannot allocate what was asked' >&2; exit 1")
    with pytest.raises(EngineFailure, match="FSL's fslmaths failed: Cannot allocate what was asked"):
        works.smooth(series, 5)
    assert not (tmp_path / "smooth.nii").exists()
    _program(home / "bin", "fslmaths", "echo 'Image Exception : #22 :: short read'")  # FSL's programs may end with 0
    with pytest.raises(EngineFailure, match=r"without its output smooth\.nii .*: Image Exception : #22 :: short read"):
        works.smooth(series, 5)
    _program(home / "bin", "fslmaths", "kill -9 $$")
    with pytest.raises(MemoryError, match="fslmaths was killed"):
        works.smooth(series, 5)
    assert works.steps == []


def test_a_program_or_a_folder_that_is_lost_meanwhile_is_not_the_datas_failure(tmp_path, home, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (home / "bin").mkdir()
    works = Fsl(tmp_path)
    series = write_image(tmp_path / "s.nii", np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    with pytest.raises(OSError, match=r'fslmaths did not start.*No command "fslmaths" found'):
        works.smooth(series, 5)
    _program(home / "bin", "fslmaths", "echo 'error while loading shared libraries: libopenblas.so.0' >&2; exit 127")
    with pytest.raises(OSError, match=r"fslmaths did not start.*libopenblas\.so\.0"):
        works.smooth(series, 5)
    fsl_installation.schedule().unlink()
    with pytest.raises(FileNotFoundError, match=r"bbr\.sch is not in FSL's folder"):
        fsl_installation.schedule()


WROTE = {
    "robustfov": "cp T1w.nii head.nii; echo 'Final FOV is:'",
    "bet": "cp head.nii bet_mask.nii",
    "fast": "cp T1w_brain.nii bias_bias.nii",
}
HALF = {"bet": "bet_mask.nii", "fast": "bias_seg.nii", "flirt": "affine.flirt"}  # what is there when it fails


@pytest.mark.parametrize(
    ("failing", "status", "done"),
    [
        ("bet", 1, []),
        ("fast", 0, ["brain extraction"]),  # FSL's programs may end with 0, and without what was asked for
        ("flirt", 1, ["brain extraction", "bias correction"]),
    ],
)
def test_a_t1w_whose_program_fails_half_way_is_recorded_in_fsls_words_and_leaves_nothing_whole(
    tmp_path, home, monkeypatch, failing, status, done
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (home / "bin").mkdir()
    for name in fsl_installation.PROGRAMS:
        _program(home / "bin", name, WROTE.get(name, "echo 'was not to be run' >&2; exit 1"))
    says = "echo 'Image Exception : #63 :: No image files match' >&2; echo 'Segmentation was given up' >&2"
    _program(home / "bin", failing, f"echo half > {HALF[failing]}; {says}; exit {status}")
    t1w = noise_image(tmp_path / "T1w.nii.gz", (12, 12, 12))
    outputs = anatomical_outputs(tmp_path / "out")
    normalise_anatomical(t1w, outputs, **ANATOMICAL | {"engine": "fsl"})
    record = read_json(outputs["record"])
    assert record["status"] == "failed" and record["engine"] == "fsl"
    assert record["reason"].startswith(f"FSL's {failing} ")
    assert "Image Exception : #63 :: No image files match | Segmentation was given up" in record["reason"]
    assert [step["step"] for step in record["steps"]] == done
    assert all(path.stat().st_size == 0 for name, path in outputs.items() if name != "record")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in outputs.values()}


@pytest.mark.parametrize(
    ("failing", "half", "done"), [("slicetimer", "timed.nii", []), ("mcflirt", "moved.nii", ["slice timing"])]
)
def test_a_scan_whose_program_fails_half_way_is_recorded_in_fsls_words_and_leaves_nothing_whole(
    tmp_path, home, monkeypatch, failing, half, done
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (home / "bin").mkdir()
    for name in fsl_installation.PROGRAMS:
        _program(home / "bin", name, "cp bold.nii timed.nii" if name == "slicetimer" else "exit 1")
    _program(home / "bin", failing, f"cp bold.nii {half}; echo 'Image Exception : #22 :: short read' >&2; exit 1")
    bold = noise_image(tmp_path / "bold.nii.gz", (8, 8, 6, 8))
    outputs = functional_outputs(tmp_path / "out")
    preprocess_scan(
        bold, noise_anatomical(tmp_path / "T1w"), outputs, repetition_time=2.0, slice_times=[0.0, 1.0] * 3,
        **FUNCTIONAL | {"engine": "fsl"},
    )  # fmt: skip
    record = read_json(outputs["record"])
    assert record["status"] == "failed" and record["engine"] == "fsl"
    assert record["reason"].startswith(f"FSL's {failing} failed") and "#22 :: short read" in record["reason"]
    assert [step["step"] for step in record["steps"]] == done
    assert all(path.stat().st_size == 0 for name, path in outputs.items() if name != "record")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in outputs.values()}
