"""FSL's conventions written out voxel by voxel, and the engine on FSL with its commands written down instead of run."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from engine_watch import as_interface

from restresponse.engines import fsl_interfaces as programs
from restresponse.engines import motion
from restresponse.engines.fsl import Fsl

SHAPE = (20, 24, 18)


def turned(axis: int, degrees: float, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = motion.turn(axis, np.deg2rad([degrees]))[0]
    matrix[:3, 3] = shift
    return matrix


def epi_affine(kind: str) -> np.ndarray:
    """Affine of an EPI of 3 x 3 x 4 mm; the handed ones keep the order right to left or reverse it."""
    affine = np.diag([3.0 if "right" in kind else -3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-29 if "right" in kind else 29, -34, -33]
    return turned(0, 17) @ turned(2, -11) @ affine if "oblique" in kind else affine


KINDS = ("left", "right", "left oblique", "right oblique")


# FSL's conventions, written down once more and differently: voxel by voxel, from its own documentation.
def fsl_millimetres(index: np.ndarray, shape, voxel_size, affine) -> np.ndarray:
    """FLIRT's coordinates of a voxel: index x mm, counted from the other end of x in a neurological image."""
    index = np.array(index, float)
    if np.linalg.det(affine[:3, :3]) > 0:
        index[0] = shape[0] - 1 - index[0]
    return index * voxel_size


def voxel_of(millimetres: np.ndarray, shape, voxel_size, affine) -> np.ndarray:
    index = np.array(millimetres, float) / voxel_size
    if np.linalg.det(affine[:3, :3]) > 0:
        index[0] = shape[0] - 1 - index[0]
    return index


class Recorded(Fsl):
    """The engine with every command written down instead of run; what a program would write, `answers` writes."""

    def __init__(self, folder: Path, settings=None, answers=None) -> None:
        super().__init__(folder, settings)
        self.commands: list[str] = []
        self.answers = answers or {}

    @as_interface
    def _run(self, program: type, target: str, **inputs) -> Path:
        interface = programs.built(program, self.folder, **inputs)
        with programs.indirectory(self.folder):
            self.commands.append(interface.cmdline)
        assert interface.inputs.environ["FSLOUTPUTTYPE"] == "NIFTI"
        assert interface.inputs.environ["OMP_NUM_THREADS"] == "1"
        if target in self.answers:
            self.answers[target](self.folder / target)
        return self.folder / target


def write_image(path: Path, data: np.ndarray, affine: np.ndarray, repetition_time: float | None = None) -> Path:
    image = nib.Nifti1Image(data, affine)
    if repetition_time:
        image.header.set_zooms((*image.header.get_zooms()[:3], repetition_time))
    image.to_filename(path)
    return path


@pytest.fixture(name="home")
def fsl_home(tmp_path, monkeypatch):
    """A folder of FSL that holds the schedule alone."""
    folder = tmp_path / "fsl"
    (folder / "etc" / "flirtsch").mkdir(parents=True)
    (folder / "etc" / "flirtsch" / "bbr.sch").write_text("setscale 1 force\n")
    (folder / "etc" / "fslversion").write_text("6.0.7.11\n")
    monkeypatch.setenv("FSLDIR", str(folder))
    return folder
