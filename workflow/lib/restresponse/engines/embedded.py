"""The engine that pip installs: niimath, greedy and the house's own arrays, each through nipype interfaces.

Bit-repeatable: every program runs with one thread, and greedy's registrations have a fixed seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from restresponse.engines import (
    FULL_WIDTH,
    Distortion,
    EngineFailure,
    Normalisation,
    Realignment,
    greedy,
    niimath,
    warps,
)
from restresponse.engines import motion as moving
from restresponse.engines.array_interfaces import (
    VERSION,
    AxisParallel,
    Centres,
    CoarseMasked,
    Copied,
    EpiBrain,
    HeadBrain,
    Masked,
    Overlap,
    TemplateImage,
)
from restresponse.engines.distortion import Unwarping
from restresponse.engines.folder import failure_of
from restresponse.engines.segmentation import Segmentation
from restresponse.engines.warp_interfaces import VOXEL_SIZE, GridWarp, WholeWarp, inputs_of
from restresponse.files import read_json, write_json

_COARSE = 3.0  # mm; a T1w image of such voxels is registered at 4 mm, for the last level would follow its noise
_MARGIN = 5  # voxels kept around the template's brain in registration
_LEAST_LIKENESS = 0.4  # correlation inside the brain after the affine: heads had 0.63 to 0.73, an EPI 0.28, noise 0.17


class Embedded(Unwarping, Segmentation):
    """Preprocessing with niimath and greedy."""

    name = "embedded"

    def brain_extract(self, t1w: Path) -> Path:
        method = (
            "The head was registered to the MNI152 template by an affine transform (niimath), and the brain was separated "
            "from skull and neck by thresholding and morphology near the template's brain."
        )
        with self.step(
            "brain extraction", "niimath", niimath.VERSION, {"registration": "affine, fast cost"}, method
        ) as facts:
            self._made(TemplateImage, "template.nii", content="T1w", voxel_size=VOXEL_SIZE)
            self._run(
                niimath.Affine(in_file=self._name(t1w), base="template.nii", matrix="head.json", out_file="head.nii")
            )
            head = np.array(read_json(self.folder / "head.json")["fixed_to_moving"], float)
            volume_ratio = float(np.linalg.det(head[:3, :3]))
            if not 0.3 < volume_ratio < 3:
                raise EngineFailure(
                    f"the affine of the T1w to the template scales the brain by {volume_ratio:.2f} in volume; expected 0.3 "
                    "to 3: the image is not a head, or its voxel size in the header is wrong"
                )
            np.savetxt(self.folder / "head.mat", head, fmt="%.10f")
            self._made(TemplateImage, "near.nii", content="brain", voxel_size=VOXEL_SIZE)
            self._run(niimath.BiasCorrection(in_file="head.nii", mask="near.nii", out_file="head_flat.nii"))
            found = self._found(
                HeadBrain, "brain_mask.nii", in_file="head_flat.nii", t1w=t1w, matrix=head, voxel_size=VOXEL_SIZE,
                least_likeness=_LEAST_LIKENESS,
            )  # fmt: skip
            facts |= {"likeness": found.likeness, "volume_ml": found.volume_ml}
            return Path(found.out_file)

    def bias_correct(self, t1w: Path, brain_mask: Path) -> Path:
        inputs = {"shrink": 4, "iterations": "30x30x20"}
        method = "The T1w image was corrected for intensity non-uniformity with N4 (niimath)."
        with self.step("bias correction", "niimath", niimath.VERSION, inputs, method):
            interface = niimath.BiasCorrection(
                in_file=self._name(t1w), mask=self._name(brain_mask), out_file="T1w_flat.nii", **inputs
            )
            return self._run(interface)

    def normalise(self, t1w: Path, brain_mask: Path) -> Normalisation:
        coarse = float(self._header(t1w).voxel_size.max()) >= _COARSE
        levels = "40x50x0" if coarse else "40x50x10"  # of 8, 4 and 2 mm
        inputs = {"metric": "NCC 2x2x2", "iterations": levels, "smoothing": "2vox 0.5vox", "seed": 7}
        method = (
            "The brain was normalised to MNI152 (2009a symmetric, as distributed with nilearn) by the affine transform and "
            "a diffeomorphic registration (greedy, neighbourhood cross-correlation)."
        )
        with self.step("normalisation", "greedy", greedy.VERSION, inputs, method):
            self._made(Masked, "T1w_brain.nii", in_file=t1w, mask=brain_mask)
            part = {"content": "T1w", "voxel_size": VOXEL_SIZE, "margin": _MARGIN}
            self._made(TemplateImage, "template_brain.nii", **part)
            self._run(
                greedy.DeformableRegistration(
                    fixed="template_brain.nii", moving="T1w_brain.nii", initial="head.mat", out_file="warp_window.nii",
                    **inputs,
                )
            )  # fmt: skip
            return Normalisation(self.folder / "head.mat", self._made(WholeWarp, "warp.nii", in_file="warp_window.nii"))

    def to_template(self, image: Path, normalisation: Normalisation) -> Path:
        name = f"template_{self._name(image)}"
        self._made(TemplateImage, "grid2.nii", content="grid", voxel_size=VOXEL_SIZE)
        transforms = [self._name(normalisation.warp)] if normalisation.warp else []
        interface = greedy.Reslice(
            grid="grid2.nii",
            moving=self._name(image),
            out_file=name,
            transforms=[*transforms, self._name(normalisation.affine)],
        )
        return self._run(interface)

    def slice_timing(self, bold: Path, times: list[float], repetition_time: float) -> Path:
        inputs = {"reference": repetition_time / 2, "times": times}
        method = (
            "Slice timing was corrected by Fourier interpolation of each slice's series to the middle of the repetition "
            "time (niimath)."
        )
        with self.step("slice timing", "niimath", niimath.VERSION, dict(inputs), method):
            return self._run(niimath.SliceTiming(in_file=self._name(bold), out_file="timed.nii", **inputs))

    def realign(self, bold: Path) -> Realignment:
        method = "Head motion was estimated by rigid registration of each volume to a median of motion-corrected volumes (niimath)."
        inputs = {"reference": "median of motion-corrected volumes", "degrees_of_freedom": 6}
        with self.step("realignment", "niimath", niimath.VERSION, inputs, method) as facts:
            scan = self._header(bold)
            # niimath turns about the axes of the world; on a grid parallel to them its rows have one meaning only
            series = self._plain(bold, "series.nii")
            plain = self._header(series).affine
            self._run(
                niimath.Realignment(
                    in_file="series.nii", reference="reference_plain.nii", facts="steady.json", out_file="motion.1D"
                )
            )
            facts["volumes_before_steady_state"] = read_json(self.folder / "steady.json")["dummy_scans"]
            middle = (np.array(scan.shape[:3]) - 1) / 2
            rows = np.loadtxt(self.folder / "motion.1D", ndmin=2)
            frame = scan.affine @ np.linalg.inv(plain)
            matrices = frame @ moving.from_niimath(rows, warps.world_of(middle[None], plain)[0]) @ np.linalg.inv(frame)
            parameters = moving.parameters_of(matrices, warps.world_of(middle[None], scan.affine)[0])
            if not np.isfinite(parameters).all():
                raise EngineFailure("realignment gave motion that is not a number: look at the scan's volumes")
            reference = self._made(Copied, "reference.nii", in_file="reference_plain.nii", like=bold)
            return Realignment(reference, parameters, self.folder / "motion.1D")

    def functional_mask(self, reference: Path) -> Path:
        method = "A brain mask was made from the EPI reference by thresholding and morphology."
        with self.step("functional mask", "restresponse", VERSION, {"threshold": "Otsu"}, method) as facts:
            found = self._found(EpiBrain, f"{reference.stem}_mask.nii", in_file=reference)
            facts["volume_ml"] = found.volume_ml
            return Path(found.out_file)

    def coregister(self, reference: Path, reference_mask: Path, t1w: Path, brain_mask: Path) -> Path:
        inputs = {"metric": "NMI", "degrees_of_freedom": 6, "seed": 7}
        method = "The EPI reference was registered to the T1w image by a rigid transform (greedy, normalised mutual information)."
        with self.step("coregistration", "greedy", greedy.VERSION, dict(inputs), method) as facts:
            # the air around the brain costs time and blunts the measure; an EPI shows nothing finer than 2 mm, and the last
            # level takes as long as the fixed image has voxels
            part = {"margin": _MARGIN, "voxel_size": VOXEL_SIZE}
            self._made(CoarseMasked, "fixed.nii", in_file=t1w, mask=brain_mask, **part)
            self._made(Masked, "moving.nii", in_file=reference, mask=reference_mask)
            brains = {"fixed": brain_mask, "moving": reference_mask}
            shifted = np.eye(4)
            shifted[:3, 3] = self._found(Centres, **brains).shift
            np.savetxt(self.folder / "shifted.mat", shifted, fmt="%.10f")
            np.savetxt(self.folder / "headers.mat", np.eye(4), fmt="%.10f")
            # two scans of one session agree in their headers; where they do not, the centres of the brains are a start
            far = float(np.linalg.norm(shifted[:3, 3])) > 25
            best = (-1.0, "")
            for start in ("shifted", "headers") if far else ("headers", "shifted"):
                self._run(
                    greedy.LinearRegistration(
                        fixed="fixed.nii",
                        moving="moving.nii",
                        initial=f"{start}.mat",
                        out_file=f"{reference.stem}_from_{start}.mat",
                        **inputs,
                    )
                )
                found = np.loadtxt(self.folder / f"{reference.stem}_from_{start}.mat")
                overlap = self._found(Overlap, matrix=found, **brains).dice
                best = max(best, (overlap, start))
                if overlap > 0.8:
                    break
            facts |= {"start": best[1], "overlap": round(best[0], 3)}
            if best[0] < 0.5:
                raise EngineFailure(
                    f"coregistration failed: the EPI's brain overlaps the T1w's by a Dice of {best[0]:.2f}; expected more than "
                    "0.5: look at both images and at the positions in their headers"
                )
            return self.folder / f"{reference.stem}_from_{best[1]}.mat"

    def resample(
        self,
        bold: Path,
        realignment: Realignment | None,
        coregistration: Path,
        normalisation: Normalisation,
        voxel_size: float,
        distortion: Distortion | None = None,
    ) -> Path:
        series = self._plain(bold, "series.nii" if realignment else "still.nii")
        onward = np.loadtxt(coregistration)
        inputs = {"voxel_size": voxel_size, "interpolation": "cubic B-spline"}
        method = (
            f"Motion, coregistration, affine and warp were applied in one interpolation (cubic B-spline, niimath) onto a grid "
            f"of {voxel_size:g} mm in MNI space."
        )
        self._made(TemplateImage, "grid.nii", content="grid", voxel_size=voxel_size)
        way: dict[str, Any] = {"voxel_size": voxel_size, "coregistration": onward, **inputs_of(normalisation)}
        if distortion is not None:
            way |= {"shift": distortion.shift, "axis": distortion.axis}
            method = method.replace("Motion,", "Motion, distortion,")
        self._made(GridWarp, "grid_warp.nii", **way)
        matrix = self._header(series).affine @ np.linalg.inv(self._header(bold).affine) @ onward
        write_json(
            self.folder / "coregistration.json",
            {"type": "allineate_affine", "version": 1, "space": "world", "units": "mm", "fixed_to_moving": matrix,
             "moving_to_fixed": np.linalg.inv(matrix)},
        )  # fmt: skip
        interface = niimath.Resampling(
            in_file=self._name(series), grid="grid.nii", matrix="coregistration.json", warp="grid_warp.nii",
            affine=self._name(normalisation.affine), out_file="resampled.nii" if realignment else "resampled_still.nii",
        )  # fmt: skip
        if realignment is None:
            return self._run(interface)
        interface.inputs.motion = self._name(realignment.transforms)
        with self.step("resampling", "niimath", niimath.VERSION, inputs, method):
            return self._run(interface)

    def smooth(self, series: Path, fwhm: float) -> Path:
        method = f"The images were smoothed with a Gaussian kernel of {fwhm:g} mm full width at half maximum (niimath)."
        with self.step("smoothing", "niimath", niimath.VERSION, {"fwhm": fwhm}, method):
            return self._run(
                niimath.Smoothing(in_file=self._name(series), sigma=fwhm / FULL_WIDTH, out_file="smooth.nii")
            )

    def _plain(self, image: Path, name: str) -> Path:
        """The image `AxisParallel`, made once."""
        target = self.folder / name
        return target if target.exists() else self._made(AxisParallel, name, in_file=image)

    def _run(self, interface: Any) -> Path:
        """Run an interface in the working folder and give the path of its output."""
        target = self.folder / interface.inputs.out_file
        try:
            interface.run(cwd=str(self.folder))
        except (MemoryError, ImportError):  # a library that does not load is the machine's
            raise
        except Exception as error:
            said, name = str(error), type(interface).__name__
            raise failure_of(name, said, _last_words(said), self.folder) from error
        if not target.exists():
            raise EngineFailure(
                f"{type(interface).__name__} ended without its output {target.name}: {interface.cmdline}"
            )
        return target


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-6:])
