"""The house's own work on susceptibility distortion, as nipype interfaces and as the steps of an engine that uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from restresponse.engines import Distortion, EngineFailure, PhaseEncoding, Realignment, shifts, unwarping
from restresponse.engines.array_interfaces import VERSION, ArrayInterface, FileOutput, read, write
from restresponse.engines.folder import InFolder

TIMES_BY_CHANCE = 1.5  # what a field must gain, of what one along an axis without distortion does
_LEAST_GAIN = 0.05  # of the unexplained variance; noise may gain nothing at all
_AROUND = 6.0  # mm around the brain in which EPI and T1w are compared
_MARGIN = 6  # voxels kept around that
_FINE = 1.5  # mm, of the points whose mean is a voxel of the EPI


class Unwarping(InFolder):
    """The steps of an engine that correct distortion with this module.

    Attributes
    ----------
    passes : times that the field is looked for: the error of the distorted reference's registration is in the first, and a
        second, after the corrected reference was registered anew, has less of it. It takes some 10 s.
    """

    passes = 1

    def unwarp_by_field(
        self, bold: Path, realignment: Realignment, hertz: Path, phase: PhaseEncoding
    ) -> Distortion | None:
        if phase.readout is None:
            return None
        method = (
            "Susceptibility distortion was corrected with the field map: the signal was moved along the phase-encoding axis by "
            "the off-resonance times the total readout time."
        )
        inputs = {"axis": phase.axis, "sign": phase.sign, "readout": phase.readout}
        with self.step("unwarping", "restresponse", VERSION, dict(inputs), method) as facts:
            factor = phase.readout * phase.sign
            shift = self._made(ShiftOfField, "shift.nii", in_file=hertz, factor=factor, axis=phase.axis)
            return self._distortion(realignment, shift, phase.axis, facts)

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
        start = len(self.steps)
        distortion = self._look(realignment, axis, t1w, brain_mask, coregistration)
        for _ in range(1, self.passes):
            if distortion is None:
                break
            try:
                mask = self.functional_mask(distortion.reference)
                coregistration = self.coregister_undistorted(distortion.reference, mask, t1w, brain_mask)
            except EngineFailure as error:
                self._found_none(
                    start, {"axis": axis}, f"the reference without the distortion that was found is lost: {error}"
                )
                return None
            superseded = self.steps[start:]
            del self.steps[start:]
            distortion = self._look(realignment, axis, t1w, brain_mask, coregistration)
            self.charge(start, superseded)
            self.steps[start]["parameters"]["passes"] = self.passes
        return distortion

    def _look(
        self, realignment: Realignment, axis: int, t1w: Path, brain_mask: Path, coregistration: Path
    ) -> Distortion | None:
        """The distortion by registration to the T1w, or None where it is not beyond chance."""
        method = (
            "Susceptibility distortion was estimated by registration of the EPI reference to the T1w image, restricted to the "
            "phase-encoding axis (cubic B-splines, Gauss-Newton), after a first rigid registration."
        )
        distortion = None
        with self.step("unwarping", "restresponse", VERSION, {"axis": axis}, method) as facts:
            images = {"in_file": realignment.reference, "t1w": t1w, "brain_mask": brain_mask}
            images["matrix"] = np.loadtxt(coregistration)
            found = self._found(ShiftByRegistration, "shift.nii", axis=axis, **images)
            facts |= {"unexplained_before": round(found.before, 4), "unexplained_after": round(found.after, 4)}
            other = undistorted_axis(axis)
            chance = self._found(ShiftByRegistration, "shift_by_chance.nii", axis=other, **images).gain
            facts |= {"gain": round(found.gain, 3), "gain_without_distortion": round(chance, 3)}
            if beyond_chance(found.gain, chance):
                distortion = self._distortion(realignment, Path(found.out_file), axis, facts)
        if distortion is None:
            why = (
                "the registration to the T1w image along the phase-encoding axis improves their match hardly more than one "
                "along an axis without distortion"
            )
            self._found_none(len(self.steps) - 1, facts, why)
        return distortion

    def _found_none(self, step: int, facts: dict[str, Any], why: str) -> None:
        """Say of a step that looked for distortion that none is corrected, and why."""
        method = f"Susceptibility distortion was not corrected ({why})."
        self.steps[step] |= {"tool": "none", "version": None, "parameters": facts | {"why": why}, "method": method}
        del self.steps[step + 1 :]

    def _distortion(self, realignment: Realignment, shift: Path, axis: int, facts: dict[str, Any]) -> Distortion:
        """The reference without a shift, and the shift; its size goes into `facts`."""
        names = {"in_file": realignment.reference, "shift": shift, "axis": axis}
        straight = self._found(Undistorted, "reference_straight.nii", **names)
        facts |= {"largest_mm": round(straight.largest_mm, 2), "mean_mm": round(straight.mean_mm, 2)}
        return Distortion(Path(straight.out_file), shift, axis)


class _ShiftOfFieldInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="off-resonance, Hz")
    factor = traits.Float(mandatory=True, desc="readout time, s, with the sign of the phase encoding")
    axis = traits.Range(0, 2, mandatory=True, desc="voxel axis of phase encoding")
    out_file = File(mandatory=True, desc="voxels along that axis")


class ShiftOfField(ArrayInterface):
    """The shift that a field makes, without folds."""

    input_spec = _ShiftOfFieldInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        shift = (read(inputs.in_file) * np.float32(inputs.factor)).astype(np.float32)
        write(inputs.out_file, bounded(shift, inputs.axis), nib.load(inputs.in_file).affine)
        return {}


class _RegisteredInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="EPI reference")
    t1w = File(mandatory=True)
    brain_mask = File(mandatory=True, desc="of the T1w")
    matrix = traits.Array(shape=(4, 4), mandatory=True, desc="mm in the T1w's world to mm in the EPI's")


class _ShiftByRegistrationInput(_RegisteredInput):
    axis = traits.Range(0, 2, mandatory=True, desc="voxel axis along which the EPI may be moved")
    out_file = File(mandatory=True, desc="voxels along that axis")


class _ShiftByRegistrationOutput(FileOutput):
    before = traits.Float(desc="share of the EPI's variance that the T1w does not explain, 0 to 1")
    after = traits.Float(desc="the same with the shift")
    gain = traits.Float(desc="share of the unexplained variance that the shift removes")


class ShiftByRegistration(ArrayInterface):
    """The shift that makes an EPI like its T1w, see `match_to_anatomy`."""

    input_spec, output_spec = _ShiftByRegistrationInput, _ShiftByRegistrationOutput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        found = match_to_anatomy(Path(inputs.in_file), inputs.axis, inputs.t1w, inputs.brain_mask, inputs.matrix)
        write(inputs.out_file, found.shift.astype(np.float32), nib.load(inputs.in_file).affine)
        return {"before": found.before, "after": found.after, "gain": found.gain}


class _UnexplainedOutput(TraitedSpec):
    share = traits.Float(desc="of the EPI's variance near the brain, 0 to 1")


class Unexplained(ArrayInterface):
    """How good a registration is, see `unexplained`."""

    input_spec, output_spec = _RegisteredInput, _UnexplainedOutput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        return {"share": unexplained(Path(inputs.in_file), inputs.t1w, inputs.brain_mask, inputs.matrix)}


class _UndistortedInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="EPI")
    shift = File(mandatory=True, desc="see `engines.Distortion`")
    axis = traits.Range(0, 2, mandatory=True, desc="voxel axis of phase encoding")
    out_file = File(mandatory=True)


class _UndistortedOutput(FileOutput):
    largest_mm = traits.Float()
    mean_mm = traits.Float()


class Undistorted(ArrayInterface):
    """An EPI without its distortion, signal kept, and the size of the shift."""

    input_spec, output_spec = _UndistortedInput, _UndistortedOutput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        affine, shift = nib.load(inputs.in_file).affine, read(inputs.shift)
        size = np.abs(shift) * np.linalg.norm(affine[:3, inputs.axis])
        straight = undistorted_reference(Path(inputs.in_file), shift, inputs.axis)
        write(inputs.out_file, straight.astype(np.float32), affine)
        return {"largest_mm": float(size.max()), "mean_mm": float(size.mean())}


def undistorted_axis(axis: int) -> int:
    """A voxel axis along which an EPI is not distorted: the other one of its plane, as planes lie in a file."""
    return 0 if axis == 1 else 1


def beyond_chance(gain: float, chance: float) -> bool:
    """Whether a field along the phase-encoding axis shows distortion.

    EPI and T1w differ in more than distortion, and a field along any axis hides some of it: how much, the same
    registration along an axis without distortion tells, in each scan anew. A fixed threshold would have to know the
    scan's noise, contrast and voxels.

    Parameters
    ----------
    gain, chance : share of the unexplained variance that the field removes, along the two axes
    """
    return gain > max(_LEAST_GAIN, TIMES_BY_CHANCE * chance)


def undistorted_reference(reference: Path, shift: np.ndarray, axis: int) -> np.ndarray:
    """The reference (X, Y, Z) without its distortion, signal kept (intensities times 1 + s')."""
    image = np.asarray(nib.load(reference).dataobj, np.float32)
    return np.moveaxis(shifts.undistorted(np.moveaxis(image, axis, -1), np.moveaxis(shift, axis, -1)), -1, axis)


def bounded(shift: np.ndarray, axis: int) -> np.ndarray:
    """The field without folds."""
    return np.ascontiguousarray(np.moveaxis(shifts.unfolded(np.moveaxis(shift, axis, -1)), -1, axis))


def match_to_anatomy(
    reference: Path, axis: int, t1w: Path, brain_mask: Path, coregistration: np.ndarray
) -> unwarping.Match:
    """The field along `axis` that makes the reference like the T1w, on the reference's grid, see `unwarping.against_anatomy`.

    Parameters
    ----------
    coregistration : (4, 4), mm in the T1w's world to mm in the EPI's
    """
    compared = _compared(reference, axis, t1w, brain_mask, coregistration)
    shape = nib.load(reference).shape[:3]
    if compared is None:
        return unwarping.Match(np.zeros(shape, np.float32), 1.0, 1.0)
    images, window = compared
    found = unwarping.against_anatomy(*images)
    around = [(part.start, n - part.stop) for part, n in zip(window, shape, strict=True)]
    shift = np.pad(np.moveaxis(found.shift, -1, axis), around, mode="edge")
    return unwarping.Match(np.ascontiguousarray(shift), found.before, found.after)


def unexplained(reference: Path, t1w: Path, brain_mask: Path, coregistration: np.ndarray) -> float:
    """Share of the reference's variance near the brain that the T1w does not explain there, 0 to 1: how good a registration is.

    Parameters
    ----------
    coregistration : (4, 4), mm in the T1w's world to mm in the EPI's
    """
    compared = _compared(reference, 2, t1w, brain_mask, coregistration)
    if compared is None:
        return 1.0
    (epi, t1w_there, _, region, _), _ = compared
    varying = all(np.ptp(image[region]) > 0 for image in (epi, t1w_there))
    return unwarping.unexplained(*compared[0]) if varying else 1.0


def _compared(
    reference: Path, axis: int, t1w: Path, brain_mask: Path, coregistration: np.ndarray
) -> tuple[list[np.ndarray], tuple[slice, ...]] | None:
    """What `unwarping.against_anatomy` compares, and the part of the reference's grid that it is; None without a brain there."""
    from scipy import ndimage

    epi, anatomical, mask = (nib.load(path) for path in (reference, t1w, brain_mask))
    shape, voxel_size = epi.shape[:3], np.linalg.norm(epi.affine[:3, :3], axis=0)
    head = np.asarray(anatomical.dataobj, np.float32)
    brain = (np.asarray(mask.dataobj) > 0).astype(np.float32)
    to_t1w = np.linalg.inv(coregistration) @ epi.affine
    t1w_there, brain_there = (
        _averaged(data, np.linalg.inv(image.affine) @ to_t1w, shape, voxel_size)
        for data, image in ((head, anatomical), (brain, mask))
    )
    if not (brain_there >= 0.5).any():
        return None
    region = ndimage.distance_transform_edt(brain_there < 0.5, sampling=voxel_size) < _AROUND
    index = np.argwhere(region)
    low, high = np.maximum(index.min(axis=0) - _MARGIN, 0), np.minimum(index.max(axis=0) + _MARGIN + 1, shape)
    window = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    images = (np.asarray(epi.dataobj, np.float32), t1w_there, brain_there, region)
    turned = [np.ascontiguousarray(np.moveaxis(image[window], axis, -1)) for image in images]
    return [*turned, _last(voxel_size, axis)], window


def _averaged(data: np.ndarray, through: np.ndarray, shape: tuple[int, ...], voxel_size: np.ndarray) -> np.ndarray:
    """An image on another grid (`through`: index there to index here), the mean over each voxel's points, linear."""
    from scipy import ndimage

    counts = np.maximum(1, np.round(voxel_size / _FINE)).astype(int)
    total = np.zeros(shape, np.float32)
    for offset in np.ndindex(*counts):
        inside = (np.array(offset) + 0.5) / counts - 0.5
        start = through[:3, :3] @ inside + through[:3, 3]
        total += ndimage.affine_transform(data, through[:3, :3], start, output_shape=shape, order=1)
    return total / np.float32(counts.prod())


def _last(values: np.ndarray, axis: int) -> np.ndarray:
    """The values (3,) of each axis in the order that `moveaxis(…, axis, -1)` gives."""
    return np.array([*np.delete(values, axis), values[axis]])
