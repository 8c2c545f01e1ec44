"""Brain masks from intensities: of a T1w image that lies roughly on the template, and of an EPI image alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from restresponse.engines import EngineFailure


def head_brain(image: np.ndarray, template: Mapping[str, np.ndarray], voxel_size: float) -> np.ndarray:
    """Brain of a T1w image of a head that an affine has brought to the template.

    Tissue as bright as brain, near the template's brain, is opened so that dura and skull fall away; what hangs
    together with the core stays; sulci and ventricles are closed.

    Parameters
    ----------
    image : (n_x, n_y, n_z) array on the template's grid
    template : `brain`, `GM` and `WM` on the same grid, 0 to 1
    voxel_size : float, mm

    Returns
    -------
    (n_x, n_y, n_z) bool array
    """
    from scipy import ndimage

    brain = template["brain"] > 0.5
    inside, outside = _distance(brain, voxel_size), _distance(~brain, voxel_size)
    core, near = inside > 8, outside < 9
    white = np.median(image[core & (template["WM"] > 0.9)])
    grey = np.median(image[core & (template["GM"] > 0.7)])
    dark = np.percentile(image[inside > 0], 1)
    if not white > dark:
        raise EngineFailure("the T1w has no contrast between brain and background where the template's brain was found")
    floor = dark + 0.5 * (min(grey, white) - dark)
    tissue = near & (image > floor) & (image < 1.45 * white)
    opened = _distance(tissue, voxel_size) > 3
    labels, _ = ndimage.label(opened)
    largest = np.bincount(labels[core & opened], minlength=2)
    if largest[1:].sum() == 0:
        raise EngineFailure("no brain tissue was found in the T1w where the template's brain lies after the affine")
    seed = labels == largest[1:].argmax() + 1
    grown = tissue & (_distance(~seed, voxel_size) < 4)
    closed = _closed(grown | (inside > 12), 8, voxel_size)
    return ndimage.binary_fill_holes(closed & near)


def functional_brain(image: np.ndarray, voxel_size: np.ndarray) -> np.ndarray:
    """Brain of an EPI image: bright, compact, in one piece; nothing but the image is looked at.

    Parameters
    ----------
    image : (n_x, n_y, n_z) array
    voxel_size : (3,) array, mm

    Returns
    -------
    (n_x, n_y, n_z) bool array
    """
    from scipy import ndimage

    image = ndimage.gaussian_filter(np.asarray(image, np.float32), 2.0 / np.asarray(voxel_size))
    bright = image > threshold_between(image)
    opened = _distance(bright, voxel_size) > max(4.0, 1.01 * float(np.max(voxel_size)))
    labels, count = ndimage.label(opened)
    if count == 0:
        raise EngineFailure("no brain was found in the EPI reference: no compact bright region")
    seed = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    grown = bright & (_distance(~seed, voxel_size) < 1.5 * max(4.0, float(np.max(voxel_size))))
    closed = _closed(grown, 8, voxel_size)
    for axis in range(3):
        for index in range(closed.shape[axis]):
            plane = (slice(None),) * axis + (index,)
            closed[plane] = ndimage.binary_fill_holes(closed[plane])
    return closed


def one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask with its holes filled."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count == 0:
        raise EngineFailure("no brain was found: the mask of the brain is empty")
    return ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def threshold_between(image: np.ndarray) -> float:
    """Otsu's threshold between background and brain of an EPI image."""
    top = np.percentile(image, 99)
    counts, edges = np.histogram(np.clip(image, 0, top), bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, mean_below = np.cumsum(counts), np.cumsum(counts * middles)
    above, total = below[-1] - below, mean_below[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mean_below / below - (total - mean_below) / above) ** 2
    return float(edges[1:][np.nanargmax(between)])


def around(mask: np.ndarray, reach: float, voxel_size: np.ndarray) -> np.ndarray:
    """A mask (n_x, n_y, n_z) widened by a box of `reach` mm to each side; voxel size (3,) in mm."""
    from scipy import ndimage

    wide = mask.astype(np.uint8)
    for axis, steps in enumerate(np.rint(reach / np.asarray(voxel_size)).astype(int)):
        wide = ndimage.maximum_filter1d(wide, 2 * int(steps) + 1, axis=axis, mode="constant")
    return wide > 0


def coarser(image: np.ndarray, affine: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """An image (n_x, n_y, n_z), float32, and its affine with voxels of about `size` mm: means over whole blocks of voxels."""
    factors = np.maximum(1, np.rint(size / np.linalg.norm(affine[:3, :3], axis=0))).astype(int)
    padded = np.pad(image, [(0, -length % factor) for length, factor in zip(image.shape, factors, strict=True)])
    blocks = [part for length, factor in zip(padded.shape, factors, strict=True) for part in (length // factor, factor)]
    scaled = affine.copy()
    scaled[:3, :3] = affine[:3, :3] * factors
    scaled[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factors - 1) / 2)
    return padded.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32), scaled


def window(mask: np.ndarray, margin: int | np.ndarray) -> tuple[slice, ...]:
    """The box around a mask with a margin in voxels, inside the image."""
    bounds = []
    for axis, edge in enumerate(np.broadcast_to(margin, (3,))):
        index = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        bounds.append(slice(max(0, int(index[0] - edge)), min(mask.shape[axis], int(index[-1] + edge + 1))))
    return tuple(bounds)


def window_of(shape: tuple[int, ...], part: np.ndarray, whole: np.ndarray) -> tuple[slice, ...]:
    """The window of an image that a part of it, of `shape`, is; `part` and `whole` are their affines (4, 4)."""
    start = np.rint(np.linalg.solve(whole, part)[:3, 3]).astype(int)
    return tuple(slice(int(begin), int(begin + size)) for begin, size in zip(start, shape, strict=True))


def cornered(affine: np.ndarray, window: tuple[slice, ...]) -> np.ndarray:
    """The affine (4, 4) of a window of an image."""
    corner = np.array(affine, float)
    corner[:3, 3] += corner[:3, :3] @ [part.start for part in window]
    return corner


def carried(mask: np.ndarray, through: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask on another grid of `shape`, linear, float32; `through` takes that grid's voxels to the mask's."""
    from scipy import ndimage

    return ndimage.affine_transform(
        np.asarray(mask, np.float32), through[:3, :3], through[:3, 3], output_shape=shape[:3], order=1
    )


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two masks; 0 where both are empty."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    total = first.sum() + second.sum()
    return float(2 * (first & second).sum() / total) if total else 0.0


def correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation of two images inside a mask."""
    values = np.corrcoef(first[mask], second[mask])[0, 1]
    return float(values) if np.isfinite(values) else 0.0


def _distance(mask: np.ndarray, voxel_size: float | np.ndarray) -> np.ndarray:
    """Distance in mm of each voxel of the mask to what is outside; 0 outside."""
    from scipy import ndimage

    sampling = np.broadcast_to(np.asarray(voxel_size, float), (3,))
    return ndimage.distance_transform_edt(mask, sampling=sampling).astype(np.float32)


def _closed(mask: np.ndarray, radius: float, voxel_size: float | np.ndarray) -> np.ndarray:
    """Closing by a ball of `radius` mm, away from the image's border."""
    steps = int(np.ceil(radius / np.min(voxel_size))) + 1
    padded = np.pad(mask, steps)
    grown = _distance(~padded, voxel_size) <= radius
    closed = _distance(grown, voxel_size) > radius
    return closed[(slice(steps, -steps),) * 3] | mask
