"""The house's own work on susceptibility distortion: images in, `Distortion` out, and the field that resampling adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from restresponse import __version__
from restresponse.engines import Distortion, EngineFailure, PhaseEncoding, Realignment, shifts, unwarping, warps
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
        with self.step("unwarping", "restresponse", __version__, dict(inputs), method) as facts:
            shift = (self._read(hertz) * np.float32(phase.readout * phase.sign)).astype(np.float32)
            return self._distortion(realignment, bounded(shift, phase.axis), phase.axis, facts)

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
        with self.step("unwarping", "restresponse", __version__, {"axis": axis}, method) as facts:
            images = t1w, brain_mask, np.loadtxt(coregistration)
            found = match_to_anatomy(realignment.reference, axis, *images)
            facts |= {"unexplained_before": round(found.before, 4), "unexplained_after": round(found.after, 4)}
            chance = match_to_anatomy(realignment.reference, undistorted_axis(axis), *images).gain
            facts |= {"gain": round(found.gain, 3), "gain_without_distortion": round(chance, 3)}
            if beyond_chance(found.gain, chance):
                distortion = self._distortion(realignment, found.shift, axis, facts)
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

    def _distortion(self, realignment: Realignment, shift: np.ndarray, axis: int, facts: dict[str, Any]) -> Distortion:
        """The reference without a shift in voxels, and the shift, as files; its size goes into `facts`."""
        image = nib.load(realignment.reference)
        size = np.abs(shift) * np.linalg.norm(image.affine[:3, axis])
        facts |= {"largest_mm": round(float(size.max()), 2), "mean_mm": round(float(size.mean()), 2)}
        straight = undistorted_reference(realignment.reference, shift, axis)
        reference = self._write("reference_straight.nii", straight.astype(np.float32), image.affine)
        return Distortion(reference, self._write("shift.nii", shift.astype(np.float32), image.affine), axis)


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


def displacements_with(
    field: np.ndarray, points: np.ndarray, through: np.ndarray, shift: Path, axis: int
) -> np.ndarray:
    """Displacements that lead through a warp to the place in a distorted EPI.

    Parameters
    ----------
    field : (n, 3) mm, of the warp, at each of `points`
    points : (n, 3) mm on the target
    through : (4, 4), mm after the warp to mm in the EPI's world, the head as in the reference
    shift, axis : see `engines.Distortion`

    Returns
    -------
    (n, 3) mm, of which `through` makes the place where the EPI shows it
    """
    from scipy import ndimage

    image = nib.load(shift)
    place = warps.world_of(points + field, np.linalg.inv(image.affine) @ through)
    found = ndimage.map_coordinates(np.asarray(image.dataobj, np.float32), place.T, order=1, mode="nearest")
    step = np.linalg.solve(through[:3, :3], image.affine[:3, axis])
    return field + found[:, None] * step


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
