"""Tissue priors in the template's space, made from others that lie elsewhere; no SPM is needed."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from restresponse import grid
from restresponse.engines import masks, spm_priors, warps

_SHIFT = np.array([3.0, -5.0, 4.0])  # mm, by which the other priors lie away


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> tuple[np.ndarray, np.ndarray]:
    """The priors that are made, and the six classes that the others have at the same places, brought back by what was planted."""
    shape, affine = grid.grid(3)
    brain, grey, white = (grid.template_image(name, 3) for name in ("brain", "GM", "WM"))
    depth = 3 * ndimage.distance_transform_edt(brain < 0.5)
    three = [grey, white, np.clip(brain - grey - white, 0, 1)]
    fluid, *around = [(depth > a) & (depth <= b) for a, b in ((0, 6), (6, 12), (12, 20), (20, 1000))]
    rest = 1 - np.clip(sum(three), 0, 1)
    three[2] += rest * fluid
    classes = np.stack([*three, *(rest * part for part in around)], axis=-1).astype(np.float32)
    blurred = ndimage.gaussian_filter(classes, (0.8, 0.8, 0.8, 0))
    moved = affine.copy()
    moved[:3, 3] += _SHIFT
    folder = tmp_path_factory.mktemp("priors")
    turned = nib.Nifti1Image(blurred[::-1], moved @ np.array([[-1.0, 0, 0, shape[0] - 1], *np.eye(4)[1:]]))
    turned.to_filename(folder / "TPM.nii")  # from right to left, as SPM's are
    image = nib.load(spm_priors.make(folder / "priors.nii", folder / "TPM.nii"))
    assert np.allclose(image.affine, grid.grid(spm_priors.VOXEL_SIZE)[1]) and image.get_data_dtype() == np.float32
    index = np.argwhere(np.ones(image.shape[:3], bool))
    places = warps.world_of(warps.world_of(index, image.affine), np.linalg.inv(affine)).T
    there = [ndimage.map_coordinates(blurred[..., k], places, order=1, mode="nearest") for k in range(6)]
    return np.asarray(image.dataobj), np.stack(there, axis=-1).reshape(image.shape)


def test_the_six_sum_to_one_and_none_is_impossible_anywhere(heads):
    made, _ = heads
    np.testing.assert_allclose(made.sum(axis=-1), 1, atol=1e-5)
    assert made.min() > 0.9 * spm_priors.FLOOR and made.max() < 1


def test_the_brains_tissues_are_the_templates(heads):
    made, _ = heads
    brain = grid.brain_mask(spm_priors.VOXEL_SIZE)
    for index, name in enumerate(("GM", "WM")):
        template = grid.template_image(name, spm_priors.VOXEL_SIZE)
        assert masks.correlation(made[..., index], template, brain) > 0.97
        away = ndimage.shift(template, _SHIFT / spm_priors.VOXEL_SIZE, order=1)
        assert masks.correlation(made[..., index], away, brain) < 0.8
    fluid = made[..., 2]
    ventricle = np.rint((np.array([4.5, 3, 15]) - grid.BOUNDING_BOX[0]) / spm_priors.VOXEL_SIZE).astype(int)
    assert fluid[tuple(ventricle)] > 0.9


def test_what_is_around_the_brain_comes_from_the_others_place(heads):
    made, there = heads
    near = ndimage.binary_dilation(grid.brain_mask(spm_priors.VOXEL_SIZE), iterations=14)
    away = ndimage.shift(there, [*(_SHIFT / spm_priors.VOXEL_SIZE), 0], order=1)
    near &= ~ndimage.binary_dilation(grid.brain_mask(spm_priors.VOXEL_SIZE), iterations=2)
    assert made[..., 2][near].max() < 0.05  # SPM's fluid around the brain is none of the template's
    near &= there[..., 2] < 0.1  # where theirs is fluid, bone is next
    for index in (3, 4, 5):
        found = masks.correlation(made[..., index], there[..., index], near)
        assert found > 0.9 and found > masks.correlation(made[..., index], away[..., index], near) + 0.1, index
    assert (made[2, 2, -2] == made[2, 2, -2].max()).argmax() == 5  # a corner is air
