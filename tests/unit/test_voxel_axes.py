"""A direction on an image's voxel axes is the same direction in the world on another's, and a file's mirror image in itself."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from restresponse.engines.motion import turn
from restresponse.voxel_axes import change_of_axes, direction_along

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")


def _in_the_world(direction: str, affine: np.ndarray) -> np.ndarray:
    vector = affine[:3, "ijk".index(direction[0])] * (-1 if direction.endswith("-") else 1)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("tilt", [0, 20])
def test_a_direction_stays_where_it_points(tilt):
    target = np.diag([2.0, 3.0, 4.0, 1.0])
    oblique = np.eye(4)
    oblique[:3, :3] = turn(0, np.deg2rad([tilt]))[0]
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), oblique @ target)
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        stored = image.as_reoriented(np.column_stack([order, flips]))
        for direction in DIRECTIONS:
            found = direction_along(direction, stored.affine, target)
            points = _in_the_world(found, target) @ _in_the_world(direction, stored.affine)
            assert points > (0.99 if tilt == 0 else 0.9)
            assert direction_along(found, target, stored.affine) == direction
        back = stored.as_reoriented(change_of_axes(stored.affine, image.affine))
        np.testing.assert_allclose(back.affine, image.affine, atol=1e-6)


def test_both_stages_that_ask_it_ask_the_same_function_and_the_dataset_loads_nothing_for_it():
    """What the dataset says of a field map's read-out is what its preprocessing finds; a plan must not wait for nibabel."""
    code = (
        "import sys; from restresponse.dataset import fieldmaps as first; assert not {'nibabel', 'scipy'} & sys.modules.keys(); "
        "from restresponse.functional import fieldmaps as second; assert first.direction_along is second.direction_along"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
