"""Network templates on the grid of the group maps: the embedded nodes, or any image of labels or of one network a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import InputError

_WHOLE = 1e-4  # how far from a whole number a label may be stored
_MOST_LABELS = 1000  # distinct values of a 3D image beyond which it is no label image
_KEY = "components.template"


def network_templates(
    mask: np.ndarray, affine: np.ndarray, image: str | Path | None = None, labels: str | Path | None = None
) -> tuple[list[str], np.ndarray]:
    """Names and maps of the networks inside the mask.

    Parameters
    ----------
    mask : (n_x, n_y, n_z) bool
    affine : (4, 4), voxel index of the mask to mm
    image : a 3D image of whole numbers, one a network, or a 4D image of one network a volume, on any grid in MNI space;
        None stands for the embedded table of the 32 nodes of CONN's HCP-ICA atlas
    labels : text file with one name a line, in the order of the networks or by their number, or a BIDS table of `index`
        and `name`; None: `network 1` …

    Returns
    -------
    names : list of n_templates str
    maps : (n_templates, n_voxels) float64, in the mask's C order

    Raises
    ------
    InputError
        Where the image is no such image, a network is empty, none overlaps the mask, or the names do not fit.
    """
    if not mask.any():
        raise InputError(
            "the group mask has no voxel; expected the template's brain: remove results/quality, run again"
        )
    if image is None:
        from restresponse.networks import network_maps

        names, maps = network_maps((mask.shape, affine))
        return list(names), np.asarray(maps).reshape(len(names), -1)[:, mask.ravel()].astype(np.float64)
    numbers, volumes, own_affine = _read(image)
    names = _names(image, labels, numbers)
    empty = [name for name, volume in zip(names, np.moveaxis(volumes, -1, 0), strict=True) if not volume.max() > 0]
    if empty:
        raise InputError(
            f"{_KEY} {image} has no voxel above 0 for {', '.join(empty)}; expected a map of each network: take the empty "
            "ones out"
        )
    maps = _on_grid(volumes, own_affine, mask.shape, affine)[mask].T
    outside = [name for name, template in zip(names, maps, strict=True) if not template.max() > 0]
    if outside:
        raise InputError(
            f"{_KEY} {image} does not overlap the group mask for {', '.join(outside)}; expected maps in MNI152 space "
            "(mm): check the image's affine"
        )
    return names, maps


def _read(image: str | Path) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Number of each network, volumes (n_x, n_y, n_z, n) float32 of one network each, and the affine."""
    import nibabel as nib

    try:
        loaded = nib.load(image)
        values = np.asarray(loaded.dataobj, np.float32)
    except (OSError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{_KEY} {image} cannot be read ({error}); expected a NIfTI image: give another") from error
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim == 4 and values.shape[3] > 1:
        return list(range(1, values.shape[3] + 1)), values, loaded.affine
    if values.ndim not in (3, 4) or not values.size:
        raise InputError(
            f"{_KEY} {image} has shape {values.shape}; expected 3D of labels or 4D of one network a volume: give another"
        )
    values = values.reshape(values.shape[:3])
    found = np.unique(values[values > 0])
    if not len(found):
        raise InputError(f"{_KEY} {image} holds no label above 0; expected one whole number a network: give another")
    if len(found) > _MOST_LABELS or np.any(np.abs(found - np.rint(found)) > _WHOLE):
        raise InputError(
            f"{_KEY} {image} is 3D with {len(found)} different values above 0, not whole numbers that stand for networks; "
            "expected labels: give a map of one network a volume, 4D"
        )
    numbers = sorted({int(value) for value in np.rint(found)})
    return (
        numbers,
        np.stack([(np.rint(values) == number).astype(np.float32) for number in numbers], axis=-1),
        loaded.affine,
    )


def _names(image: str | Path, labels: str | Path | None, numbers: Sequence[int]) -> list[str]:
    if labels is None:
        return [f"network {number}" for number in numbers]
    try:
        lines = [line.strip() for line in Path(labels).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{_KEY}_labels {labels} cannot be read ({error}); expected text, one name a line: give another"
        ) from error
    table = [line.split("\t") for line in lines]
    if table and {"index", "name"} <= set(table[0]):
        index, name = table[0].index("index"), table[0].index("name")
        known = {row[index]: row[name] for row in table[1:] if len(row) > max(index, name)}
        missing = [number for number in numbers if str(number) not in known]
        if missing:
            raise InputError(
                f"{_KEY}_labels {labels} has no row for label {missing[0]} of {image}; expected one for each label: add it"
            )
        return [known[str(number)] for number in numbers]
    if len(lines) == len(numbers):
        return lines
    if len(lines) == max(numbers):  # names of numbers that do not all occur
        return [lines[number - 1] for number in numbers]
    raise InputError(
        f"{_KEY}_labels {labels} has {len(lines)} names; {image} has {len(numbers)} networks: give one name a line"
    )


def _on_grid(volumes: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], target_affine: np.ndarray) -> np.ndarray:
    """Volumes (n_x, n_y, n_z, n) on the grid, float64: linear, of local means where the grid is coarser, so that none is missed."""
    from scipy import ndimage

    if volumes.shape[:3] == tuple(shape) and np.allclose(affine, target_affine, atol=1e-4):
        return volumes.astype(np.float64)
    mapping = np.linalg.inv(affine) @ target_affine
    steps = np.abs(mapping[:3, :3]).max(axis=1)  # of the template's voxels, from one voxel of the grid to the next
    widths = [max(1, 2 * int(step // 2) + 1) if step > 1 else 1 for step in steps]
    found = np.empty((*shape, volumes.shape[3]))
    for index in range(volumes.shape[3]):
        source = volumes[..., index]
        for axis, width in enumerate(widths):
            if width > 1:
                source = ndimage.uniform_filter1d(source, width, axis=axis, mode="constant")
        found[..., index] = ndimage.affine_transform(
            source, mapping[:3, :3], mapping[:3, 3], output_shape=tuple(shape), order=1, mode="constant"
        )
    return found
