"""Tissue segmentation of a T1w image: pure and mixed voxels told apart by intensity and by the template's tissue maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from restresponse.engines import TISSUES, EngineFailure

_FLOOR = 0.01  # of every tissue's prior, so that a misplaced map cannot forbid a tissue
_SHARPNESS = 2.5  # power of the template's maps, which are blurred by the average over people
_TRUST = 4  # power of a map with which a voxel counts in the tissue's mean
_MIXED = ((2, 0), (0, 1))  # tissues that share voxels: CSF and GM, GM and WM
_FRACTIONS = (np.arange(8) + 0.5) / 8  # of the first of the two in a mixed voxel
_ODD = 0.01  # of voxels are of no tissue: vessels, dura, noise
_BINS = 512  # of intensity
_MOST = 200_000  # voxels that the intensities are estimated from


def template_priors(gm: np.ndarray, wm: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """Priors of the three tissues from the template's two; CSF is what of the brain is neither."""
    return {"GM": gm, "WM": wm, "CSF": np.clip(brain - gm - wm, 0, 1)}


def segment(values: np.ndarray, priors: Mapping[str, np.ndarray], iterations: int) -> dict[str, np.ndarray]:
    """Expected share of each tissue in each voxel of the brain.

    A voxel is of one tissue, or of two in unknown shares (Laidlaw et al. 1998, IEEE TMI 17:74): five classes. A Gaussian
    of intensity for each tissue, all of one SD, and the mean over shares of the Gaussians between two tissues for a
    mixture; mixed by spatial priors as in Ashburner & Friston (2005, NeuroImage 26:839), without bias field and
    deformation, which were estimated before. Two draws from a voxel's prior give the classes' priors. Without the
    mixtures, or with an SD of its own, the CSF's mean climbs half-way to grey matter's, for there are few voxels of fluid
    alone.

    Parameters
    ----------
    values : (n_voxels,) array, bias-corrected intensities inside the brain
    priors : dict of (n_voxels,) arrays, 0 to 1, for each of `TISSUES`; what they lack to 1 is shared out in proportion
    iterations : steps of expectation maximisation, at least 1

    Returns
    -------
    dict of (n_voxels,) float32 arrays that sum to 1

    Raises
    ------
    EngineFailure
        A tissue vanished, or white matter is not brighter than grey, and grey than CSF.
    """
    low, high = (float(edge) for edge in np.percentile(values, [0.1, 99.9]))
    if not high > low:
        raise EngineFailure("tissue segmentation found one intensity in the whole brain: look at the T1w and its mask")
    middles = np.linspace(low, high, _BINS)
    bins = np.clip((np.asarray(values, np.float32) - low) * ((_BINS - 1) / (high - low)) + 0.5, 0, _BINS - 1)
    bins = bins.astype(np.int16)
    share = np.stack([np.clip(priors[name], 0, 1).astype(np.float32) for name in TISSUES])
    share /= np.maximum(share.sum(axis=0), 1e-6)

    part = slice(None, None, max(1, values.size // _MOST))
    means, deviation = _intensities(middles, bins[part], share[:, part].astype(np.float64), iterations)
    order = dict(zip(TISSUES, means, strict=True))
    if not order["WM"] > order["GM"] > order["CSF"]:
        raise EngineFailure(
            f"tissue segmentation found mean intensities {', '.join(f'{k} {v:.3g}' for k, v in order.items())}; expected "
            "WM brighter than GM and GM than CSF: the image is not T1-weighted, or its registration to the template failed"
        )
    densities, fractions = _tables(middles, means, deviation)
    posterior = _class_priors(share)
    for row, density in zip(posterior, densities, strict=True):
        row *= density.astype(np.float32)[bins]
    posterior /= posterior.sum(axis=0)
    for row, fraction, (first, second) in zip(posterior[3:], fractions, _MIXED, strict=True):
        owned = row * fraction.astype(np.float32)[bins]
        posterior[first] += owned
        posterior[second] += row - owned
    return {name: posterior[index] for index, name in enumerate(TISSUES)}


def _intensities(middles: np.ndarray, bins: np.ndarray, share: np.ndarray, iterations: int) -> tuple[np.ndarray, float]:
    """Mean intensity of each pure tissue, and their SD, by expectation maximisation."""
    values, prior, trust = middles[bins], _class_priors(share), share**_TRUST
    weights = trust
    for step in range(iterations + 1):
        mass = weights.sum(axis=1)
        if not (mass > 1e-4 * values.size).all():
            raise EngineFailure(
                f"tissue segmentation lost {TISSUES[int(mass.argmin())]}: look at the T1w and its contrast"
            )
        means = weights @ values / mass
        variance = float((weights * (values - means[:, None]) ** 2).sum() / mass.sum())
        deviation = max(np.sqrt(variance), 0.01 * (middles[-1] - middles[0]))
        if step < iterations:
            posterior = _tables(middles, means, deviation)[0][:, bins] * prior
            weights = posterior[:3] / posterior.sum(axis=0) * trust
    return means, float(deviation)


def _class_priors(share: np.ndarray) -> np.ndarray:
    """Priors (5, n_voxels) of the pure classes and of the two mixtures from the shares (3, n_voxels) of `TISSUES`."""
    sharp = share**_SHARPNESS
    sharp /= np.maximum(sharp.sum(axis=0), 1e-6)
    sharp = (sharp + _FLOOR) / (1 + len(TISSUES) * _FLOOR)
    return np.concatenate([sharp**2, [2 * sharp[first] * sharp[second] for first, second in _MIXED]])


def _tables(middles: np.ndarray, means: np.ndarray, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """By intensity: each class's density (5, n_bins), and the expected share of a mixture's first tissue (2, n_bins)."""

    def gaussian(mean: float) -> np.ndarray:
        return np.exp(-0.5 * ((middles - mean) / deviation) ** 2)

    densities, fractions = [gaussian(mean) for mean in means], []
    for first, second in _MIXED:
        parts = np.stack([gaussian(part * means[first] + (1 - part) * means[second]) for part in _FRACTIONS])
        densities.append(parts.mean(axis=0))
        fractions.append(_FRACTIONS @ parts / np.maximum(parts.sum(axis=0), 1e-30))
    odd = _ODD * np.sqrt(2 * np.pi) * deviation / (middles[-1] - middles[0])
    return np.stack(densities) + odd, np.stack(fractions)
