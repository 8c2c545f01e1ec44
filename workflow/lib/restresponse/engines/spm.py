"""The engine SPM: its batches and the house's own arrays through nipype interfaces, in one folder of uncompressed copies.

Any command that runs SPM's scripts will do: the standalone program, MATLAB, or one's own. Segment does bias field,
tissues and the deformation to MNI at once; the first anatomical step runs it and the later ones hand out the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.engines import (
    TISSUES,
    Distortion,
    EngineFailure,
    Normalisation,
    PhaseEncoding,
    Realignment,
    deformations,
    greedy,
    programs,
    spm_batches,
    spm_priors,
    warps,
)
from restresponse.engines import motion as moving
from restresponse.engines.array_interfaces import (
    VERSION,
    Centres,
    Copied,
    EpiBrain,
    Masked,
    Overlap,
    Scaled,
    TissueBrain,
    Volume,
)
from restresponse.engines.deformations import AxesExchanged
from restresponse.engines.distortion import Unwarping
from restresponse.engines.folder import failure_of
from restresponse.engines.segmentation import Segmentation
from restresponse.engines.warp_interfaces import inputs_of
from restresponse.errors import InputError

_FAR = 25.0  # mm between the centres of two brains, above which the headers are not believed first


class Spm(Unwarping, Segmentation):
    """Preprocessing with SPM12 or newer (Friston et al. 2007, Statistical Parametric Mapping, Academic Press).

    Raises
    ------
    InputError
        No command, a command that is not found, or a folder whose name MATLAB cannot read.
    """

    name = "spm"
    passes = 2

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(folder, settings)
        self.settings = programs.spm_settings(self.settings)
        odd = sorted(set(str(self.folder)) & set("'\"`$;&|<>()*?!\\\n"))
        if odd:
            raise InputError(
                f"the folder {self.folder} has {' '.join(odd)} in its path, which mean something to MATLAB (an apostrophe ends a text) or to the "
                "shell that starts it: run the workflow in a folder without them"
            )
        self._own_space = self.settings.get("priors", "template") == "spm"
        self._release: str | None = None
        self._segmentation: dict[str, Path] = {}
        self._at_template: dict[tuple[Path, Normalisation], Path] = {}

    @property
    def space_label(self) -> str:
        return "IXI549Space" if self._own_space else super().space_label

    @property
    def space(self) -> str:
        return "MNI152, that of the tissue probability maps of SPM (TPM.nii)" if self._own_space else super().space

    def brain_extract(self, t1w: Path) -> Path:
        inputs = {"bias": spm_batches.BIAS, "warp": spm_batches.warp(own=self._own_space)}
        method = (
            "The T1w image was segmented by SPM's unified segmentation, which estimates bias field, tissues and the deformation "
            "to MNI space together; the brain is where grey matter, white matter and cerebrospinal fluid are together more "
            "likely than not."
        )
        maps = None if self._own_space else self.tissue_priors()
        with self._done("brain extraction", inputs, method) as facts:
            self._run(spm_batches.segmentation(self.settings, t1w, maps))
            parts = {name: self.folder / f"c{index}{t1w.name}" for index, name in enumerate(TISSUES, start=1)}
            self._segmentation = {
                "T1w": self._made(Copied, "T1w_flat.nii", in_file=self.folder / f"m{t1w.name}"),
                "deformation": self.folder / f"y_{t1w.name}",
                **{name: self._made(Copied, f"{name}.nii", in_file=path) for name, path in parts.items()},
            }
            mask = self._found(
                TissueBrain, "brain_mask.nii", in_files=[self._segmentation[name] for name in TISSUES], like=t1w
            )
            facts["volume_ml"] = mask.volume_ml
            return Path(mask.out_file)

    def bias_correct(self, t1w: Path, brain_mask: Path) -> Path:
        method = "The T1w image was corrected for intensity non-uniformity (SPM's unified segmentation)."
        self.add("bias correction", "SPM", self._release, {"done_with": "brain extraction"}, method)
        return self._segmentation["T1w"]

    def normalise(self, t1w: Path, brain_mask: Path) -> Normalisation:
        space = "SPM's tissue maps" if self._own_space else "the template, in which its tissue priors were"
        method = (
            "The T1w image was normalised to MNI space by the deformation of SPM's unified segmentation, whose space is that of "
            f"{space}."
        )
        with self._done("normalisation", {"done_with": "brain extraction"}, method) as facts:
            found = self._found(deformations.WarpOfDeformation, "warp.nii", in_file=self._segmentation["deformation"])
            volume_ratio = float(np.linalg.det(found.matrix))
            if not 0.3 < volume_ratio < 3:
                raise EngineFailure(
                    f"SPM's deformation of the T1w to the template scales the brain by {volume_ratio:.2f} in volume; expected "
                    "0.3 to 3: the image is not a head, or its voxel size in the header is wrong"
                )
            facts["volume_ratio"] = round(volume_ratio, 3)
            np.savetxt(self.folder / "head.mat", found.matrix, fmt="%.10f")
            return Normalisation(self.folder / "head.mat", Path(found.out_file))

    def segment(self, t1w: Path, brain_mask: Path, normalisation: Normalisation, iterations: int) -> dict[str, Path]:
        if not self._own_space:  # at the template's places its maps as priors find the fluid of the brain better
            self._segmentation |= super().segment(t1w, brain_mask, normalisation, iterations)
            return {name: self._segmentation[name] for name in TISSUES}
        method = "Grey matter, white matter and cerebrospinal fluid were segmented (SPM's unified segmentation)."
        with self._done("segmentation", {"done_with": "brain extraction"}, method) as facts:
            paths = {name: self._segmentation[name] for name in TISSUES}
            facts |= {f"{name}_ml": self._found(Volume, in_file=path).volume_ml for name, path in paths.items()}
            return paths

    def to_template(self, image: Path, normalisation: Normalisation) -> Path:
        if (image, normalisation) not in self._at_template:
            # one start of SPM for all the images that will be asked for
            parts = [self._segmentation[name] for name in ("T1w", *TISSUES) if name in self._segmentation]
            images = [path for path in dict.fromkeys([image, *parts]) if (path, normalisation) not in self._at_template]
            copies = [self._made(Copied, f"template_{path.name}", in_file=path) for path in images]
            written = self._normalised(copies, normalisation, deformations.VOXEL_SIZE, interpolation=1)
            self._at_template |= {(path, normalisation): out for path, out in zip(images, written, strict=True)}
        return self._at_template[image, normalisation]

    def slice_timing(self, bold: Path, times: list[float], repetition_time: float) -> Path:
        inputs = {"times_ms": [round(1e3 * time, 3) for time in times], "reference_ms": round(5e2 * repetition_time, 3)}
        method = (
            "Slice timing was corrected by Fourier interpolation of each slice's series to the middle of the repetition "
            "time (SPM)."
        )
        with self._done("slice timing", inputs, method):
            self._run(spm_batches.timing(self.settings, bold, times, repetition_time))
            return self.folder / f"a{bold.name}"

    def realign(self, bold: Path) -> Realignment:
        method = (
            "Head motion was estimated by rigid registration of each volume to the first, then to their mean (SPM)."
        )
        with self._done("realignment", dict(spm_batches.REALIGN), method):
            series = self._made(Copied, "series.nii", in_file=bold)
            self._run(spm_batches.realignment(self.settings, series))
            rows = self.folder / "rp_series.txt"
            scan = self._header(bold)
            middle = (np.array(scan.shape[:3]) - 1) / 2
            matrices = moving.from_spm(np.loadtxt(rows, ndmin=2))
            parameters = moving.parameters_of(matrices, warps.world_of(middle[None], scan.affine)[0])
            if not np.isfinite(parameters).all():
                raise EngineFailure("realignment gave motion that is not a number: look at the scan's volumes")
            reference = self._made(Copied, "reference.nii", in_file="meanseries.nii", like=bold, filled=True)
            return Realignment(reference, parameters, rows)

    def functional_mask(self, reference: Path) -> Path:
        method = (
            "SPM makes no brain mask of an EPI; one was made from the EPI reference by thresholding and morphology."
        )
        with self.step("functional mask", "restresponse", VERSION, {"threshold": "Otsu"}, method) as facts:
            found = self._found(EpiBrain, f"mask_{reference.name}", in_file=reference)
            facts["volume_ml"] = found.volume_ml
            return Path(found.out_file)

    def coregister(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        method = "The EPI reference was registered to the T1w image's brain by a rigid transform (SPM, normalised mutual information)."
        with self._done("coregistration", dict(spm_batches.COREGISTER), method) as facts:
            brains = {"fixed": brain_mask, "moving": reference_mask}
            target = self._made(Masked, "fixed.nii", in_file=t1w, mask=brain_mask)
            shifted = np.eye(4)
            shifted[:3, 3] = -self._found(Centres, **brains).shift
            starts = {"headers": np.eye(4), "centres": shifted}
            # two scans of one session agree in their headers; where they do not, the centres of the brains are a start
            far = float(np.linalg.norm(shifted[:3, 3])) > _FAR
            best = (-1.0, "", np.eye(4))
            for start in ("centres", "headers") if far else ("headers", "centres"):
                source = self._made(Copied, "moving.nii", in_file=reference, moved=starts[start], filled=True)
                self._run(spm_batches.coregistration(self.settings, target, source))
                # SPM writes it into the header
                found = self._header(source).affine @ np.linalg.inv(self._header(reference).affine)
                overlap = self._found(Overlap, matrix=np.linalg.inv(found), **brains).dice
                best = max(best, (overlap, start, np.linalg.inv(found)), key=lambda entry: entry[0])
                if overlap > 0.8:
                    break
            facts |= {"start": best[1], "overlap": round(best[0], 3)}
            if best[0] < 0.5:
                raise EngineFailure(
                    f"coregistration failed: the EPI's brain overlaps the T1w's by a Dice of {best[0]:.2f}; expected more than "
                    "0.5: look at both images and at the positions in their headers"
                )
            path = self.folder / f"coregistration_{reference.stem}.txt"
            np.savetxt(path, best[2], fmt="%.10f")
            return path

    def unwarp_by_field(
        self, bold: Path, realignment: Realignment, hertz: Path, phase: PhaseEncoding
    ) -> Distortion | None:
        if phase.readout is None:
            return None
        method = (
            "Motion and susceptibility distortion were removed together by SPM's Realign & Unwarp, with the field map as a voxel "
            "displacement map and the change of the field with the head's position estimated from the series."
        )
        inputs = {
            "readout_s": phase.readout,
            "axis": phase.axis,
            "sign": phase.sign,
            "model": "field map and pitch, roll",
        }
        with self._done("unwarping", inputs, method):
            factor = phase.readout * phase.sign
            shift = self._made(Scaled, "shift.nii", in_file=hertz, factor=factor)
            return self._unwarped(bold, realignment, phase.axis, shift)

    def unwarp_with_motion(self, bold: Path, realignment: Realignment, axis: int) -> Distortion | None:
        method = (
            "Motion and its interaction with susceptibility distortion were removed together by SPM's Realign & Unwarp; without a "
            "field map the static part of the distortion stays."
        )
        with self._done("unwarping", {"axis": axis, "model": "pitch, roll"}, method):
            return self._unwarped(bold, realignment, axis, None)

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
        images = t1w, brain_mask, coregistration
        found = super().unwarp_by_registration(bold, realignment, reference_mask, axis, *images)
        if found is None:
            return None
        method = (
            "Motion and the distortion that was found were removed together by SPM's Realign & Unwarp, with it as a voxel "
            "displacement map and the change of the field with the head's position estimated from the series."
        )
        with self._done("unwarping", {"axis": axis, "model": "registration and pitch, roll"}, method):
            return self._unwarped(bold, realignment, axis, found.shift)

    def resample(
        self,
        bold: Path,
        realignment: Realignment | None,
        coregistration: Path,
        normalisation: Normalisation,
        voxel_size: float,
        distortion: Distortion | None = None,
    ) -> Path:
        to_t1w = np.linalg.inv(np.loadtxt(coregistration))
        if realignment is None:
            copy = self._made(Copied, f"still_{bold.name}", in_file=bold)
            self._place(copy, (to_t1w @ self._header(bold).affine)[None])
            return self._normalised([copy], normalisation, voxel_size, spm_batches.INTERPOLATION)[0]
        inputs = {"voxel_size": voxel_size, "interpolation": f"B-spline of degree {spm_batches.INTERPOLATION}"}
        method = (
            f"Motion, coregistration and deformation were applied in one interpolation (B-spline of degree {spm_batches.INTERPOLATION}, "
            f"SPM) onto a grid of {voxel_size:g} mm in MNI space."
        )
        if distortion is not None:
            method = (
                f"The realigned and unwarped series was brought by coregistration and deformation onto a grid of {voxel_size:g} mm "
                f"in MNI space (B-spline of degree {spm_batches.INTERPOLATION}, SPM)."
            )
        with self._done("resampling", inputs, method):
            if distortion is None:
                series = self.folder / "series.nii"
                series = series if series.exists() else self._made(Copied, "series.nii", in_file=bold)
                back = np.linalg.inv(moving.from_spm(np.loadtxt(realignment.transforms, ndmin=2)))
                self._place(series, to_t1w @ back @ self._header(bold).affine)
            elif distortion.series is not None:
                series = distortion.series
                lies = self._header(series)
                self._place(series, np.tile(to_t1w @ lies.affine, (lies.shape[3], 1, 1)))
            else:
                raise ValueError("SPM writes the unwarped series itself: a distortion without one is another engine's")
            return self._normalised([series], normalisation, voxel_size, spm_batches.INTERPOLATION)[0]

    def smooth(self, series: Path, fwhm: float) -> Path:
        method = f"The images were smoothed with a Gaussian kernel of {fwhm:g} mm full width at half maximum (SPM)."
        with self._done("smoothing", {"fwhm": fwhm}, method):
            self._run(spm_batches.smoothing(self.settings, series, fwhm))
            return self.folder / f"s{series.name}"

    def tissue_priors(self) -> Path:
        """The tissue priors in the template's space, made once."""
        path = self.folder / "priors.nii"
        if not path.exists():
            inputs = {"classes": "template", "sharpness": spm_priors.SHARPNESS}
            method = (
                "The tissue priors of SPM's unified segmentation were those of the MNI152 template (2009a symmetric, as distributed "
                "with nilearn), with SPM's own around the brain, brought there by an affine (greedy)."
            )
            with self.step("tissue priors", "greedy", greedy.VERSION, inputs, method):
                own = spm_batches.own_maps(self.settings)
                if own is None:
                    own = self.folder / "own_priors.nii"
                    self._run(spm_batches.tissue_maps(self.settings, own))
                spm_priors.make(path, own)
        return path

    def _normalised(
        self, images: list[Path], normalisation: Normalisation, voxel_size: float, interpolation: int
    ) -> list[Path]:
        """Images through a deformation onto the grid, float32 in the house's orientation; 0 where SPM has no value."""
        name = f"y_{normalisation.affine.stem}.nii"
        deformation = self._made(deformations.Deformation, name, **inputs_of(normalisation))
        self._run(spm_batches.normalisation(self.settings, images, deformation, voxel_size, interpolation))
        written = [image.with_name(f"w{image.name}") for image in images]
        for path in written:  # in its own place: a series is large
            self._made(deformations.OntoGrid, path.name, in_file=path, voxel_size=voxel_size)
        return written

    def _unwarped(self, bold: Path, realignment: Realignment, axis: int, shift: Path | None) -> Distortion:
        """Realign & Unwarp of a copy whose phase-encoding axis is the second, for SPM knows no other."""
        exchanged = {"axis": axis}
        series = self._made(AxesExchanged, "unwarp.nii", in_file=bold, **exchanged)
        # the realignment that is known already is where SPM starts
        back = np.linalg.inv(moving.from_spm(np.loadtxt(realignment.transforms, ndmin=2)))
        self._place(series, back @ self._header(series).affine)
        field = None if shift is None else self._made(AxesExchanged, "vdm5_unwarp.nii", in_file=shift, **exchanged)
        self._run(spm_batches.unwarping(self.settings, series, field))
        exchanged |= {"like": bold, "filled": True}
        made = {"unwarped.nii": "uunwarp.nii", "unwarped_reference.nii": "meanuunwarp.nii"}
        unwarped, reference = (self._made(AxesExchanged, out, in_file=name, **exchanged) for out, name in made.items())
        for name in ("unwarp.nii", *made.values()):
            (self.folder / name).unlink()
        if shift is None:  # nowhere any, on the reference's grid
            shift = self._made(Scaled, "shift.nii", in_file=reference, factor=0.0)
        return Distortion(reference=reference, shift=shift, axis=axis, series=unwarped)

    @contextmanager
    def _done(self, step: str, parameters: dict[str, Any], method: str) -> Iterator[dict[str, Any]]:
        """A step of SPM; its version is known when it has run."""
        with self.step(step, "SPM", None, parameters, method) as facts:
            yield facts
        self.steps[-1]["version"] = self._release

    def _place(self, image: Path, affines: np.ndarray) -> None:
        """Say in SPM's file beside an image where each of its volumes lies: (n, 4, 4), voxel from 0 to mm."""
        self._made(deformations.Positions, image.with_suffix(".mat").name, affines=affines)

    def _run(self, batch: Any) -> None:
        """Run a batch in the working folder; SPM's words are in the error, and a machine's failure is not the data's."""
        what = type(batch).__name__
        try:
            batch.run(cwd=str(self.folder))
        except spm_batches.BatchError as error:
            if batch.release is None and not error.killed:
                raise OSError(
                    f"SPM did not start, so that {what} was not run; expected that the command of engines.spm, "
                    f"{self.settings['command']}, runs a script of SPM's: {error}"
                ) from error
            raise failure_of(f"SPM's {what}", str(error), str(error), self.folder, killed=error.killed) from error
        finally:
            self._release = batch.release or self._release
