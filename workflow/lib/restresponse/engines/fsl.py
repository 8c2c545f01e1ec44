"""The engine on FSL: slicetimer, MCFLIRT, robustfov, BET, FAST, FLIRT with boundary-based registration, FNIRT, FUGUE, applywarp.

One series is interpolated once: applywarp takes one of MCFLIRT's matrices for each volume and one field that holds
distortion, coregistration, affine and warp. Everything that leaves the engine is in the house's format, so that the other
engines can go on from it. FAST corrects the bias field and gives the boundary of white matter; the tissue maps are made by the
house's own interface (`Segmentation`), for FAST's fluid is twice too much where hardly a voxel holds fluid alone. So is
distortion without a field map (`Unwarping`), for which FSL has nothing.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.engines import (
    FULL_WIDTH,
    Distortion,
    EngineFailure,
    Normalisation,
    PhaseEncoding,
    Realignment,
    fsl_installation,
    fsl_transforms,
    warps,
)
from restresponse.engines import fsl_interfaces as programs
from restresponse.engines import motion as moving
from restresponse.engines.array_interfaces import (
    Copied,
    Masked,
    Overlap,
    ProgramMask,
    Scaled,
    TemplateImage,
    WithoutField,
)
from restresponse.engines.distortion import Undistorted, Unexplained, Unwarping
from restresponse.engines.segmentation import Segmentation
from restresponse.engines.warp_interfaces import VOXEL_SIZE, inputs_of
from restresponse.errors import InputError

_TEMPLATE_SCALE = 10_000  # of the template's intensities, 0 to 1: FSL's programs expect the range of a scan
_LAST_SEARCH = 4  # stages of MCFLIRT
_MOTION_WIDTH = 5.0  # mm, full width at half maximum of the kernel under which motion is looked for
_LEAST_OVERLAP = 0.5  # Dice of the two brains below which coregistration has failed
_LOST = 0.05  # of that Dice: a boundary-based registration that loses more has left the brain


class Fsl(Unwarping, Segmentation):
    """Preprocessing with FSL."""

    name = "fsl"

    def brain_extract(self, t1w: Path) -> Path:
        method = (
            "The neck was cut off the T1w image with robustfov and the brain extracted with BET (FSL), its centre estimated "
            "robustly."
        )
        inputs = {"robust": True, "frac": 0.5}
        with self._step("brain extraction", "BET", inputs, method) as facts:
            names = {"in_file": self._name(t1w), "out_roi": "head.nii", "out_transform": "head.mat"}
            head = self._run(programs.RobustFOV, "head.nii", **names)  # with its neck BET takes twice the brain
            found = self._run(programs.BET, "bet_mask.nii", in_file=head.name, out_file="bet.nii", mask=True, **inputs)
            return self._mask(found, "brain_mask.nii", facts, "BET found no brain in the T1w image", whole=t1w)

    def bias_correct(self, t1w: Path, brain_mask: Path) -> Path:
        method = "The T1w image was corrected for intensity non-uniformity with FAST (FSL)."
        inputs = {"number_classes": 3, "img_type": 1, "no_pve": True}
        with self._step("bias correction", "FAST", inputs, method):
            brain = self._made(Masked, "T1w_brain.nii", in_file=t1w, mask=brain_mask)
            names = {"in_files": [self._name(brain)], "out_basename": "bias", "output_biasfield": True}
            field = self._run(programs.FAST, "bias_bias.nii", **names, **inputs)
            return self._made(WithoutField, "T1w_flat.nii", in_file=t1w, field=field)

    def normalise(self, t1w: Path, brain_mask: Path) -> Normalisation:
        nonlinear = bool(self.settings.get("nonlinear", True))
        method = "The brain was normalised to MNI152 (2009a symmetric, as distributed with nilearn) by FLIRT's affine"
        method += " and FNIRT's non-linear registration (FSL)." if nonlinear else " (FSL)."
        with self._step("normalisation", "FLIRT, FNIRT" if nonlinear else "FLIRT", {"nonlinear": nonlinear}, method):
            brain = self._made(Masked, "T1w_brain.nii", in_file=t1w, mask=brain_mask)
            template = {"voxel_size": VOXEL_SIZE, "brain": "at least half"}
            cut = {"content": "T1w", "cut": True, "scale": _TEMPLATE_SCALE}
            reference = self._made(TemplateImage, "template_brain.nii", **template, **cut)
            linear = self._run(
                programs.FLIRT, "affine.flirt", in_file=self._name(brain), reference=reference.name, dof=12,
                out_matrix_file="affine.flirt", out_file="T1w_affine.nii",
            )  # fmt: skip
            frames = fsl_transforms.frame(t1w), fsl_transforms.frame(reference)
            matrix = np.linalg.inv(fsl_transforms.world_matrix(_matrix(linear), *frames))
            np.savetxt(self.folder / "T1w.mat", matrix, fmt="%.10f")
            way: dict[str, Any] = {"source": t1w, "reference": reference, "matrix": matrix}
            if nonlinear:
                # No masking of zeros: where the T1w's brain ends inside the template's counts. What BET left beyond it does not:
                # compared there too, the template is stretched to fill it (3 voxels around it: 0.47 mm off on average, not 0.32).
                self._made(TemplateImage, "template_within.nii", content="brain", **template)
                way["in_file"] = self._run(
                    programs.FNIRT, "fnirt_field.nii", in_file=self._name(brain), ref_file=reference.name,
                    affine_file=linear.name, refmask_file="template_within.nii",
                    skip_implicit_ref_masking=True, skip_implicit_in_masking=True, fieldcoeff_file="fnirt_coefficients.nii",
                    field_file="fnirt_field.nii", warped_file="fnirt_T1w.nii", log_file="fnirt.log", **programs.FNIRT_SETTINGS,
                )  # fmt: skip
            return Normalisation(self.folder / "T1w.mat", self._made(fsl_transforms.WarpOfField, "warp.nii", **way))

    def to_template(self, image: Path, normalisation: Normalisation) -> Path:
        name = f"template_{self._name(image)}"
        self._made(TemplateImage, "grid2.nii", content="grid", voxel_size=VOXEL_SIZE)
        field = self._field("field2.nii", VOXEL_SIZE, normalisation, image, np.eye(4))
        return self._run(
            programs.ApplyWarp, name, in_file=self._name(image), ref_file="grid2.nii", field_file=field.name,
            relwarp=True, interp="trilinear", datatype="float", out_file=name,
        )  # fmt: skip

    def slice_timing(self, bold: Path, times: list[float], repetition_time: float) -> Path:
        inputs = {"reference": repetition_time / 2, "times": list(times)}
        method = (
            "Slice timing was corrected by sinc interpolation of each slice's series to the middle of the repetition time "
            "(slicetimer, FSL)."
        )
        with self._step("slice timing", "slicetimer", inputs, method):
            # in repetition times; slicetimer reads a slice's series at t + shift
            shifts = 0.5 - np.asarray(times, float) / repetition_time
            np.savetxt(self.folder / "slices.txt", shifts, fmt="%.8f")
            return self._run(
                programs.SliceTimer, "timed.nii", in_file=self._name(bold), out_file="timed.nii",
                custom_timings="slices.txt", time_repetition=float(repetition_time), slice_direction=3,
            )  # fmt: skip

    def realign(self, bold: Path) -> Realignment:
        method = (
            "Head motion was estimated by rigid registration of each volume with MCFLIRT (FSL), first to the middle volume, "
            "then to the mean of the volumes so aligned, both smoothed for this search alone with a Gaussian kernel of "
            f"{_MOTION_WIDTH:g} mm full width at half maximum, its last stage by sinc interpolation."
        )
        inputs = {
            "reference": "mean of volumes aligned to the middle one",
            "dof": 6,
            "cost": "normcorr",
            "stages": _LAST_SEARCH,
            "fwhm": _MOTION_WIDTH,
        }
        with self._step("realignment", "MCFLIRT", inputs, method):
            scan = self._header(bold)
            names = {"dof": 6, "cost": "normcorr"}
            middle = scan.shape[3] // 2
            self._run(
                programs.MCFLIRT, "moved.nii", in_file=self._name(bold), out_file="moved", ref_vol=middle, **names
            )
            self._run(programs.Mean, "mean.nii", in_file="moved.nii", out_file="mean.nii", output_datatype="float")
            # Unsmoothed, the correlation is drawn to where a volume's slices lie halfway between the mean's, as interpolation
            # smooths most there: at slices of 4 mm and motion of 3 mm 0.07 mm and 0.08 deg off, smoothed 0.02 of both.
            for sharp, soft in ((self._name(bold), "soft.nii"), ("mean.nii", "soft_mean.nii")):
                self._smoothed(sharp, soft, _MOTION_WIDTH)
            self._run(
                programs.MCFLIRT, "realigned.nii", in_file="soft.nii", out_file="realigned", ref_file="soft_mean.nii",
                save_mats=True, stages=_LAST_SEARCH, **names,
            )  # fmt: skip
            files = [self.folder / "realigned.mat" / f"MAT_{number:04d}" for number in range(scan.shape[3])]
            lost = [file.name for file in files if not file.is_file()]
            if lost:
                raise EngineFailure(f"FSL's mcflirt wrote no matrix for {len(lost)} of {len(files)} volumes: {lost[0]}")
            stack = np.stack([_matrix(file) for file in files])
            if not np.isfinite(stack).all():
                raise EngineFailure("realignment gave motion that is not a number: look at the scan's volumes")
            transforms = self.folder / "motion.mat"
            np.savetxt(transforms, stack.reshape(-1, 4), fmt="%.10f")
            # as large as the series; the matrices are what is used
            for name in ("moved.nii", "soft.nii", "realigned.nii"):
                (self.folder / name).unlink()
            reference = self._made(Copied, "reference.nii", in_file="mean.nii", like=bold)
            matrices = fsl_transforms.motion_matrices(stack, fsl_transforms.frame(bold))
            centre = warps.world_of((np.array(scan.shape[:3])[None] - 1) / 2, scan.affine)[0]
            return Realignment(reference, moving.parameters_of(matrices, centre), transforms)

    def functional_mask(self, reference: Path) -> Path:
        method = "A brain mask was made from the EPI reference with BET (FSL)."
        # BET's mode for series, -F, has this threshold too, but then grows the mask by a whole voxel, 4 mm and more
        with self._step("functional mask", "BET", {"frac": 0.3}, method) as facts:
            names = {"in_file": self._name(reference), "out_file": "epi.nii", "mask": True}
            found = self._run(programs.BET, "epi_mask.nii", frac=0.3, **names)
            return self._mask(found, f"{reference.stem}_mask.nii", facts, "BET found no brain in the EPI reference")

    def coregister(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        return self._bound(reference, reference_mask, t1w, brain_mask, distorted=True)

    def coregister_undistorted(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        return self._bound(reference, reference_mask, t1w, brain_mask, distorted=False)

    def _bound(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path, distorted: bool) -> Path:
        method = (
            "The EPI reference was registered to the T1w image by a rigid transform, with FLIRT's boundary-based cost on "
            "FAST's white matter (FSL)."
        )
        inputs = {"cost": "bbr", "degrees_of_freedom": 6, "start": "FLIRT, correlation ratio, 6 degrees of freedom"}
        with self._step("coregistration", "FLIRT", inputs, method) as facts:
            brain = self._made(Masked, "fixed.nii", in_file=t1w, mask=brain_mask)
            white = self.folder / "fixed_seg_2.nii"
            if not white.exists():  # the corrected reference is registered to the same T1w
                self._run(
                    programs.FAST, white.name, in_files=[brain.name], out_basename="fixed", number_classes=3, img_type=1,
                    no_bias=True, no_pve=True, segments=True,
                )  # fmt: skip
            name = reference.stem
            start = self._started(reference, reference_mask, brain)
            bound = self._run(
                programs.FLIRT, f"{name}_bbr.flirt", in_file=self._name(reference), reference=self._name(t1w), dof=6,
                cost="bbr", wm_seg=white.name, in_matrix_file=start.name, schedule=str(fsl_installation.schedule()),
                out_matrix_file=f"{name}_bbr.flirt", out_file="bbr.nii",
            )  # fmt: skip
            frames = fsl_transforms.frame(reference), fsl_transforms.frame(t1w)
            # from the T1w's world to the EPI's
            found = [np.linalg.inv(fsl_transforms.world_matrix(_matrix(file), *frames)) for file in (start, bound)]
            brains = {"fixed": brain_mask, "moving": reference_mask}
            images = {"in_file": reference, "t1w": t1w, "brain_mask": brain_mask}
            overlaps = [self._found(Overlap, matrix=matrix, **brains).dice for matrix in found]
            left = [self._found(Unexplained, matrix=matrix, **images).share for matrix in found]
            facts["overlap_start"], facts["overlap"] = (round(value, 3) for value in overlaps)
            facts["unexplained_start"], facts["unexplained"] = (round(value, 4) for value in left)
            why = None
            if overlaps[1] <= overlaps[0] - _LOST:
                why = "led off the brain"
            elif not distorted and left[1] > left[0] and overlaps[1] < overlaps[0] + _LOST:
                # of a distorted EPI the boundary says more than the intensities
                why = "led to where the T1w image explains less of the EPI"
            chosen = 0 if why else 1
            facts["taken"] = ("start", "bbr")[chosen]
            path = self._registration(f"{name}_coregistration.mat", found[chosen], overlaps[chosen], "T1w")
        if why:
            self.steps[-1]["method"] = (
                "The EPI reference was registered to the T1w image by a rigid transform with FLIRT (correlation ratio, FSL); its "
                f"boundary-based cost {why} and was not used."
            )
        return path

    def align(self, reference: Path, reference_mask: Path, image: Path, brain_mask: Path) -> Path:
        method = "The EPI reference was registered by a rigid transform with FLIRT (correlation ratio, FSL)."
        # it has no T1w contrast, whose white matter had a boundary
        inputs = {"cost": "corratio", "degrees_of_freedom": 6}
        with self._step("coregistration", "FLIRT", inputs, method):
            brain = self._made(Masked, "aligned_to.nii", in_file=image, mask=brain_mask)
            start = self._started(reference, reference_mask, brain)
            frames = fsl_transforms.frame(reference), fsl_transforms.frame(image)
            found = np.linalg.inv(fsl_transforms.world_matrix(_matrix(start), *frames))
            overlap = self._found(Overlap, matrix=found, fixed=brain_mask, moving=reference_mask).dice
            return self._registration(f"{image.stem}_alignment.mat", found, overlap, "field map")

    def unwarp_by_field(
        self, bold: Path, realignment: Realignment, hertz: Path, phase: PhaseEncoding
    ) -> Distortion | None:
        if phase.readout is None:
            raise InputError(
                "the total readout time of the scan is not known, and FUGUE needs it; expected TotalReadoutTime (s) in the "
                "scan's sidecar: add it, or set functional.unwarp to none"
            )
        image = self._header(realignment.reference)
        echo_spacing = phase.readout / (image.shape[phase.axis] - 1)  # s, as BIDS defines the total readout time
        direction = fsl_transforms.direction(phase.axis, phase.sign, image.affine)
        inputs = {"dwell_time": echo_spacing, "unwarp_direction": direction}
        method = "Susceptibility distortion was corrected with the field map in FUGUE (FSL)."
        with self._step("unwarping", "FUGUE", inputs, method):
            self._made(Scaled, "fieldmap.nii", in_file=hertz, factor=2 * np.pi)  # rad/s
            shifted = self._run(
                programs.FUGUE, "fugue_shift.nii", in_file=self._name(realignment.reference), fmap_in_file="fieldmap.nii",
                shift_out_file="fugue_shift.nii", save_unmasked_shift=True, unwarped_file="fugue_reference.nii", **inputs,
            )  # fmt: skip
            shift = self._made(Scaled, "shift.nii", in_file=shifted, factor=phase.sign, like=realignment.reference)
            # FUGUE moves the signal, but leaves it piled up where it was
            names = {"in_file": realignment.reference, "shift": shift, "axis": phase.axis}
            return Distortion(self._made(Undistorted, "reference_unwarped.nii", **names), shift, phase.axis)

    def resample(
        self,
        bold: Path,
        realignment: Realignment | None,
        coregistration: Path,
        normalisation: Normalisation,
        voxel_size: float,
        distortion: Distortion | None = None,
    ) -> Path:
        self._made(TemplateImage, "grid.nii", content="grid", voxel_size=voxel_size)
        field = self._field("grid_field.nii", voxel_size, normalisation, bold, np.loadtxt(coregistration))
        if distortion is not None:
            sign = fsl_transforms.shift_sign(distortion.axis, self._header(distortion.shift).affine)
            self._made(Scaled, "shiftmap.nii", in_file=distortion.shift, factor=sign)
            field = self._run(
                programs.ConvertWarp, "grid_field_shifted.nii", reference="grid.nii", shift_in_file="shiftmap.nii",
                shift_direction="xyz"[distortion.axis], warp1=field.name, relwarp=True, out_relwarp=True,
                out_file="grid_field_shifted.nii",
            )  # fmt: skip
        name = "resampled.nii" if realignment else "resampled_still.nii"
        names: dict[str, Any] = {
            "in_file": self._name(bold), "ref_file": "grid.nii", "field_file": field.name, "relwarp": True,
            "datatype": "float", "out_file": name,
        }  # fmt: skip
        if realignment is None:
            return self._run(programs.ApplyWarp, name, interp="trilinear", **names)
        inputs = {"voxel_size": voxel_size, "interpolation": "cubic B-spline"}
        parts = "Motion, distortion" if distortion else "Motion"
        method = (
            f"{parts}, coregistration, affine and warp were applied in one interpolation (applywarp's cubic spline, FSL) onto "
            f"a grid of {voxel_size:g} mm in MNI space."
        )
        with self._step("resampling", "applywarp", inputs, method):
            return self._run(
                programs.ApplyWarp, name, interp="spline", premat=self._name(realignment.transforms), **names
            )

    def smooth(self, series: Path, fwhm: float) -> Path:
        method = f"The images were smoothed with a Gaussian kernel of {fwhm:g} mm full width at half maximum (fslmaths, FSL)."
        with self._step("smoothing", "fslmaths", {"fwhm": fwhm}, method):
            return self._smoothed(self._name(series), "smooth.nii", fwhm)

    @cached_property
    def _version(self) -> str | None:
        return fsl_installation.version()

    def _step(self, step: str, tool: str, parameters: dict[str, Any], method: str) -> Any:
        return self.step(step, f"FSL {tool}", self._version, dict(parameters), method)

    def _run(self, program: type, target: str, **inputs: Any) -> Path:
        """Run one of FSL's programs in the working folder; the path of `target`, which it writes."""
        return programs.run(programs.built(program, self.folder, **inputs), self.folder, target)

    def _started(self, reference: Path, reference_mask: Path, brain: Path) -> Path:
        """FLIRT's matrix of the EPI's brain to another image's, by intensity alone."""
        moved = self._made(Masked, "moving.nii", in_file=reference, mask=reference_mask)
        name = f"{reference.stem}_start.flirt"
        return self._run(
            programs.FLIRT, name, in_file=moved.name, reference=brain.name, dof=6, out_matrix_file=name, out_file="start.nii"
        )  # fmt: skip

    def _registration(self, name: str, found: np.ndarray, overlap: float, to: str) -> Path:
        """Write a registration, from the world of the fixed image to the EPI's; a bad one is refused."""
        if overlap < _LEAST_OVERLAP:
            raise EngineFailure(
                f"coregistration failed: the EPI's brain overlaps the {to}'s by a Dice of {overlap:.2f}; expected more than "
                f"{_LEAST_OVERLAP}: look at both images and at the positions in their headers"
            )
        np.savetxt(self.folder / name, found, fmt="%.10f")
        return self.folder / name

    def _smoothed(self, image: str, name: str, fwhm: float) -> Path:
        names = {"in_file": image, "out_file": name, "output_datatype": "float"}
        return self._run(programs.Smooth, name, sigma=fwhm / FULL_WIDTH, **names)

    def _field(
        self, name: str, voxel_size: float, normalisation: Normalisation, source: Path, onward: np.ndarray
    ) -> Path:
        """FSL's field on a grid in MNI space, to the image `source`; `onward`: from the T1w's world to that image's."""
        way = {"voxel_size": voxel_size, "source": source, "onward": onward}
        return self._made(fsl_transforms.Field, name, **way, **inputs_of(normalisation))

    def _mask(self, found: Path, name: str, facts: dict[str, Any], problem: str, **whole: Path) -> Path:
        """A mask that BET wrote, as the house keeps masks."""
        mask = self._found(ProgramMask, name, in_file=found, **whole)
        if mask.empty:
            raise EngineFailure(f"{problem}: look at the image and at its orientation")
        facts["volume_ml"] = mask.volume_ml
        return Path(mask.out_file)


def _matrix(path: Path) -> np.ndarray:
    """A matrix (4, 4) as FSL's programs write it."""
    return np.loadtxt(path).reshape(4, 4)
