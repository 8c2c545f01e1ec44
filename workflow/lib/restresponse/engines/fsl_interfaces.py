"""Nipype's interfaces of FSL, held to what a job needs: uncompressed images, one thread, a failure that is one.

An interface runs in the working folder and is given names relative to it: nipype's command lines go through a shell, and
names inside the folder have no spaces, whatever the folder's own path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces import fsl
from nipype.utils.filemanip import indirectory

from restresponse.engines import EngineFailure, fsl_installation
from restresponse.engines.folder import failure_of

_LAST_LINES = 6
# FSL's own configuration T1_2_MNI152_2mm, with 4.5 mm made 5 (nipype's interface wants whole numbers)
FNIRT_SETTINGS = {
    "subsampling_scheme": [4, 4, 2, 2, 1, 1],
    "max_nonlin_iter": [5, 5, 5, 5, 5, 10],
    "in_fwhm": [8, 6, 5, 5, 3, 2],
    "ref_fwhm": [8, 6, 5, 4, 2, 0],
    "regularization_lambda": [300.0, 150.0, 100.0, 50.0, 40.0, 30.0],
    "regularization_model": "bending_energy",
    "apply_refmask": [1, 1, 1, 1, 1, 1],
    "apply_inmask": [1, 1, 1, 1, 1, 1],  # although there is none: fnirt's own default is of four levels, and it stops
    "apply_intensity_mapping": [1, 1, 1, 1, 1, 0],
    "intensity_mapping_model": "global_non_linear_with_bias",
    "intensity_mapping_order": 5,
    "biasfield_resolution": (50, 50, 50),
    "bias_regularization_lambda": 10000.0,
    "warp_resolution": (10, 10, 10),
}


class _Program:
    """What is common to FSL's programs."""

    _output_type = "NIFTI"

    def __init__(self, **inputs: Any) -> None:
        super().__init__(terminal_output="allatonce", output_type="NIFTI", **inputs)  # type: ignore[call-arg]
        self.inputs.environ = fsl_installation.environment()  # type: ignore[attr-defined]

    @property
    def version(self) -> str | None:
        return fsl_installation.version()

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        runtime = super()._run_interface(runtime)  # type: ignore[misc]
        if runtime.returncode not in correct_return_codes:  # nipype 1.11 runs on when a command line fails
            self.raise_exception(runtime)  # type: ignore[attr-defined]
        return runtime

    def aggregate_outputs(self, runtime: Any = None, needed_outputs: Any = None) -> Any:
        # what was written is looked for by `run`; some of nipype's lists need a version of FSL that it cannot tell
        return self._outputs()  # type: ignore[attr-defined]


class ApplyWarp(_Program, fsl.ApplyWarp):
    """Resampling through affines and a field; a premat of 4 n rows has one matrix for each of n volumes."""


class BET(_Program, fsl.BET):
    """Brain extraction (Smith 2002, Hum Brain Mapp 17:143)."""


class ConvertWarp(_Program, fsl.ConvertWarp):
    """Several transforms in one field."""


class FAST(_Program, fsl.FAST):
    """Tissue segmentation and bias field (Zhang et al. 2001, IEEE TMI 20:45)."""


class FLIRT(_Program, fsl.FLIRT):
    """Linear registration (Jenkinson & Smith 2001, Med Image Anal 5:143; Greve & Fischl 2009, NeuroImage 48:63)."""


class FNIRT(_Program, fsl.FNIRT):
    """Non-linear registration (Andersson et al. 2007, FMRIB technical report TR07JA2)."""

    def _format_arg(self, name: str, spec: Any, value: Any) -> Any:
        if name in self.filemap:  # nipype would make these paths absolute, with the spaces they may have
            return spec.argstr % value
        return super()._format_arg(name, spec, value)


class FUGUE(_Program, fsl.FUGUE):
    """Distortion from a field map (Jenkinson 2003, Magn Reson Med 49:193)."""


class MCFLIRT(_Program, fsl.MCFLIRT):
    """Head motion (Jenkinson et al. 2002, NeuroImage 17:825); `out_file` is given without its ending."""


class Mean(_Program, fsl.MeanImage):
    """Mean over time."""


class RobustFOV(_Program, fsl.RobustFOV):
    """A head without its neck."""


class SliceTimer(_Program, fsl.SliceTimer):
    """Slice timing by sinc interpolation."""


class Smooth(_Program, fsl.IsotropicSmooth):
    """Gaussian smoothing in space."""


def built(program: type, folder: Path, **inputs: Any) -> Any:
    """An interface on names inside `folder`; nipype looks for them from where the process stands."""
    with indirectory(folder):
        return program(**inputs)


def run(interface: Any, folder: Path, target: str) -> Path:
    """Run an interface in `folder` and give the path of `target`, which it writes.

    Raises
    ------
    EngineFailure
        The program failed, or ended without its output; with its own last words. Nothing is left under the target's name.
    MemoryError, OSError
        It was killed, or the disk is full.
    """
    path, name = folder / target, interface.cmd
    path.unlink(missing_ok=True)
    try:
        with indirectory(folder):
            result = interface.run()
    except MemoryError:
        raise
    except Exception as error:
        path.unlink(missing_ok=True)
        said = str(error)
        raise failure_of(f"FSL's {name}", said, _last_words(said), folder) from error
    if not path.exists():
        said = f"{result.runtime.stdout or ''}\n{result.runtime.stderr or ''}"
        raise EngineFailure(
            f"FSL's {name} ended without its output {target} ({result.runtime.cmdline}): {_last_words(said) or 'it said nothing'}"
        )
    return path


def _last_words(text: str) -> str:
    """What a program said at its end, out of nipype's message."""
    said = text.partition("Standard output:")[2].partition("Return code:")[0] if "Standard output:" in text else text
    lines = [line.strip() for line in said.splitlines() if line.strip() and line.strip() != "Standard error:"]
    lines = [line for line in lines if not line.startswith("-")] or lines  # options: many programs end with their usage
    return " | ".join(lines[-_LAST_LINES:]) or " ".join(text.split())[-300:]
