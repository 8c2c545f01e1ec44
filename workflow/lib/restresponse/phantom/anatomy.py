"""A participant's head: the MNI152 template under a smooth random warp, a skull-like rim around it, and the T1w image of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

DISPLACEMENT_STEP = 5.0  # mm
_DISPLACEMENT_SHAPE = (49, 57, 49)  # -120..120, -160..120, -100..140 mm: head and margin
_DISPLACEMENT_ORIGIN = (-120.0, -160.0, -100.0)
_SLAB = 400_000  # points mapped at a time

_PADDING = ((14, 14), (14, 14), (20, 14))  # voxels of 1 mm around the template: room for the rim

TISSUES = ("GM", "WM", "CSF", "depth")  # shares, and mm outside the brain's hull (negative inside)


def displacement_affine() -> np.ndarray:
    """Affine (4, 4) of the grid that displacement fields are given on, voxel index to mm MNI."""
    affine = np.diag([DISPLACEMENT_STEP] * 3 + [1.0])
    affine[:3, 3] = _DISPLACEMENT_ORIGIN
    return affine


@functools.cache
def tissue_template() -> tuple[np.ndarray, np.ndarray]:
    """The template's tissues, 1 mm: (X, Y, Z, 4) float32, the channels of `TISSUES`, and the affine (4, 4)."""
    from nilearn import datasets

    t1w, affine = _t1w()
    grey, white = (
        np.pad(load(resolution=1).get_fdata(dtype=np.float32), _PADDING)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    fluid = np.where(t1w > 0.19, np.clip(1 - grey - white, 0, 1), 0).astype(np.float32)
    return np.stack([grey, white, fluid, _depth()], axis=-1), affine


@functools.cache
def t1w_template(blur: float) -> tuple[np.ndarray, np.ndarray]:
    """The template's T1w (0 to 1), blurred by `blur` mm against aliasing, and depth: (X, Y, Z, 2) float32, and the affine (4, 4)."""
    from scipy import ndimage

    t1w, affine = _t1w()
    return np.stack([ndimage.gaussian_filter(t1w, blur, truncate=3) if blur > 0.3 else t1w, _depth()], axis=-1), affine


@functools.cache
def _t1w() -> tuple[np.ndarray, np.ndarray]:
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1)
    affine = image.affine.copy()
    affine[:3, 3] -= [before for before, _ in _PADDING]
    return np.pad(image.get_fdata(dtype=np.float32), _PADDING), affine


@functools.cache
def _depth() -> np.ndarray:
    """Distance in mm from the brain's closed and smoothed hull, made on a 3 mm grid (the hull is smooth)."""
    from scipy import ndimage

    t1w, _ = _t1w()
    coarse = ndimage.binary_fill_holes(np.pad(t1w[1::3, 1::3, 1::3] > 0.19, 6))
    distance = ndimage.distance_transform_edt(~coarse)
    hull = coarse | (ndimage.distance_transform_edt(distance < 5) > 5)  # closing by 15 mm fills the gaps of the base
    signed = 3 * (ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull))
    signed = ndimage.gaussian_filter(signed, 0.8)[6:-6, 6:-6, 6:-6].astype(np.float32)
    return ndimage.affine_transform(signed, [1 / 3] * 3, [-1 / 3] * 3, output_shape=t1w.shape, order=1, mode="nearest")


def interpolate(stack: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Trilinear interpolation of all channels at once; outside the grid the nearest edge counts.

    Parameters
    ----------
    stack : (X, Y, Z, C) float32
    coordinates : (3, N) voxel indices

    Returns
    -------
    values : (N, C) float32
    """
    shape = stack.shape[:3]
    flat = stack.shape[3] == 1  # one channel needs no rows, and is twice as fast without
    rows = stack.reshape(-1) if flat else stack.reshape(-1, stack.shape[3])
    lower, upper_weight = [], []
    for axis, n in enumerate(shape):
        position = np.clip(coordinates[axis], 0, n - 1.000001, dtype=np.float32)
        index = position.astype(np.int32)
        lower.append(np.minimum(index, n - 2))
        upper_weight.append(position - lower[-1])
    corner = (lower[0] * shape[1] + lower[1]) * shape[2] + lower[2]
    x, y, z = upper_weight
    values = np.zeros((corner.size, *rows.shape[1:]), np.float32)
    for step_x, weight_x in ((0, 1 - x), (shape[1] * shape[2], x)):
        for step_y, weight_y in ((0, 1 - y), (shape[2], y)):
            weight_xy = weight_x * weight_y
            for step_z, weight_z in ((0, 1 - z), (1, z)):
                found = rows.take(corner + (step_x + step_y + step_z), axis=0)
                found *= weight_xy * weight_z if flat else (weight_xy * weight_z)[:, None]
                values += found
    return values[:, None] if flat else values


def apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Carry points (3, N) through an affine (4, 4)."""
    return affine[:3, :3] @ points + affine[:3, 3:]


def rigid(translation: np.ndarray, rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Rigid transforms y -> R (y - c) + c + d with R = Rz Ry Rx: translations (..., 3) in mm, rotations (..., 3) in rad; (..., 4, 4)."""
    translation, rotation, centre = (np.asarray(value, float) for value in (translation, rotation, centre))
    cosine, sine = np.cos(rotation), np.sin(rotation)
    turns = np.zeros((3, *rotation.shape[:-1], 3, 3))
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turns[axis, ..., axis, axis] = 1
        turns[axis, ..., first, first] = turns[axis, ..., second, second] = cosine[..., axis]
        turns[axis, ..., first, second], turns[axis, ..., second, first] = -sine[..., axis], sine[..., axis]
    turn = turns[2] @ turns[1] @ turns[0]
    matrix = np.zeros((*rotation.shape[:-1], 4, 4))
    matrix[..., :3, :3] = turn
    matrix[..., :3, 3] = translation + centre - turn @ centre
    matrix[..., 3, 3] = 1
    return matrix


@dataclass(frozen=True)
class Warp:
    """Where a head's points lie in MNI space. `affine` (4, 4): MNI to T1w world; `displacement` (X, Y, Z, 3) in mm."""

    affine: np.ndarray
    displacement: np.ndarray

    def to_mni(self, points: np.ndarray) -> np.ndarray:
        """Carry points (3, N) of T1w world to MNI space."""
        return _displaced(self.displacement, apply(np.linalg.inv(self.affine), points))

    def inverse_displacement(self) -> np.ndarray:
        """The displacement E on the same grid with u = m + E(m), by fixed-point iteration."""
        grid = np.indices(self.displacement.shape[:3], np.float64).reshape(3, -1)
        mni = apply(displacement_affine(), grid)
        points = mni.copy()
        for _ in range(30):  # the field is a contraction: each step leaves less than half of the error
            missed = mni - _displaced(self.displacement, points)
            points += missed
            if np.abs(missed).max() < 1e-3:
                break
        return np.ascontiguousarray((points - mni).T.reshape(self.displacement.shape).astype(np.float32))

    def from_mni(self, points: np.ndarray, inverse_displacement: np.ndarray) -> np.ndarray:
        """Carry points (3, N) of MNI space to T1w world; the inverse field, linear between its nodes, is polished to 0.001 mm."""
        placed = _displaced(inverse_displacement, points)
        for _ in range(10):
            placed += points - _displaced(self.displacement, placed)
        return apply(self.affine, placed)


def _displaced(displacement: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points + interpolate(displacement, apply(np.linalg.inv(displacement_affine()), points)).T


def draw_warp(generator: np.random.Generator) -> Warp:
    """A head of its own size, place and shape: an affine, and a field of 2.2 mm per axis, smooth over 20 mm."""
    from scipy import ndimage

    displacement = np.empty((*_DISPLACEMENT_SHAPE, 3), np.float32)
    for axis in range(3):
        noise = ndimage.gaussian_filter(
            generator.standard_normal(_DISPLACEMENT_SHAPE), 20 / DISPLACEMENT_STEP, mode="wrap"
        )
        displacement[..., axis] = 2.2 * noise / noise.std()
    scale = np.diag([*np.exp(generator.normal(0, 0.03, 3)), 1.0])
    scale[0, 1], scale[1, 2] = generator.normal(0, 0.015, 2)
    placed = rigid(generator.normal(0, 3, 3), np.deg2rad(generator.normal(0, (4, 1.5, 1.5))), np.zeros(3))
    return Warp(placed @ scale, displacement)


def sampled(
    warp: Warp, source: tuple[np.ndarray, np.ndarray], shape: tuple[int, int, int], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Maps of MNI space as a head has them, on a grid of T1w world.

    Parameters
    ----------
    source : maps (X', Y', Z', C) and their affine
    shape, affine : the grid, voxel index to T1w world

    Returns
    -------
    values : (X, Y, Z, C) float32
    mni : (X, Y, Z, 3) float32, each voxel's place in MNI space, mm
    """
    maps, map_affine = source
    to_index = np.linalg.inv(map_affine)
    values = np.empty((*shape, maps.shape[3]), np.float32)
    mni = np.empty((*shape, 3), np.float32)
    plane = shape[1] * shape[2]
    step = max(1, _SLAB // plane)
    inplane = np.indices(shape[1:], np.float32).reshape(2, -1)
    for start in range(0, shape[0], step):
        rows = np.arange(start, min(start + step, shape[0]), dtype=np.int32)
        index = np.concatenate([np.repeat(rows.astype(np.float32), plane)[None], np.tile(inplane, len(rows))])
        points = warp.to_mni(apply(affine, index))
        mni[rows] = points.T.reshape(len(rows), *shape[1:], 3)
        values[rows] = interpolate(maps, apply(to_index, points)).reshape(len(rows), *shape[1:], -1)
    return values, mni


def soft_step(distance: np.ndarray, width: float) -> np.ndarray:
    """0 below zero, 1 above, over about `width`."""
    return (1 / (1 + np.exp(np.clip(-4 * distance / width, -30, 30)))).astype(np.float32)


def t1w_image(
    warp: Warp, voxel_size: float, noise: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The T1w image: brain, fluid, skull and scalp under a receive bias, with Rician noise.

    Returns
    -------
    data : (X, Y, Z) int16
    affine : (4, 4), voxel index to T1w world
    """
    extent = np.array([196.0, 236.0, 208.0])
    shape = tuple(int(n) for n in np.ceil(extent / voxel_size))
    affine = np.diag([voxel_size] * 3 + [1.0])
    middle = apply(warp.affine, np.array([[0.0], [-17.0], [6.0]]))[:, 0] + generator.normal(0, 1.5, 3)
    affine[:3, 3] = middle - voxel_size * (np.array(shape) - 1) / 2
    head, _ = sampled(warp, t1w_template(round(0.35 * voxel_size, 2)), shape, affine)
    brain, depth = head[..., 0], head[..., 1]
    skull, scalp = generator.uniform(5, 7), generator.uniform(5, 7)
    edge = max(1.0, voxel_size)
    rim = (
        0.22 * soft_step(depth + 12, 4.0) * (1 - soft_step(depth - 2, edge))
    )  # fluid in the hull's gaps and around the brain
    rim += 0.05 * soft_step(depth - 2, edge) * (1 - soft_step(depth - 2 - skull, edge))
    texture = _smooth_field(shape, 8 / voxel_size, generator)
    rim += (
        0.75
        * (1 + 0.12 * texture)
        * soft_step(depth - 2 - skull, edge)
        * (1 - soft_step(depth - 2 - skull - scalp, edge))
    )
    bias = np.exp(0.13 * _smooth_field(shape, 55 / voxel_size, generator))
    signal = 900 * np.maximum(brain, rim) * bias
    sd = np.float32(noise * 900 * 0.02)
    first, second = (sd * generator.standard_normal(shape, np.float32) for _ in range(2))
    return np.rint(np.hypot(signal + first, second)).astype(np.int16), affine


def _smooth_field(shape: tuple[int, int, int], sigma: float, generator: np.random.Generator) -> np.ndarray:
    """A random field of zero mean and unit standard deviation, smooth over `sigma` voxels; made on a coarse grid."""
    from scipy import ndimage

    coarse = [max(4, int(np.ceil(3 * n / sigma)) + 2) for n in shape]
    noise = ndimage.gaussian_filter(generator.standard_normal(coarse), 2.0, mode="reflect")
    noise = (noise - noise.mean()) / noise.std()
    ratio = [(m - 1) / max(1, n - 1) for m, n in zip(coarse, shape, strict=True)]
    return ndimage.affine_transform(noise.astype(np.float32), ratio, output_shape=shape, order=1, mode="nearest")
