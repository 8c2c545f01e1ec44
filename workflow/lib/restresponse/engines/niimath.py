"""Nipype interfaces over niimath (Rorden, https://github.com/rordenlab/niimath), whose wheel carries the program.

File names are taken relative to the folder in which an interface runs: the command line goes through a shell, and
names inside the folder have no spaces.
"""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

import niimath
from nipype.interfaces.base import CommandLine, CommandLineInputSpec, File, TraitedSpec, traits

VERSION = importlib.metadata.version("niimath")


class _Input(CommandLineInputSpec):
    in_file = File(argstr="%s", position=0, mandatory=True, desc="input image")
    out_file = File(argstr="%s", position=-1, mandatory=True, desc="output image")


class _Output(TraitedSpec):
    out_file = File(desc="output image")


class Niimath(CommandLine):
    """A niimath command: one thread, uncompressed images, the program of the installed wheel."""

    _cmd = "niimath"
    input_spec = _Input
    output_spec = _Output
    version = VERSION

    def __init__(self, **inputs: Any) -> None:
        super().__init__(terminal_output="allatonce", **inputs)
        path = os.pathsep.join([os.path.dirname(niimath.bin), os.environ.get("PATH", "")])  # noqa: PTH120
        self.inputs.environ = {"PATH": path, "FSLOUTPUTTYPE": "NIFTI", "OMP_NUM_THREADS": "1"}

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        runtime = super()._run_interface(runtime, correct_return_codes)
        if runtime.returncode not in correct_return_codes:  # nipype 1.11 runs on when a command line fails
            self.raise_exception(runtime)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        return {"out_file": self.inputs.out_file}


class _BiasCorrectionInput(_Input):
    mask = File(argstr="-mask %s", position=2, desc="the field is estimated inside it")
    shrink = traits.Int(4, argstr="-n4 -shrink %d", position=1, usedefault=True, desc="subsampling of the estimate")
    iterations = traits.Str("30x30x20", argstr="-iter %s", position=3, usedefault=True, desc="per level")


class BiasCorrection(Niimath):
    """N4 (Tustison et al. 2010, IEEE TMI 29:1310)."""

    input_spec = _BiasCorrectionInput


class _AffineInput(_Input):
    base = File(argstr="-allineate %s", position=1, mandatory=True, desc="fixed image")
    matrix = File(argstr="-savemat %s", position=2, mandatory=True, desc="JSON of the fitted affine")
    final = traits.Enum("linear", "cubic", argstr="-final %s", position=3, usedefault=True, desc="interpolation")


class Affine(Niimath):
    """Affine registration of a head to a brain template with niimath's fast cost, made for heads with skull and neck."""

    input_spec = _AffineInput


class _SliceTimingInput(_Input):
    times = traits.List(
        traits.Float, argstr="-stc --slicetiming %s", sep=",", position=1, mandatory=True, desc="s, one for each k"
    )
    reference = traits.Float(
        argstr="-tzero %.6f", position=2, mandatory=True, desc="s, the time all slices are moved to"
    )


class SliceTiming(Niimath):
    """Fourier interpolation of each slice's series to one time."""

    input_spec = _SliceTimingInput

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> str:
        if name == "times":
            value = [float(f"{time:.6f}") for time in value]
        return super()._format_arg(name, trait_spec, value)


class _RealignmentInput(_Input):
    reference = File(argstr="-boldref %s", position=1, mandatory=True, desc="reference image to be written, .nii")
    facts = File(argstr="%s", position=2, mandatory=True, desc="JSON on volumes before the steady state, to be written")
    out_file = File(argstr="-moco -ref %s", position=-1, mandatory=True, desc="parameter file, must end in .1D")


class Realignment(Niimath):
    """Rigid motion of each volume onto a median of motion-corrected volumes, without writing the series."""

    input_spec = _RealignmentInput

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> str:
        if name == "out_file":
            return f"-moco -ref {self.inputs.reference} -estimate {value}"
        return super()._format_arg(name, trait_spec, value)


class _ResamplingInput(_Input):
    grid = File(argstr="-resample %s", position=1, mandatory=True, desc="image whose grid is the target")
    motion = File(argstr="-hmc %s", position=2, desc="rows of `Realignment`")
    matrix = File(
        argstr="-mat %s", position=3, desc="JSON: mm on the target (after warp and affine) to mm of the input"
    )
    warp = File(argstr="-warp %s", position=4, desc="greedy's displacements on the target")
    affine = File(argstr="%s", position=5, requires=["warp"], desc="greedy's affine, applied after the warp")


class Resampling(Niimath):
    """A series on another grid through all its transforms in one cubic B-spline interpolation."""

    input_spec = _ResamplingInput


class _SmoothingInput(_Input):
    sigma = traits.Float(argstr="-s %.6f", position=1, mandatory=True, desc="mm")


class Smoothing(Niimath):
    """Gaussian smoothing in space."""

    input_spec = _SmoothingInput


class _PhaseUnwrappingInput(_Input):
    magnitude = File(argstr="-romeo %s", position=1, mandatory=True, desc="of the same echoes")
    mask = File(argstr="-k %s", position=2, mandatory=True, desc="inside it the phase is unwrapped")
    out_file = File(argstr="-no-phase-rescale %s", position=-1, mandatory=True, desc="phase in rad, not wrapped")


class PhaseUnwrapping(Niimath):
    """ROMEO (Dymerska et al. 2021, MRM 85:2294) of a phase in rad."""

    input_spec = _PhaseUnwrappingInput
