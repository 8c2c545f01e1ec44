"""A phantom's scan with a planted distortion, its field map, and how far from the truth what was found of it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from restresponse.engines import PhaseEncoding, Realignment, engine, warps
from restresponse.engines.array_interfaces import write
from restresponse.engines.reading import read_raw
from restresponse.functional.unwarping import unwarped
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings
from restresponse.phantom.truth import Truth, read_truth

SETTINGS = {"participants": 1, "responders": 1, "volumes": 10, "motion": 0.0, "t1w_voxel_size": 2.0, "seed": 8}
PHASE = PhaseEncoding(1, -1, 0.03)


class Scan:
    """A scan with its engine: the mean volume as the reference, T1w and true brain as they would come from `anatomical`."""

    def __init__(
        self,
        folder: Path,
        distortion: float,
        field_map: str,
        name: str = "embedded",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        make_cohort(
            folder / "bids",
            CohortSettings(**SETTINGS, distortion=distortion, field_map=field_map, bold_voxel_size=(3, 3, 4)),
        )
        self.truth: Truth = read_truth(folder / "bids_truth", "sub-01")
        self.fmap = folder / "bids" / "sub-01" / "fmap"
        work = folder / "work"
        work.mkdir()
        self.works = engine(name, work, settings)
        data, image = read_raw(folder / "bids/sub-01/func/sub-01_task-rest_bold.nii.gz", 4, "BOLD")
        self.affine = image.affine
        self.bold = write(self.works.folder / "bold.nii", data, image.affine)
        reference = write(self.works.folder / "reference.nii", data.mean(axis=3), image.affine)
        self.realignment = Realignment(reference, np.zeros((10, 6)), work / "motion.1D")
        t1w, image = read_raw(folder / "bids/sub-01/anat/sub-01_T1w.nii.gz", 3, "T1w")
        self.t1w = write(self.works.folder / "T1w.nii", t1w, image.affine)
        from restresponse.phantom import anatomy

        tissues, _ = anatomy.sampled(self.truth.warp, anatomy.tissue_template(), t1w.shape, image.affine)
        brain = tissues[..., :3].sum(axis=-1) > 0.5
        self.mask = write(self.works.folder / "brain.nii", brain.astype(np.uint8), image.affine)
        self.points = warps.world_of(np.argwhere(brain)[::53].astype(float), image.affine)

    def unwarped(self, wish: str, field_map: dict | None):
        self.works.steps.clear()
        return unwarped(self.works, self.bold, self.realignment, self.t1w, self.mask, PHASE, wish, field_map)

    def error(self, coregistration: Path, shift: Path | None) -> float:
        """Mean distance in mm, inside the brain, of where the EPI shows a point of the T1w from where it is said to."""
        inverse = np.linalg.inv(self.affine)
        at_rest = warps.world_of(self.points, self.truth.coregistration)
        true = warps.world_of(at_rest, inverse)
        true[:, 1] += self.truth.displacement(at_rest.T) / 3
        found = warps.world_of(warps.world_of(self.points, np.loadtxt(coregistration)), inverse)
        if shift is not None:
            field = np.asarray(nib.load(shift).dataobj)
            found[:, 1] += ndimage.map_coordinates(field, found.T, order=1, mode="nearest")
        return float(np.linalg.norm((found - true) @ self.affine[:3, :3].T, axis=1).mean())

    def field_error(self, shift: Path) -> tuple[float, float]:
        """Mean distance in mm, inside the brain, by which the EPI was distorted, and that by which the found field is wrong."""
        at_rest = warps.world_of(self.points, self.truth.coregistration)
        true = self.truth.displacement(at_rest.T) / 3
        place = warps.world_of(at_rest, np.linalg.inv(self.affine)).T
        found = ndimage.map_coordinates(np.asarray(nib.load(shift).dataobj), place, order=1, mode="nearest")
        return 3 * float(np.abs(true).mean()), 3 * float(np.abs(found - true).mean())

    def reversed_epis(self) -> dict:
        files = {f"epi{k}": str(self.fmap / f"sub-01_dir-{way}_epi.nii.gz") for k, way in ((1, "AP"), (2, "PA"))}
        return {
            "kind": "epi",
            "files": files,
            "directions": {"epi1": "j-", "epi2": "j"},
            "readouts": {"epi1": 0.03, "epi2": 0.03},
        }

    def phase_difference(self) -> dict:
        files = {name: str(self.fmap / f"sub-01_{name}.nii.gz") for name in ("phasediff", "magnitude1", "magnitude2")}
        return {"kind": "phasediff", "files": files, "echo_times": [0.00492, 0.00738]}
