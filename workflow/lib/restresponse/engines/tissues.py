"""Tissue segmentation of a T1w image by expectation maximisation with the template's tissue maps as priors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from restresponse.engines import TISSUES, EngineFailure

_FLOOR = 0.01  # of every prior, so that a misplaced map cannot forbid a tissue


def template_priors(gm: np.ndarray, wm: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """Priors of the three tissues from the template's two; CSF is what of the brain is neither."""
    return {"GM": gm, "WM": wm, "CSF": np.clip(brain - gm - wm, 0, 1)}


def segment(values: np.ndarray, priors: Mapping[str, np.ndarray], iterations: int) -> dict[str, np.ndarray]:
    """Posterior probability of each tissue at each voxel of the brain.

    One Gaussian of intensity for each tissue, mixed by spatial priors (Ashburner & Friston 2005, NeuroImage 26:839,
    without bias field and deformation, which were estimated before). The template's maps leave some of every cortical
    voxel to CSF; so the priors are squared, and a voxel counts in a tissue's mean by its prior too. Without both, the
    CSF's mean climbs to half of grey matter's.

    Parameters
    ----------
    values : (n_voxels,) array, bias-corrected intensities inside the brain mask
    priors : dict of (n_voxels,) arrays, 0 to 1, for each of `TISSUES`
    iterations : int

    Returns
    -------
    dict of (n_voxels,) float32 arrays that sum to 1

    Raises
    ------
    EngineFailure
        A tissue vanished, or white matter is not brighter than grey, and grey than CSF.
    """
    values = np.asarray(values, np.float64)
    share = np.stack([np.clip(priors[name], 0, 1) for name in TISSUES])
    share /= np.maximum(share.sum(axis=0), 1e-6)
    prior = share**2 + _FLOOR
    prior /= prior.sum(axis=0)
    posterior = prior
    for _ in range(iterations):
        weights = posterior * share
        mass = weights.sum(axis=1)
        if not (mass > 1e-4 * values.size).all():
            raise EngineFailure(
                f"tissue segmentation lost {TISSUES[int(mass.argmin())]}: look at the T1w and its contrast"
            )
        means = weights @ values / mass
        variances = (weights * (values - means[:, None]) ** 2).sum(axis=1) / mass
        variances = np.maximum(variances, 1e-4 * values.var())
        density = np.exp(-0.5 * (values - means[:, None]) ** 2 / variances[:, None]) / np.sqrt(variances)[:, None]
        posterior = density * prior + 1e-12 * prior
        posterior /= posterior.sum(axis=0)
    order = dict(zip(TISSUES, means, strict=True))
    if not order["WM"] > order["GM"] > order["CSF"]:
        raise EngineFailure(
            f"tissue segmentation found mean intensities {', '.join(f'{k} {v:.3g}' for k, v in order.items())}; expected "
            "WM brighter than GM and GM than CSF: the image is not T1-weighted, or its registration to the template failed"
        )
    return {name: posterior[index].astype(np.float32) for index, name in enumerate(TISSUES)}
