"""The brain is found in a head as scanners give it: with a neck, tilted, cut off, of thick slices, in any order of axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from restresponse.engines import engine, masks, motion
from restresponse.phantom import anatomy

VOXEL_SIZE = 2.0
FINE = 0.9
NECK = 90.0  # mm below the head

Head = tuple[np.ndarray, np.ndarray, np.ndarray]  # T1w, planted brain, affine


@pytest.fixture(scope="module")
def head() -> Head:
    """A phantom's head on a neck: muscle around a bright spine, in a rim of fat."""
    generator = np.random.default_rng(77)
    warp = anatomy.draw_warp(generator)
    t1w, affine = anatomy.t1w_image(warp, VOXEL_SIZE, 1.0, generator)
    longer = int(NECK / VOXEL_SIZE)
    affine = affine.copy()
    affine[2, 3] -= NECK
    t1w = np.pad(t1w.astype(np.float32), [(0, 0), (0, 0), (longer, 0)])
    maps, mni = anatomy.sampled(warp, anatomy.tissue_template(), t1w.shape, affine)
    x, y, z = np.moveaxis(mni, -1, 0)
    radius = np.hypot(x / 62, (y + 38) / 68)
    neck = 480 * (radius < 0.88) + 850 * ((radius >= 0.88) & (radius < 1))
    neck = np.where(np.hypot(x, y + 45) < 16, 650, neck) * (z < -62)
    texture = 1 + 0.1 * generator.standard_normal(t1w.shape)
    t1w = np.where((maps[..., 3] > 4) & (neck > t1w), neck * texture, t1w)
    return t1w.astype(np.float32), maps[..., :3].sum(axis=-1) > 0.5, affine


def _tilted(axis: int, degrees: float) -> Callable[[Head], Head]:
    """The person's head turned in the scanner."""

    def change(head: Head) -> Head:
        turn = np.eye(4)
        turn[:3, :3] = motion.turn(axis, np.deg2rad([degrees]))[0]
        return head[0], head[1], turn @ head[2]

    return change


def _in_order(axes: str) -> Callable[[Head], Head]:
    """The same image with its voxel axes in another order and direction, oblique by 20 degrees."""

    def change(head: Head) -> Head:
        t1w, brain, affine = _tilted(1, 20)(head)
        orientation = nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes))
        )
        images = [nib.Nifti1Image(data, affine).as_reoriented(orientation) for data in (t1w, brain.astype(np.uint8))]
        return np.asarray(images[0].dataobj), np.asarray(images[1].dataobj) > 0, images[0].affine

    return change


def _cut(below: float, above: float) -> Callable[[Head], Head]:
    """Without the lowest and the highest mm."""

    def change(head: Head) -> Head:
        keep = slice(int(below / VOXEL_SIZE), head[0].shape[2] - int(above / VOXEL_SIZE))
        affine = head[2].copy()
        affine[:3, 3] += affine[:3, 2] * keep.start
        return head[0][..., keep], head[1][..., keep], affine

    return change


def _thick(head: Head) -> Head:
    """Sagittal slices of 6 mm."""
    t1w, brain, affine = head
    count = t1w.shape[0] // 3
    mean = t1w[: 3 * count].reshape(count, 3, *t1w.shape[1:]).mean(axis=1)
    affine = affine.copy()
    affine[:3, 3] += affine[:3, 0]
    affine[:3, 0] *= 3
    return mean, brain[1 : 3 * count : 3], affine


def _fine(head: Head) -> Head:
    """Voxels of 0.9 mm, each with noise of its own."""
    t1w, brain, affine = head
    factor = FINE / VOXEL_SIZE
    shape = tuple(int(length / factor) for length in t1w.shape)
    fine = [ndimage.affine_transform(image, [factor] * 3, output_shape=shape, order=1) for image in (t1w, brain * 1.0)]
    noise = np.random.default_rng(1).normal(0, 20, shape).astype(np.float32)
    return fine[0] + noise, fine[1] > 0.5, affine @ np.diag([factor] * 3 + [1])


CASES = {
    "voxels of 0.9 mm": _fine,
    "chin on the chest": _tilted(0, -28),
    "PIL, oblique": _in_order("PIL"),
    "neck cut off": _cut(NECK + 30, 0),
    "crown cut off": _cut(0, 38),
    "slices of 6 mm": _thick,
}


@pytest.mark.parametrize("case", CASES)
def test_the_brain_is_found_in(head, case, tmp_path: Path):
    t1w, brain, affine = CASES[case](head)
    upright = nib.as_closest_canonical(nib.Nifti1Image(t1w, affine))  # as `normalise_anatomical` hands it to the engine
    nib.Nifti1Image(upright.get_fdata(dtype=np.float32), upright.affine).to_filename(tmp_path / "T1w.nii")
    mask = engine("embedded", tmp_path).brain_extract(tmp_path / "T1w.nii")
    planted = nib.as_closest_canonical(nib.Nifti1Image(brain.astype(np.uint8), affine))
    found = masks.dice(np.asarray(nib.load(mask).dataobj) > 0, np.asarray(planted.dataobj) > 0)
    assert found > 0.95
