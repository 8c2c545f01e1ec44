"""Spatial match of components to network templates: signed correlation and Dice, one-to-one and CONN's best three."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restresponse.errors import InputError


def spatial_correlation(components: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Signed correlation over voxels of `(n_components, n_voxels)` with `(n_templates, n_voxels)`; 0 for a constant map."""

    def standardised(maps: np.ndarray) -> np.ndarray:
        centred = maps - maps.mean(axis=1, keepdims=True, dtype=np.float64)
        norm = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)

    return standardised(components) @ standardised(templates).T


def dice(components: np.ndarray, templates: np.ndarray, threshold: float) -> np.ndarray:
    """Dice of each component's voxels above `threshold` with each template's above half its maximum."""
    inside = components > threshold
    network = templates > 0.5 * templates.max(axis=1, keepdims=True)
    shared = inside.astype(np.float64) @ network.T.astype(np.float64)
    sizes = inside.sum(axis=1)[:, None] + network.sum(axis=1)[None]
    return np.divide(2 * shared, sizes, out=np.zeros_like(shared), where=sizes > 0)


def one_to_one(correlation: np.ndarray) -> np.ndarray:
    """For each component the template it is assigned, -1 for none: the assignment of greatest total correlation."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-correlation)
    assigned = np.full(len(correlation), -1)
    assigned[rows] = columns
    return assigned


def network_templates(
    mask: np.ndarray, affine: np.ndarray, image: str | Path | None = None, labels: str | Path | None = None
) -> tuple[list[str], np.ndarray]:
    """Names and maps `(n_templates, n_voxels)` of the networks inside the mask.

    `image` is a 3D label image or a 4D image of one network a volume; None stands for the embedded table of the
    32 nodes of CONN's HCP-ICA atlas. Raises `InputError` for an image that is empty inside the mask.
    """
    if image is None:
        from restresponse.networks import network_maps

        names, maps = network_maps((mask.shape, affine))
        return list(names), np.asarray(maps).reshape(len(names), -1)[:, mask.ravel()].astype(np.float64)
    import nibabel as nib
    from nilearn.image import resample_img

    loaded = nib.load(image)
    if len(loaded.shape) == 4:
        volumes = np.asarray(loaded.dataobj, np.float32)
    else:
        values = np.asarray(loaded.dataobj)
        numbers = [value for value in np.unique(values) if value > 0]
        if not numbers:
            raise InputError(f"components.template {image} holds no label above 0; expected one number a network")
        volumes = np.stack([(values == value).astype(np.float32) for value in numbers], axis=-1)
    on_grid = resample_img(
        nib.Nifti1Image(volumes, loaded.affine),
        affine,
        mask.shape,
        interpolation="linear",
        force_resample=True,
        copy_header=True,
    )
    maps = np.asarray(on_grid.dataobj, np.float64)[mask].T
    names = Path(labels).read_text(encoding="utf-8").split("\n") if labels else []
    names = [name.strip() for name in names if name.strip()] or [f"network {n}" for n in range(1, len(maps) + 1)]
    if len(names) != len(maps):
        raise InputError(
            f"components.template_labels {labels} has {len(names)} names; {image} has {len(maps)} networks: give one name a line"
        )
    empty = [name for name, template in zip(names, maps, strict=True) if not template.max() > 0]
    if empty:
        raise InputError(
            f"components.template {image} is empty inside the group mask for {', '.join(empty)}; expected maps in MNI space"
        )
    return names, maps
