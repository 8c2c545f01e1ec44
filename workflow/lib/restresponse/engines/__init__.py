"""The one interface through which `anatomical` and `functional` reach preprocessing software, and the engines by name.

Every step takes and gives paths of images, for an engine is a set of nipype interfaces and nothing more: of the programs that
it calls, and of the house's own arrays (`array_interfaces` and others). Transforms are handed from one step to the next as
files in the engine's own format; what other stages read of them is stated per class.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.errors import InputError

SHIPPED = ("embedded", "spm", "fsl")
TISSUES = ("GM", "WM", "CSF")
FULL_WIDTH = 2.354820045  # full width at half maximum of a Gaussian of unit SD


class EngineFailure(RuntimeError):
    """A program of the engine could not work on these data: the scan failed, the machine did not."""


@dataclass(frozen=True)
class Realignment:
    """Head motion of one scan.

    Attributes
    ----------
    reference : image of the position to which every volume is brought.
    motion : (n_scans, 6) array: trans_x, trans_y, trans_z in mm, rot_x, rot_y, rot_z in rad, see `restresponse.engines.motion`.
    transforms : the engine's own file of the same.
    """

    reference: Path
    motion: np.ndarray
    transforms: Path


@dataclass(frozen=True)
class PhaseEncoding:
    """How an EPI was read out, on the voxel axes of its image.

    Attributes
    ----------
    axis : 0, 1 or 2, the voxel axis along which off-resonance moves the signal
    sign : +1 where a field of +1 Hz moves it to higher indices, -1 to lower (BIDS `j` and `j-`)
    readout : total readout time in s, as BIDS defines TotalReadoutTime; None where it is not known
    """

    axis: int
    sign: int
    readout: float | None


@dataclass(frozen=True)
class Distortion:
    """Susceptibility distortion of one scan, at the reference's position of the head.

    Attributes
    ----------
    reference : the realignment's reference without its distortion, on the same grid.
    shift : float32 image on that grid, in voxels along `axis`: what belongs at index i is found at i + shift.
    axis : voxel axis.
    series : the series without motion and distortion, where the engine's program writes it in this step; `resample`
        then reads it in place of bold, motion and shift.
    """

    reference: Path
    shift: Path
    axis: int
    series: Path | None = None


@dataclass(frozen=True)
class Normalisation:
    """The transform between MNI space and a T1w image, in one format for every engine, so that they can be mixed.

    Attributes
    ----------
    affine : text file, (4, 4): mm in MNI space (after the warp) to mm in the T1w's world, both RAS.
    warp : 5D NIfTI on the 2 mm grid, displacements in mm in LPS, applied before the affine; None for an affine alone.
    """

    affine: Path
    warp: Path | None


class Engine(ABC):
    """Preprocessing steps in one working folder, in the order in which they are asked for.

    An engine whose program does several steps at once may do them at the first and hand out the rest later. Each step
    adds to `steps` what was done: name, tool, version, parameters, seconds and a sentence for the methods text.

    Parameters
    ----------
    folder : working folder of this job, a whole path; everything the engine writes is in it.
    settings : the engine's own part of the config's section `engines`.
    """

    name: str
    space_label = "MNI152NLin2009aSym"  # BIDS' name of the space to which `normalise` leads

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.settings = dict(settings or {})
        self.steps: list[dict[str, Any]] = []

    @property
    def space(self) -> str:
        """In words, the space to which `normalise` leads."""
        return "MNI152, ICBM 2009a nonlinear symmetric, as distributed with nilearn"

    @abstractmethod
    def brain_extract(self, t1w: Path) -> Path:
        """Brain mask (uint8) on the grid of a T1w image of a head, with or without skull and neck."""

    @abstractmethod
    def bias_correct(self, t1w: Path, brain_mask: Path) -> Path:
        """T1w image without its bias field, estimated in the brain mask."""

    @abstractmethod
    def normalise(self, t1w: Path, brain_mask: Path) -> Normalisation:
        """Affine and deformable registration of the T1w's brain to MNI152."""

    @abstractmethod
    def segment(self, t1w: Path, brain_mask: Path, normalisation: Normalisation, iterations: int) -> dict[str, Path]:
        """Probability of each of `TISSUES` on the T1w's grid."""

    @abstractmethod
    def to_template(self, image: Path, normalisation: Normalisation) -> Path:
        """A 3D image of the T1w's space on the 2 mm grid in MNI space, linear, float32."""

    @abstractmethod
    def slice_timing(self, bold: Path, times: list[float], repetition_time: float) -> Path:
        """Every slice moved to the middle of the repetition time; `times` in s, one for each slice along k."""

    @abstractmethod
    def realign(self, bold: Path) -> Realignment:
        """Rigid head motion of every volume."""

    @abstractmethod
    def functional_mask(self, reference: Path) -> Path:
        """Brain mask (uint8) of the EPI reference, made from the EPI alone."""

    @abstractmethod
    def coregister(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        """Rigid transform, text file (4, 4): mm in the T1w's world to mm in the EPI's world, both RAS."""

    def coregister_undistorted(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        """As `coregister`, of a reference whose distortion was removed, so that its intensities are where they belong."""
        return self.coregister(reference, reference_mask, t1w, brain_mask)

    def align(self, reference: Path, reference_mask: Path, image: Path, brain_mask: Path) -> Path:
        """As `coregister`, to an image of any contrast that was scanned with the EPI, such as a field map's magnitude."""
        return self.coregister(reference, reference_mask, image, brain_mask)

    def unwarp_by_field(
        self, bold: Path, realignment: Realignment, hertz: Path, phase: PhaseEncoding
    ) -> Distortion | None:
        """Distortion from a field map: `hertz` is the off-resonance in Hz on the reference's grid. None: this engine cannot."""
        return None

    def unwarp_with_motion(self, bold: Path, realignment: Realignment, axis: int) -> Distortion | None:
        """What head motion changes of the distortion along `axis`; the distortion itself stays. None: this engine cannot."""
        return None

    def unwarp_by_registration(
        self,
        bold: Path,
        realignment: Realignment,
        reference_mask: Path,
        axis: int,
        t1w: Path,
        brain_mask: Path,
        coregistration: Path,
    ) -> Distortion | None:
        """Distortion without a field map, along the voxel axis `axis`, from the images. None: this engine cannot.

        `coregistration` is the rigid one of the distorted reference; the caller coregisters the corrected one anew.
        """
        return None

    @abstractmethod
    def resample(
        self,
        bold: Path,
        realignment: Realignment | None,
        coregistration: Path,
        normalisation: Normalisation,
        voxel_size: float,
        distortion: Distortion | None = None,
    ) -> Path:
        """A series on the grid, in one interpolation; without a realignment, an image of the reference's grid as acquired."""

    @abstractmethod
    def smooth(self, series: Path, fwhm: float) -> Path:
        """A series smoothed in space by a Gaussian of `fwhm` mm."""

    def add(
        self,
        step: str,
        tool: str,
        version: str | None,
        parameters: Mapping[str, Any],
        method: str,
        seconds: float | None = None,
    ) -> None:
        """Record one step."""
        self.steps.append(
            {
                "step": step,
                "tool": tool,
                "version": version,
                "parameters": dict(parameters),
                "seconds": None if seconds is None else round(seconds, 2),
                "method": method,
            }
        )

    def charge(self, index: int, superseded: list[dict[str, Any]]) -> None:
        """Add what steps took, whose results did not stay, to the time of the step that needed them, or that is in their place."""
        for measure in ("seconds", "cpu_seconds") if superseded else ():
            parts = [step.get(measure) or 0 for step in (self.steps[index], *superseded)]
            self.steps[index][measure] = round(sum(parts), 2)

    @contextmanager
    def step(
        self, step: str, tool: str, version: str | None, parameters: dict[str, Any], method: str
    ) -> Iterator[dict[str, Any]]:
        """Time a step and record it when it ends; `parameters` may grow meanwhile."""
        start, spent = time.perf_counter(), sum(os.times()[:4])
        yield parameters
        self.add(step, tool, version, parameters, method, time.perf_counter() - start)
        self.steps[-1]["cpu_seconds"] = round(sum(os.times()[:4]) - spent, 2)  # with ended children


def engine(name: str, folder: Path, settings: Mapping[str, Any] | None = None) -> Engine:
    """The engine of that name, working in `folder` with its part of the config's section `engines`.

    Raises `InputError` for a name that is not shipped.
    """
    if name not in SHIPPED:
        raise InputError(
            f"engine {name!r} is not part of this version, which has {', '.join(SHIPPED)}: set anatomical.engine and "
            "functional.engine to one of them"
        )
    if name == "embedded":
        from restresponse.engines.embedded import Embedded as chosen
    elif name == "spm":
        from restresponse.engines.spm import Spm as chosen
    elif name == "fsl":
        from restresponse.engines import fsl_installation
        from restresponse.engines.fsl import Fsl as chosen

        fsl_installation.check()
    return chosen(folder, settings)
