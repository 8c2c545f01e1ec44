"""Reading the truth of a cohort: what tests compare the stages' results with. The conventions stand in the package's docstring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_array, read_json, read_table
from restresponse.phantom.anatomy import Warp, apply, displacement_affine, interpolate, rigid
from restresponse.phantom.signals import Harmonics


@dataclass(frozen=True)
class Truth:
    """What was planted in one participant."""

    folder: Path
    facts: dict[str, Any]
    warp: Warp
    displacement_inverse: np.ndarray
    coregistration: np.ndarray
    motion: np.ndarray
    motion_slices: np.ndarray
    jerk: np.ndarray
    time_courses_middle: np.ndarray
    time_courses_start: np.ndarray
    harmonics: Harmonics
    distortion: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def centre(self) -> np.ndarray:
        """The point (3,) in BOLD world about which the head turns."""
        return np.array(self.facts["centre"])

    def motion_matrices(self) -> np.ndarray:
        """(T, 4, 4): BOLD world at rest -> where the head is in each volume, from the means over slices."""
        return rigid(self.motion[:, :3], self.motion[:, 3:], self.centre)

    def t1w_to_mni(self, points: np.ndarray) -> np.ndarray:
        """Carry points (3, N) of T1w world to MNI space."""
        return self.warp.to_mni(points)

    def mni_to_t1w(self, points: np.ndarray) -> np.ndarray:
        """Carry points (3, N) of MNI space to T1w world."""
        return self.warp.from_mni(points, self.displacement_inverse)

    def mni_to_bold(self, points: np.ndarray) -> np.ndarray:
        """Carry points (3, N) of MNI space to BOLD world, the head at rest."""
        return apply(self.coregistration, self.mni_to_t1w(points))

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """Displacement (N,) in mm along the matrix's second voxel axis of what lies at points (3, N) of BOLD world."""
        if self.distortion is None:
            return np.zeros(points.shape[1])
        stack, affine = self.distortion
        return interpolate(stack[..., None], apply(np.linalg.inv(affine), points))[:, 0]

    def networks(self) -> tuple[np.ndarray, np.ndarray]:
        """Planted maps (X, Y, Z, K) in percent of the baseline, and their affine."""
        return read_maps(self.folder / "networks.nii.gz")


def read_truth(folder: str | Path, participant: str) -> Truth:
    """Read the truth of `participant` (`"sub-01"`) from a truth folder."""
    own = Path(folder) / participant
    if not (own / "participant.json").is_file():
        raise InputError(
            f"{own} holds no whole truth of {participant}: expected participant.json, written last; make the cohort again"
        )
    if not np.allclose(np.loadtxt(own / "displacement_affine.txt"), displacement_affine()):
        raise InputError(
            f"{own} was made by another version of the generator, on another grid of the warp; make the cohort again"
        )
    motion = read_table(own / "motion.tsv", text_columns=())
    harmonics = np.asarray(read_array(own / "time_courses_harmonics.npy"))
    n = (len(harmonics) - 1) // 2
    facts = read_json(own / "participant.json")
    return Truth(
        folder=own,
        facts=facts,
        warp=Warp(np.loadtxt(own / "affine.txt"), np.asarray(read_array(own / "displacement.npy"))),
        displacement_inverse=np.asarray(read_array(own / "displacement_inverse.npy")),
        coregistration=np.loadtxt(own / "coregistration.txt"),
        motion=motion.drop(columns=["volume", "jerk"]).to_numpy(float),
        motion_slices=np.asarray(read_array(own / "motion_slices.npy")),
        jerk=motion["jerk"].to_numpy(int).astype(bool),
        time_courses_middle=read_table(own / "time_courses_middle.tsv", text_columns=()).to_numpy(float),
        time_courses_start=read_table(own / "time_courses_start.tsv", text_columns=()).to_numpy(float),
        harmonics=Harmonics(np.array(facts["frequencies"]), harmonics[: 2 * n], harmonics[-1]),
        distortion=read_maps(own / "distortion.nii.gz") if (own / "distortion.nii.gz").is_file() else None,
    )


def read_maps(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """An image's data (X, Y, Z, K) float32 and its affine."""
    import nibabel as nib

    image = nib.load(path)
    return image.get_fdata(dtype=np.float32), image.affine
