"""What preprocessing found against what was planted in a phantom: motion, coregistration, normalisation, tissues."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import grid
from restresponse.engines import TISSUES, masks, motion, warps
from restresponse.files import read_json, read_table
from restresponse.functional.confounds import MOTION
from restresponse.phantom.anatomy import sampled, tissue_template
from restresponse.phantom.truth import Truth, read_truth

PARTICIPANT = "sub-01"
_SPACING = 6  # mm between the points of the brain at which places are compared


def errors(phantom: Path, out: Path) -> dict[str, str]:
    """A few words for each step: the error and its unit."""
    truth = read_truth(phantom / "bids_truth", PARTICIPANT)
    brain = warps.world_of(np.argwhere(grid.brain_mask(_SPACING)).astype(float), grid.grid(_SPACING)[1])
    reference, millimetres, degrees = motion_error(truth, out)
    coregistration = coregistration_error(truth, brain, reference, out)
    normalisation = normalisation_error(truth, brain, out)
    grey, (own_brain, *tissues) = planted_grey_matter(truth, out), tissue_dice(truth, out)
    return {
        "realignment": f"RMS {millimetres:.3f} mm, {degrees:.3f} deg (worst axis)",
        "coregistration": f"{coregistration.mean():.2f} mm mean, {np.percentile(coregistration, 95):.2f} 95 %",
        "normalisation": f"{normalisation.mean():.2f} mm mean, {np.percentile(normalisation, 95):.2f} 95 %, GM Dice {grey:.3f}",
        "brain extraction": f"Dice {own_brain:.3f}",
        "segmentation": "Dice "
        + ", ".join(f"{name} {value:.3f}" for name, value in zip(TISSUES, tissues, strict=True)),
    }


def motion_error(truth: Truth, out: Path) -> tuple[np.ndarray, float, float]:
    """The reference's position (4, 4), and the RMS over volumes without a jerk of the worst translation and rotation.

    The reference is a position of its own, so that planted and found differ by one rigid transform; it is their mean.
    """
    table = read_table(out / "confounds.tsv", text_columns=())
    found = motion.matrices_of(table[list(MOTION)].to_numpy(float), truth.centre)
    still = ~truth.jerk
    to_rest = (np.linalg.inv(truth.motion_matrices()) @ found)[still]
    reference = motion.matrices_of(motion.parameters_of(to_rest, truth.centre).mean(axis=0), truth.centre)[0]
    left = motion.parameters_of(to_rest @ np.linalg.inv(reference), truth.centre)
    root = np.sqrt((left**2).mean(axis=0))
    return reference, float(root[:3].max()), float(np.rad2deg(root[3:].max()))


def coregistration_error(truth: Truth, brain: np.ndarray, reference: np.ndarray, out: Path) -> np.ndarray:
    """Distance in mm, at points of the brain, of where coregistration and unwarping say the EPI shows them."""
    found = np.array(read_json(out / "functional.json")["coregistration"])
    in_t1w = truth.mni_to_t1w(brain.T).T
    planted, said = warps.world_of(in_t1w, truth.coregistration), warps.world_of(in_t1w, found)
    axis = nib.load(out.parent / "bids" / PARTICIPANT / "func" / f"{PARTICIPANT}_task-rest_bold.nii.gz").affine[:3, 1]
    planted = planted + truth.displacement(planted.T)[:, None] * axis / np.linalg.norm(axis)
    if (out / "shift.nii").exists():
        image = nib.load(out / "shift.nii")
        field = np.asarray(image.dataobj, np.float32)[..., None].repeat(3, axis=-1)
        said = said + warps.sample(field, image.affine, said)[:, :1] * axis
    return np.linalg.norm(warps.world_of(said, reference) - planted, axis=1)


def normalisation_error(truth: Truth, brain: np.ndarray, out: Path) -> np.ndarray:
    """Distance in mm, at points of the template's brain, of where warp and affine put them in the T1w's world."""
    field = warps.field_of(np.asarray(nib.load(out / "warp.nii.gz").dataobj, np.float32))
    found = brain + warps.sample(field, grid.grid(2)[1], brain)
    found = warps.world_of(found, np.loadtxt(out / "affine.mat"))
    return np.linalg.norm(found - truth.mni_to_t1w(brain.T).T, axis=1)


def planted_grey_matter(truth: Truth, out: Path) -> float:
    """Dice of the planted grey matter, brought to 2 mm by warp and affine, with the template's."""
    from scipy import ndimage

    shape, affine = grid.grid(2)
    points = warps.world_of(np.argwhere(np.ones(shape, bool)).astype(float), affine)
    field = warps.field_of(np.asarray(nib.load(out / "warp.nii.gz").dataobj, np.float32))
    places = warps.world_of(points + field.reshape(-1, 3), np.loadtxt(out / "affine.mat"))
    maps, maps_affine = tissue_template()
    index = warps.world_of(truth.t1w_to_mni(places.T).T, np.linalg.inv(maps_affine)).T
    grey = ndimage.map_coordinates(ndimage.uniform_filter(maps[..., 0], 3), index, order=1).reshape(shape)
    return masks.dice(grey > 0.5, grid.template_image("GM", 2) > 0.5)


def tissue_dice(truth: Truth, out: Path) -> list[float]:
    """Dice of the brain and of each of `TISSUES` with what was planted, on the T1w's voxels."""
    image = nib.load(out / "brain_mask.nii.gz")
    planted, _ = sampled(truth.warp, tissue_template(), image.shape, image.affine)
    found = [masks.dice(np.asarray(image.dataobj) > 0, planted[..., :3].sum(axis=-1) > 0.5)]
    for index, name in enumerate(TISSUES):
        share = np.asarray(nib.load(out / f"{name}.nii.gz").dataobj, np.float32)
        found.append(masks.dice(share > 0.5, planted[..., index] > 0.5))
    return found
