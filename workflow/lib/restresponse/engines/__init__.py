"""The one interface through which `anatomical` and `functional` reach preprocessing software, and the engines by name.

Every step takes and gives paths of images, so that an engine may be any set of nipype interfaces. Transforms are handed
from one step to the next as files in the engine's own format; what other stages read of them is stated per class.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.errors import InputError

SHIPPED = ("embedded",)
TISSUES = ("GM", "WM", "CSF")


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
class Normalisation:
    """The transform between MNI space and a T1w image.

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
    folder : working folder of this job; everything the engine writes is in it.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.steps: list[dict[str, Any]] = []

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

    def unwarp(self, realignment: Realignment) -> Realignment:
        """Correct susceptibility distortion; an engine that cannot says so in its steps and changes nothing."""
        self.add("unwarping", "none", None, {}, "Susceptibility distortion was not corrected.")
        return realignment

    @abstractmethod
    def functional_mask(self, reference: Path) -> Path:
        """Brain mask (uint8) of the EPI reference, made from the EPI alone."""

    @abstractmethod
    def coregister(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        """Rigid transform, text file (4, 4): mm in the T1w's world to mm in the EPI's world, both RAS."""

    @abstractmethod
    def resample(
        self,
        bold: Path,
        realignment: Realignment | None,
        coregistration: Path,
        normalisation: Normalisation,
        voxel_size: float,
    ) -> Path:
        """A series (or, without a realignment, an image of the reference position) on the grid, in one interpolation."""

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

    @contextmanager
    def step(
        self, step: str, tool: str, version: str | None, parameters: dict[str, Any], method: str
    ) -> Iterator[dict[str, Any]]:
        """Time a step and record it when it ends; `parameters` may grow meanwhile."""
        start = time.perf_counter()
        yield parameters
        self.add(step, tool, version, parameters, method, time.perf_counter() - start)


def engine(name: str, folder: Path) -> Engine:
    """The engine of that name, working in `folder`. Raises `InputError` for a name that is not shipped."""
    if name == "embedded":
        from restresponse.engines.embedded import Embedded

        return Embedded(folder)
    raise InputError(
        f"engine {name!r} is not part of this version, which has {', '.join(SHIPPED)} only: set anatomical.engine and "
        "functional.engine to embedded"
    )
