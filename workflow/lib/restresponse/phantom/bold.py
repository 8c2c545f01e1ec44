"""A participant's BOLD scan: each slice is sampled where the head is, and with what the networks do, at that slice's own time."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restresponse.files import writing
from restresponse.phantom.anatomy import Warp, apply, interpolate, rigid, sampled, soft_step, tissue_template
from restresponse.phantom.distortion import AXIS, Distortion
from restresponse.phantom.signals import Harmonics, Motion, Physiology

FIELD_OF_VIEW = np.array([180.0, 216.0, 168.0])  # mm: a head and a few voxels
_MARGIN = 10.0  # mm of head known beyond the matrix, for what moves in
_STILL = 0.1  # mm: the maps of change are smooth, and looked up anew when the head has moved by more
_BASELINE = 700.0  # of pure fluid, in the units of the file
_MAP_STEP = 2.5  # mm, of the maps of change (they are smooth)
_THERMAL = 0.009  # noise of a voxel of 64 mm3, of grey matter's signal; more in smaller ones
_CARDIAC, _RESPIRATORY, _SLOW_FLUID, _SLOW_WHITE, _DRIFT = 0.018, 0.010, 0.012, 0.004, 0.004  # of the baseline
_GREY, _WHITE = 0.78, 0.62  # signal next to fluid's 1


@dataclass(frozen=True)
class Matrix:
    """The acquisition matrix: `shape` (3,) and `affine` (4, 4), voxel index to BOLD world; `slice_times` (Z,) in s."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    voxel_size: np.ndarray
    slice_times: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """The middle of the matrix in BOLD world, about which the head turns."""
        return apply(self.affine, (np.array(self.shape)[:, None] - 1) / 2)[:, 0]


@dataclass(frozen=True)
class Head:
    """What the scanner sees of a head at rest: maps in BOLD world on two grids parallel to the matrix.

    baseline (X, Y, Z, 1), with its affine; changes (X', Y', Z', C) as shares of the baseline for each unit of C signals, with its affine.
    """

    baseline: np.ndarray
    baseline_affine: np.ndarray
    changes: np.ndarray
    changes_affine: np.ndarray


def draw_matrix(
    generator: np.random.Generator, voxel_size: np.ndarray, repetition_time: float, warp: Warp, to_bold: np.ndarray
) -> Matrix:
    """An oblique matrix around the head, ascending slices."""
    shape = tuple(int(n) for n in np.ceil(FIELD_OF_VIEW / voxel_size - 1e-6))
    tilt = np.deg2rad(generator.normal((-5, 0, 0), (2.5, 0.7, 0.7)))
    affine = rigid(np.zeros(3), tilt, np.zeros(3)) @ np.diag([*voxel_size, 1.0])
    middle = apply(to_bold @ warp.affine, np.array([[0.0], [-18.0], [3.0]]))[:, 0] + generator.normal(0, 1.0, 3)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    affine = affine.astype(np.float32).astype(float)  # as the file will hold it
    times = np.round(np.arange(shape[2]) * repetition_time / shape[2], 4)
    return Matrix(shape, affine, np.asarray(voxel_size, float), times)


def make_head(
    matrix: Matrix,
    warp: Warp,
    to_bold: np.ndarray,
    planted: np.ndarray,
    planted_affine: np.ndarray,
    generator: np.random.Generator,
) -> Head:
    """Baseline and maps of change of a head at rest, averaged over a voxel's size.

    Parameters
    ----------
    planted : (K, X, Y, Z), the participant's network maps in MNI space with their amplitudes, as shares of the baseline
    """
    from scipy import ndimage

    baseline_affine, baseline_shape = parallel(matrix, float(np.clip(matrix.voxel_size.min() / 3, 1.0, 2.0)))
    tissues, mni = sampled(warp, tissue_template(), baseline_shape, np.linalg.inv(to_bold) @ baseline_affine)
    grey, white, fluid, depth = np.moveaxis(tissues, -1, 0)
    scalp_depth = generator.uniform(7, 10)
    around = np.clip(1 - grey - white - fluid, 0, 1)
    baseline = _GREY * grey + _WHITE * white + fluid
    baseline += around * 0.35 * (1 - soft_step(depth - 0.5, 2.0)) * soft_step(depth + 8, 4.0)
    baseline += 0.10 * soft_step(depth - scalp_depth, 2.0) * (1 - soft_step(depth - scalp_depth - 4, 2.0))
    baseline *= _dropout(mni, generator)
    step = np.diag(np.linalg.inv(matrix.affine) @ baseline_affine)[:3]
    baseline = ndimage.gaussian_filter(
        _BASELINE * baseline, 0.29 / step
    )  # 0.29: a box's standard deviation in its widths
    del tissues, mni

    changes_affine, changes_shape = parallel(matrix, max(_MAP_STEP, matrix.voxel_size.min() / 2))
    tissues, mni = sampled(warp, tissue_template(), changes_shape, np.linalg.inv(to_bold) @ changes_affine)
    grey, white, fluid, _ = np.moveaxis(tissues, -1, 0)
    index = apply(np.linalg.inv(planted_affine), mni.reshape(-1, 3).T)
    networks = interpolate(np.ascontiguousarray(np.moveaxis(planted, 0, -1)), index).reshape(*changes_shape, -1)
    base = np.exp(-0.5 * np.sum(((mni - np.float32([0, -18, -25])) / np.float32([22, 25, 25])) ** 2, axis=-1))
    physiological = [
        _CARDIAC * (fluid * (0.6 + 0.8 * base) + 0.25 * base * grey),
        _RESPIRATORY * (fluid + 0.2 * (grey + white)),
        _SLOW_FLUID * fluid + 0.1 * _SLOW_WHITE * grey,
        _SLOW_WHITE * (white + 0.4 * grey),
        np.full(changes_shape, _DRIFT, np.float32),
    ]
    changes = np.concatenate([networks, np.stack(physiological, axis=-1)], axis=-1).astype(np.float32)
    return Head(baseline[..., None].astype(np.float32), baseline_affine, np.ascontiguousarray(changes), changes_affine)


def parallel(matrix: Matrix, step: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Affine and shape of a grid of `step` mm parallel to the matrix, which it covers with a margin."""
    extent = np.array(matrix.shape) * matrix.voxel_size + 2 * _MARGIN
    shape = tuple(int(n) for n in np.ceil(extent / step))
    affine = matrix.affine.copy()
    affine[:3, :3] = matrix.affine[:3, :3] / matrix.voxel_size * step
    affine[:3, 3] = matrix.centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


def _dropout(mni: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What is left of the signal above the nasal cavity and the ear canals (1 elsewhere)."""
    left = np.ones(mni.shape[:3], np.float32)
    for centre, width, depth in (
        ((0, 34, -26), (17, 14, 11), 0.85),
        ((47, -14, -36), (14, 17, 11), 0.7),
        ((-47, -14, -36), (14, 17, 11), 0.7),
    ):
        distance = (mni - np.float32(centre)) / np.float32(width)
        left *= 1 - depth * generator.uniform(0.85, 1.1) * np.exp(
            -0.5 * np.einsum("...a,...a->...", distance, distance)
        )
    return left


def acquire(
    path: str | Path,
    matrix: Matrix,
    head: Head,
    n_volumes: int,
    repetition_time: float,
    networks: Harmonics | Callable[[np.ndarray], np.ndarray],
    physiology: Physiology | Callable[[np.ndarray], np.ndarray],
    motion: Motion | Callable[[np.ndarray], np.ndarray],
    noise: float,
    generator: np.random.Generator,
    distortion: Distortion | None = None,
) -> np.ndarray:
    """Scan the head, slice by slice, and write the series as a compressed NIfTI of int16.

    Volumes go to the file one at a time, so the memory does not grow with their number. The distortion goes with the head,
    its direction stays the matrix's.

    Returns
    -------
    parameters : (T, Z, 6) the head's motion at the time of each slice
    """
    times = np.arange(n_volumes)[:, None] * repetition_time + matrix.slice_times
    parameters = motion(times)
    signals = np.concatenate([networks(times), noise * physiology(times)], axis=-1).astype(np.float32)
    moved = rigid(parameters[..., :3], parameters[..., 3:], matrix.centre)
    back = np.linalg.inv(moved) @ matrix.affine  # voxel -> head at rest
    to_baseline = np.linalg.inv(head.baseline_affine) @ back
    to_changes = np.linalg.inv(head.changes_affine) @ back

    voxels = np.indices(matrix.shape, np.float32).reshape(3, -1)
    furthest = _shift(back, np.broadcast_to(matrix.affine, back.shape[1:]), matrix)
    seen, inside = _supports(head, matrix, voxels, furthest + (distortion.largest if distortion else 0))
    backwards = distortion.backwards() if distortion else None
    shown = voxels
    bias = _receive_bias(matrix, voxels, generator)
    sd = np.float32(noise * _THERMAL * np.sqrt(64 / matrix.voxel_size.prod()) * _GREY * _BASELINE)
    known = change = None
    with (
        writing(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(
            filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0
        ) as stream,  # the same bytes each time
    ):
        stream.write(_header(matrix, n_volumes, repetition_time))
        for volume in range(n_volumes):
            moved_on = known is None or _shift(back[volume], known, matrix) > _STILL
            if moved_on and distortion:
                here = _moved(np.linalg.inv(distortion.affine) @ back[volume], voxels)
                displaced, factor = interpolate(backwards, here).T
                shown = voxels.copy()
                shown[AXIS] -= displaced / matrix.voxel_size[AXIS]
            signal = np.zeros(voxels.shape[1], np.float32)
            signal[seen] = interpolate(head.baseline, _moved(to_baseline[volume], shown[:, seen]))[:, 0]
            if moved_on:
                change = interpolate(head.changes, _moved(to_changes[volume], shown[:, inside]))
                known = back[volume]
            own = signals[volume].take(voxels[2, inside].astype(np.int32), axis=0)
            signal[inside] *= 1 + np.einsum("nc,nc->n", change, own)
            signal *= bias * factor if distortion else bias
            first, second = (sd * generator.standard_normal(signal.size, np.float32) for _ in range(2))
            data = np.rint(np.hypot(signal + first, second)).astype("<i2").reshape(matrix.shape)
            stream.write(data.tobytes(order="F"))
    return parameters


def _moved(matrices: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Carry voxels (3, N) through the matrix (Z, 4, 4) of their own slice."""
    matrices = matrices.astype(np.float32)
    own = matrices.take(voxels[2].astype(np.int32), axis=0)
    return np.stack(
        [
            own[:, a, 0] * voxels[0] + own[:, a, 1] * voxels[1] + own[:, a, 2] * voxels[2] + own[:, a, 3]
            for a in range(3)
        ]
    )


def _shift(first: np.ndarray, second: np.ndarray, matrix: Matrix) -> float:
    """The furthest that any corner of the matrix lies apart under two sets of transforms (Z, 4, 4), mm."""
    corners = (
        np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]).T
        * np.array([*matrix.shape, 1])[:, None]
    )
    return float(np.abs((first - second)[..., :3, :] @ corners).max())


def _supports(head: Head, matrix: Matrix, voxels: np.ndarray, furthest: float) -> tuple[np.ndarray, np.ndarray]:
    """Voxels that the head, and its part that changes in time, may reach when it moves by `furthest` mm."""
    from scipy import ndimage

    reach = 1 + int(np.ceil(furthest / matrix.voxel_size.min()))
    found = []
    for stack, affine in (
        (head.baseline, head.baseline_affine),
        (np.abs(head.changes[..., :-1]).max(-1, keepdims=True), head.changes_affine),
    ):
        values = interpolate(stack, apply(np.linalg.inv(affine) @ matrix.affine, voxels))[:, 0].reshape(matrix.shape)
        found.append(np.flatnonzero(ndimage.binary_dilation(values > 1e-3 * values.max(), iterations=reach)))
    return found[0], found[1]


def _receive_bias(matrix: Matrix, voxels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The coil's sensitivity at each voxel: fixed to the scanner, within about 15 %."""
    place = 2 * voxels / (np.array(matrix.shape, np.float32)[:, None] - 1) - 1
    linear, square = generator.normal(0, 0.06, 3), generator.normal(0.05, 0.04, 3)
    return np.exp(linear @ place + square @ place**2).astype(np.float32)


def _header(matrix: Matrix, n_volumes: int, repetition_time: float) -> bytes:
    import nibabel as nib

    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.int16)
    header.set_data_shape((*matrix.shape, n_volumes))
    header.set_zooms((*matrix.voxel_size, repetition_time))
    header.set_sform(matrix.affine, code=1)
    header.set_qform(matrix.affine, code=1)
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(1, 0)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return header.binaryblock + b"\0" * 4
