"""SPM's batches through nipype's interfaces: which command runs them, their script's text, and SPM's own words when one fails.

Nipype asks SPM for its version before a batch and, where a batch fails, often says only that an output is missing. Here
the version is read from what the batch itself prints, and what SPM said is in the error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces import spm
from nipype.interfaces.base import File, TraitedSpec
from nipype.interfaces.spm.base import SPMCommand, SPMCommandInputSpec

from restresponse import grid
from restresponse.engines import warps

# SPM12's own settings (spm_defaults.m and the batch's defaults), written out so that a batch says what was done
BIAS = {"regularisation": 0.001, "fwhm": 60.0}  # light; mm
_WARP = {"affine_regularisation": "mni", "regularisation": [0.0, 0.001, 0.5, 0.05, 0.2], "sampling_distance": 3.0}  # mm
REALIGN = {"quality": 0.9, "separation": 4.0, "fwhm": 5.0, "register_to_mean": True, "interp": 2, "wrap": [0, 0, 0]}
COREGISTER = {"cost_function": "nmi", "separation": [4.0, 2.0], "fwhm": [7.0, 7.0]}  # mm, mm
INTERPOLATION = 4  # degree of the B-spline that writes series
_GAUSSIANS = (1, 1, 2, 3, 4, 2)  # of each class of TPM.nii
_FLUID = 1  # of CSF where other maps are given: a second one takes what is half cortex
_LOOSE = [0.0, 0.0, 0.1, 0.01, 0.04]  # regularisation of the warp to other maps: SPM25's default, a fifth of SPM12's

_FAILED = re.compile(
    r"(Failed|Skipped)\s+'|MATLAB code threw an exception|modules did not run|SPM not in matlab path|"
    r"Could not access the (MATLAB|MCR)|^(fatal: )?(error|Error)( using|:)",
    re.MULTILINE,
)
_NO_MEMORY = re.compile(r"out of memory|std::bad_alloc|^Killed$", re.IGNORECASE | re.MULTILINE)
_VERSION = re.compile(r"SPM version: (\S+) Release: (\S+)")
_NOISE = re.compile(r"^(-+|=+|\s*|stty: .*|warning: .*|In file .*)$")
_LINES = 12  # of SPM's words in an error


class BatchError(RuntimeError):
    """A batch failed; the message is what SPM said of it.

    Attributes
    ----------
    killed : the program was killed or had no memory left: the machine's failure.
    """

    def __init__(self, message: str, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed


class _Batch(SPMCommand):
    """A batch that keeps what SPM said, `said`, and judges by it, by the exit status and by the outputs."""

    version = "12"  # nipype's smallest demands hold from it on; the real one is `release`, read from the output
    said = ""

    @property
    def script(self) -> str:
        """The text of the script that SPM runs."""
        return self._make_matlab_command(deepcopy(self._parse_inputs()))

    @property
    def release(self) -> str | None:
        """SPM's name and release as the batch printed them, e.g. `SPM12 7771`."""
        found = _VERSION.search(self.said)
        return " ".join(found.groups()) if found else None

    def _run_interface(self, runtime: Any) -> Any:
        self.mlab.inputs.script = self.script
        done = self.mlab.run(ignore_exception=True).runtime
        self.said = "\n".join(text for text in (done.get("stdout"), done.get("stderr")) if text)
        status = done.get("returncode")
        if status in (-9, 137) or _NO_MEMORY.search(self.said):
            raise BatchError(last_words(self.said) or "the program was killed", killed=True)
        if status != 0 or _FAILED.search(self.said):
            silent = f"the program ended with status {status} and said nothing {done.get('traceback') or ''}".strip()
            raise BatchError(last_words(self.said) or silent)
        runtime.returncode, runtime.stdout, runtime.stderr = status, done.get("stdout"), done.get("stderr")
        return runtime

    def aggregate_outputs(self, runtime: Any = None, needed_outputs: Any = None) -> Any:
        try:
            return super().aggregate_outputs(runtime, needed_outputs)
        except (OSError, ValueError) as error:  # nipype's words for an output that is not there
            reason = " ".join(str(error).split())
            raise BatchError(f"an output was not written ({reason}); SPM said: {last_words(self.said)}") from error


def last_words(text: str) -> str:
    """What SPM said of its failure: from the first line that tells of it, or the last lines."""
    found = _FAILED.search(text)
    lines = [line.strip() for line in text[found.start() if found else 0 :].splitlines() if not _NOISE.match(line)]
    return " | ".join(lines[:_LINES] if found else lines[-_LINES:])


class SliceTiming(_Batch, spm.SliceTiming):
    """Temporal > Slice timing."""


class Realign(_Batch, spm.Realign):
    """Spatial > Realign."""


class RealignUnwarp(_Batch, spm.RealignUnwarp):
    """Spatial > Realign & Unwarp; the voxel displacement map is a cell of names, as the batch has it."""

    def _parse_inputs(self, skip: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        [content] = super()._parse_inputs(skip)
        for session in content["data"]:
            session["pmscan"] = _cell([f"{session['pmscan']},1"] if session["pmscan"] else [])
        return [content]


class Coregister(_Batch, spm.Coregister):
    """Spatial > Coregister."""


class Segment(_Batch, spm.NewSegment):
    """Spatial > Segment, by its name from SPM12 on, which nipype would ask SPM itself for."""

    _jobtype = "spatial"
    _jobname = "preproc"

    def __init__(self, **inputs: Any) -> None:
        SPMCommand.__init__(self, **inputs)


class _MapsInput(SPMCommandInputSpec):
    copy = File(mandatory=True, desc="where they go")


class _Maps(TraitedSpec):
    copy = File(exists=True)


class TissueMaps(_Batch):
    """A copy of the tissue maps of the SPM that the command runs, wherever it has them."""

    input_spec = _MapsInput
    output_spec = _Maps

    @property
    def script(self) -> str:
        return (
            "[name, version] = spm('ver');\n"
            "fprintf('SPM version: %s Release: %s\\n', name, version);\n"
            f"copyfile(fullfile(spm('Dir'), 'tpm', 'TPM.nii'), '{self.inputs.copy}');\n"
        )

    def run(self, *arguments: Any, **inputs: Any) -> Any:
        try:
            return super().run(*arguments, **inputs)
        except BatchError as error:
            if error.killed or self.release is None:
                raise
            raise OSError(  # no scan has a part in this batch
                f"SPM's tissue maps (tpm/TPM.nii in its folder) could not be copied; expected them beside SPM's programs: restore them, or name a "
                f"folder of SPM that has them in engines.spm.folder; SPM said: {error}"
            ) from error

    def _list_outputs(self) -> dict[str, str]:
        return {"copy": self.inputs.copy}


class Normalise(_Batch, spm.Normalize12):
    """Spatial > Normalise."""


class Smooth(_Batch, spm.Smooth):
    """Spatial > Smooth."""


def own_maps(settings: Mapping[str, Any]) -> Path | None:
    """SPM's tissue maps in its folder; None where the folder is not given."""
    return Path(settings["folder"]) / "tpm" / "TPM.nii" if settings.get("folder") else None


def tissue_maps(settings: Mapping[str, Any], copy: Path) -> TissueMaps:
    """Copy SPM's tissue maps, whose place SPM itself knows."""
    return TissueMaps(copy=str(copy), **_program(settings))


def warp(own: bool) -> dict[str, Any]:
    """Settings of the segmentation's deformation, to SPM's own maps or to others."""
    return dict(_WARP) if own else _WARP | {"regularisation": _LOOSE}


def segmentation(settings: Mapping[str, Any], t1w: Path, maps: Path | None = None) -> Segment:
    """Segment, with SPM12's own settings where the priors are SPM's own: without `maps`, six classes as in TPM.nii."""
    inputs: dict[str, Any] = {}
    deformation = warp(own=maps is None)
    gaussians = list(_GAUSSIANS)
    gaussians[2] = _FLUID if maps else gaussians[2]
    maps = maps or own_maps(settings)
    if maps:
        inputs["tissues"] = [
            ((str(maps), index), count, (index <= 3, False), (False, False))  # grey, white and CSF are written
            for index, count in enumerate(gaussians, start=1)
        ]
    return Segment(
        channel_files=[str(t1w)],
        channel_info=(BIAS["regularisation"], BIAS["fwhm"], (False, True)),
        affine_regularization=deformation["affine_regularisation"],
        warping_regularization=deformation["regularisation"],
        sampling_distance=deformation["sampling_distance"],
        write_deformation_fields=[False, True],
        **inputs,
        **_program(settings),
    )


def timing(settings: Mapping[str, Any], bold: Path, times: list[float], repetition_time: float) -> SliceTiming:
    """Slice timing by times: slices and reference in ms, repetition time in s; SPM then wants 0 for the acquisition time.

    `times` and `repetition_time` are in s; the reference is the middle of the repetition time.
    """
    return SliceTiming(
        in_files=[str(bold)],
        num_slices=int(nib.load(bold).shape[2]),
        time_repetition=float(repetition_time),
        time_acquisition=0.0,
        slice_order=[round(1e3 * time, 3) for time in times],
        ref_slice=round(5e2 * repetition_time, 3),
        **_program(settings),
    )


def realignment(settings: Mapping[str, Any], series: Path) -> Realign:
    """Realign to the mean; of the images, the mean alone is written."""
    return Realign(
        in_files=[str(series)],
        jobtype="estwrite",
        **REALIGN,
        write_which=[0, 1],
        write_interp=INTERPOLATION,
        write_wrap=[0, 0, 0],
        write_mask=True,
        **_program(settings),
    )


def unwarping(settings: Mapping[str, Any], series: Path, shift: Path | None = None) -> RealignUnwarp:
    """Realign & Unwarp, with a voxel displacement map or without; SPM takes the second voxel axis for phase encoding."""
    return RealignUnwarp(
        in_files=[str(series)],
        **({} if shift is None else {"phase_map": str(shift)}),
        **REALIGN,
        est_basis_func=[12, 12],
        est_reg_order=1,
        est_reg_factor=[100000],
        est_jacobian_deformations=False,
        est_first_order_effects=[4, 5],  # pitch and roll
        est_unwarp_fwhm=4.0,
        est_re_est_mov_par=True,
        est_num_of_iterations=[5],
        est_taylor_expansion_point="Average",
        reslice_which=[2, 1],
        reslice_interp=INTERPOLATION,
        reslice_wrap=[0, 0, 0],
        reslice_mask=True,
        **_program(settings),
    )


def coregistration(settings: Mapping[str, Any], target: Path, source: Path) -> Coregister:
    """Coregister, estimate alone: the position goes into the header of `source`."""
    return Coregister(
        target=str(target),
        source=[str(source)],
        jobtype="estimate",
        **COREGISTER,
        tolerance=[0.02] * 3 + [0.001] * 3 + [0.01] * 3 + [0.001] * 3,
        **_program(settings),
    )


def normalisation(
    settings: Mapping[str, Any], images: list[Path], deformation: Path, voxel_size: float, interpolation: int
) -> Normalise:
    """Normalise, write alone, on CONN's bounding box."""
    shape, affine = grid.grid(voxel_size)
    corners = warps.world_of(np.array([[0, 0, 0], np.array(shape) - 1], float), affine)
    return Normalise(
        deformation_file=str(deformation),
        apply_to_files=[str(path) for path in images],
        jobtype="write",
        write_bounding_box=corners.tolist(),
        write_voxel_sizes=[float(voxel_size)] * 3,
        write_interp=interpolation,
        **_program(settings),
    )


def smoothing(settings: Mapping[str, Any], series: Path, fwhm: float) -> Smooth:
    """Smooth by a Gaussian of `fwhm` mm along each axis, in the type of the input."""
    return Smooth(
        in_files=[str(series)], fwhm=[float(fwhm)] * 3, data_type=0, implicit_masking=False, **_program(settings)
    )


def _program(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of every interface that say how SPM is run, from the settings `engines.spm`."""
    standalone = bool(settings.get("use_mcr", True))
    inputs: dict[str, Any] = {"matlab_cmd": settings["command"], "use_mcr": standalone}
    if settings.get("folder") and not standalone:  # a compiled program knows its own folder and takes no other
        inputs["paths"] = [str(settings["folder"])]
    return inputs


def _cell(names: list[str]) -> Any:
    """A cell array of text as nipype writes one."""
    return np.array(names, dtype=object)
