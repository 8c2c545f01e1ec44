"""Confounds of one scan: head motion, framewise displacement, DVARS, mean signals, aCompCor and slow cosines.

Columns carry the names of fMRIPrep's files, so that either table can take the other's place. Everything comes from the
image before smoothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.errors import InputError

if TYPE_CHECKING:
    import pandas

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS = 50.0  # mm, of the sphere on which Power et al. measure a rotation
_JENKINSON_RADIUS = 80.0  # mm, of the sphere over which FSL, and so fMRIPrep, averages a displacement
DVARS_SCALE = 1000.0  # the brain's median after scaling, so that DVARS compares between scans
HIGH_PASS = 128.0  # s, longest period that the cosine columns leave in, as in fMRIPrep and SPM
LEAST_VOXELS = 30  # of a tissue mask: three times the components taken from it
_THRESHOLDS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the fallback without erosion
_CHUNK = 20_000  # voxels at a time
_EARLY = 50  # volumes among which those before the steady state are looked for, as in fMRIPrep
_STEADY = 3.5  # modified z-score of a mean signal up to which it belongs to the steady state
_EXPANSIONS = (
    ("_derivative1_power2", "; first difference, squared"),
    ("_derivative1", "; first difference"),
    ("_power2", "; squared"),
)
_DESCRIPTIONS = {
    "framewise_displacement": (
        "sum of the absolute changes of the six parameters, rotations on a sphere of 50 mm (Power 2012)",
        "mm",
    ),
    "rmsd": (
        "root mean square, over a sphere of 80 mm, of the displacement from the volume before (Jenkinson 1999)",
        "mm",
    ),
    "dvars": (
        "root mean square over the brain of the change from the volume before, the brain's median scaled to 1000",
        "arbitrary",
    ),
    "std_dvars": ("DVARS over what the voxels' spread and autocorrelation predict: 1 in a quiet scan", "no unit"),
    "global_signal": ("mean of the brain", "arbitrary"),
    "white_matter": ("mean of the white-matter mask", "arbitrary"),
    "csf": ("mean of the cerebrospinal-fluid mask", "arbitrary"),
    "csf_wm": ("mean of the masks of cerebrospinal fluid and white matter together", "arbitrary"),
}


def eroded_tissue_masks(gm: np.ndarray, wm: np.ndarray, csf: np.ndarray, brain: np.ndarray) -> dict[str, Any]:
    """Masks of white matter and CSF, away from grey matter, for aCompCor.

    CONN's rule first: probability above 0.5, eroded by one voxel. Where a coarse grid leaves fewer than 30 voxels of
    that, voxels without erosion, of the highest probability that gives 30 (0.95 down to 0.5), none mostly grey matter.

    Parameters
    ----------
    gm, wm, csf : (n_x, n_y, n_z) arrays, probabilities 0 to 1
    brain : (n_x, n_y, n_z) bool array

    Returns
    -------
    dict
        `brain`, `WM` and `CSF`: (n_x, n_y, n_z) bool arrays; `done`: {tissue: a sentence on how its mask was made}.

    Raises
    ------
    InputError
        A tissue has no voxel above 0.5; the message names it.
    """
    from scipy import ndimage

    brain = np.asarray(brain, bool)
    masks: dict[str, Any] = {"brain": brain, "done": {}}
    for tissue, name, probability in (("WM", "white matter", wm), ("CSF", "cerebrospinal fluid", csf)):
        inside = np.where(brain, np.nan_to_num(probability), 0.0)
        candidates = [("probability above 0.5, eroded by one voxel", ndimage.binary_erosion(inside > 0.5))]
        for threshold in _THRESHOLDS:
            how = f"probability above {threshold}, not eroded (erosion left {candidates[0][1].sum()} voxels)"
            candidates.append((how, (inside > threshold) & (np.nan_to_num(gm) < 0.5)))
        enough = [candidate for candidate in candidates if candidate[1].sum() >= LEAST_VOXELS]
        how, mask = enough[0] if enough else candidates[-1]
        if not mask.any():
            raise InputError(
                f"no {name} found: no voxel of the brain has a {tissue} probability above 0.5 (greatest "
                f"{inside.max():.2f}); expected a tissue map with white matter and ventricles: look at the T1w's "
                "segmentation and at the brain mask"
            )
        masks[tissue] = mask
        masks["done"][tissue] = f"{name}: {how}, {int(mask.sum())} voxels"
    return masks


def volumes_before_steady_state(raw: np.ndarray) -> int:
    """How many volumes at the start of a raw scan (n_x, n_y, n_z, n_scans) the magnetisation was not yet steady in.

    fMRIPrep's rule: the volumes in a row from the first on whose mean signal is an outlier among the first 50, by a
    modified z-score above 3.5 (Iglewicz & Hoaglin 1993, How to detect and handle outliers, ASQC).
    """
    means = np.array([raw[..., volume].mean(dtype=np.float64) for volume in range(min(_EARLY, raw.shape[3]))])
    away = np.abs(means - np.median(means))
    outlying = 0.6745 * away > _STEADY * np.median(away)
    return 0 if outlying.all() else int(outlying.argmin())


def confounds(
    image: np.ndarray,
    affine: np.ndarray,
    repetition_time: float,
    motion: np.ndarray,
    masks: Mapping[str, np.ndarray],
    n_components: int = 10,
    not_steady: int = 0,
) -> pandas.DataFrame:
    """Confounds of one scan, one row a volume, missing (NaN) where a first difference has no predecessor.

    Parameters
    ----------
    image : (n_x, n_y, n_z, n_scans) array, float32
        The realigned image on the MNI grid, before smoothing. Voxels that are constant or not finite are left out.
    affine : (4, 4) array, voxel index to mm
    repetition_time : float, s
    motion : (n_scans, 6) array
        Translations along x, y, z in mm, then rotations about x, y, z in rad.
    masks : dict of (n_x, n_y, n_z) bool arrays
        `brain`, `WM` and `CSF` (eroded), see `eroded_tissue_masks`.
    n_components : int
        aCompCor components of each tissue; fewer come back where the mask's rank is lower.
    not_steady : int
        Volumes at the start of the scan before the steady state, see `volumes_before_steady_state`.

    Returns
    -------
    pandas.DataFrame
        The six motion parameters, `global_signal`, `white_matter` and `csf`, each with `_derivative1`, `_power2` and
        `_derivative1_power2`; `framewise_displacement` (mm), `dvars` (of the image scaled to a brain median of 1000),
        `std_dvars`, `rmsd` (mm), `csf_wm`; `w_comp_cor_00` .., `c_comp_cor_00` .. and, of both masks together, `a_comp_cor_00` .. (unit norm;
        the largest loading is positive); `cosine00` .. (unit norm, periods above 128 s); `non_steady_state_outlier00` .. (1 at its volume). Its `attrs["components"]` has
        the singular value and the share of variance of each component, for `column_facts`.

    Raises
    ------
    InputError
        Shapes disagree, or a mask holds no voxel whose signal varies; the message names it.

    References
    ----------
    Power et al. (2012), NeuroImage 59:2142 (framewise displacement, DVARS). Behzadi et al. (2007), NeuroImage 37:90
    (aCompCor). Nichols (2017), arXiv:1704.01469 (standardised DVARS).
    """
    import pandas as pd

    image, motion = np.asarray(image), np.asarray(motion, np.float64)
    if image.ndim != 4 or motion.shape != (image.shape[-1], 6):
        raise InputError(
            f"the image is {image.shape} and the motion table {motion.shape}; expected a 4D image and six motion "
            "parameters for each volume: look at the realignment's output"
        )
    columns: dict[str, np.ndarray] = {}
    for name, values in zip(MOTION, motion.T, strict=True):
        columns |= _expanded(name, values)
    columns["framewise_displacement"] = framewise_displacement(motion)
    columns["rmsd"] = root_mean_square_displacement(motion)
    brain = _varying(image, masks["brain"], "brain")
    columns["dvars"], columns["std_dvars"] = dvars(brain)
    columns |= _expanded("global_signal", brain.mean(axis=0, dtype=np.float64))
    del brain
    grams, variance, total, voxels = {}, {}, 0.0, 0
    for tissue, name in (("WM", "white_matter"), ("CSF", "csf")):
        series = _varying(image, masks[tissue], tissue)
        columns |= _expanded(name, series.mean(axis=0, dtype=np.float64))
        grams[tissue] = _gram(series)
        total, voxels = total + columns[name] * len(series), voxels + len(series)
    columns["csf_wm"] = total / voxels
    grams["combined"] = grams["WM"] + grams["CSF"]  # the masks share no voxel
    for mask, prefix in (("WM", "w_comp_cor"), ("CSF", "c_comp_cor"), ("combined", "a_comp_cor")):
        components, values, shares = _leading(grams[mask], n_components)
        for number, component in enumerate(components):
            columns[f"{prefix}_{number:02d}"] = component
            variance[f"{prefix}_{number:02d}"] = {
                "Method": "aCompCor",
                "Mask": mask,
                "Retained": True,
                "SingularValue": float(values[number]),
                "VarianceExplained": float(shares[number]),
                "CumulativeVarianceExplained": float(shares[: number + 1].sum()),
            }
    columns |= {f"cosine{number:02d}": wave for number, wave in enumerate(slow_cosines(len(motion), repetition_time))}
    columns |= {f"non_steady_state_outlier{first:02d}": np.eye(1, len(motion), first)[0] for first in range(not_steady)}
    table = pd.DataFrame(columns)
    table.attrs["components"] = variance
    return table


def column_facts(table: pandas.DataFrame, masks: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What each column of `confounds` is, as the JSON beside a BIDS-derivatives table has it.

    `Description` and `Units`; of means `Method`; of components fMRIPrep's `Method`, `Mask` (WM, CSF or combined),
    `Retained`, `SingularValue`, `VarianceExplained` and `CumulativeVarianceExplained`. `masks` has a sentence for `WM` and
    `CSF` on how each mask was made.
    """
    return {name: _facts(name, table, masks) for name in table.columns}


def slow_cosines(n_scans: int, repetition_time: float) -> np.ndarray:
    """Discrete cosines with periods above 128 s: (n, n_scans), orthonormal rows, slowest first."""
    number = np.arange(1, n_scans)
    number = number[number / (2 * n_scans * repetition_time) < 1 / HIGH_PASS]
    return np.cos(np.pi * np.outer(number, np.arange(n_scans) + 0.5) / n_scans) * np.sqrt(2 / n_scans)


def framewise_displacement(motion: np.ndarray) -> np.ndarray:
    """Power's framewise displacement in mm: the sum of the six absolute changes, rotations on a 50 mm sphere.

    `motion` is (n_scans, 6), mm and rad. Returns (n_scans,), the first NaN.
    """
    changes = np.abs(np.diff(np.asarray(motion, np.float64), axis=0))
    return np.concatenate([[np.nan], changes[:, :3].sum(axis=1) + HEAD_RADIUS * changes[:, 3:].sum(axis=1)])


def root_mean_square_displacement(motion: np.ndarray) -> np.ndarray:
    """Root mean square over a sphere of 80 mm about the grid's centre of each volume's displacement from the one before, mm.

    `motion` is (n_scans, 6), mm and rad, about that centre. Returns (n_scans,), the first NaN (Jenkinson 1999, FMRIB
    technical report TR99MJ1).
    """
    from restresponse.engines.motion import matrices_of

    matrices = matrices_of(np.asarray(motion, np.float64), np.zeros(3))
    change = (matrices[1:] @ np.linalg.inv(matrices[:-1]) - np.eye(4))[:, :3]
    turned = (change[:, :, :3] ** 2).sum(axis=(1, 2)) * _JENKINSON_RADIUS**2 / 5
    return np.concatenate([[np.nan], np.sqrt(turned + (change[:, :, 3] ** 2).sum(axis=1))])


def dvars(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DVARS and standardised DVARS of (n_voxels, n_scans) series; each is (n_scans,), the first NaN.

    DVARS is the root mean square over voxels of the change from the volume before, after scaling the image to a median
    of 1000. The standardised one divides it by what the voxels' robust SD and lag-1 autocorrelation predict: 1 for a
    quiet scan.
    """
    n_voxels, n_scans = series.shape
    median = float(np.median(series))
    squares, predicted = np.zeros(n_scans - 1), 0.0
    for start in range(0, n_voxels, _CHUNK):
        part = np.asarray(series[start : start + _CHUNK], np.float64)
        squares += (np.diff(part, axis=1) ** 2).sum(axis=0)
        lower, upper = np.percentile(part, [25, 75], axis=1)
        part = part - part.mean(axis=1, keepdims=True)
        autocorrelation = (part[:, 1:] * part[:, :-1]).sum(axis=1) / (part**2).sum(axis=1)
        predicted += float((np.sqrt(2 * (1 - autocorrelation)) * (upper - lower) / 1.349).sum())
    root = np.sqrt(squares / n_voxels)
    scale = DVARS_SCALE / median if median > 0 else np.nan
    standard = root * n_voxels / predicted if predicted > 0 else np.full(n_scans - 1, np.nan)
    return np.concatenate([[np.nan], root * scale]), np.concatenate([[np.nan], standard])


def principal_components(series: np.ndarray, n_components: int) -> np.ndarray:
    """Principal components in time of detrended, variance-normalised series: (n_found, n_scans), orthonormal rows.

    `series` is (n_voxels, n_scans). `n_found` is the least of `n_components` and the rank. The sign makes the largest
    loading positive.
    """
    return _leading(_gram(series), n_components)[0]


def _gram(series: np.ndarray) -> np.ndarray:
    """Products (n_scans, n_scans) of the detrended series of unit norm, summed over voxels."""
    n_voxels, n_scans = series.shape
    trend = np.linalg.qr(np.column_stack([np.ones(n_scans), np.linspace(-1, 1, n_scans)]))[0]
    gram = np.zeros((n_scans, n_scans))
    for start in range(0, n_voxels, _CHUNK):
        part = np.asarray(series[start : start + _CHUNK], np.float64)
        size = np.abs(part).max(axis=1)
        part = part - (part @ trend) @ trend.T
        norm = np.sqrt((part**2).sum(axis=1))
        part = part[norm > 1e-6 * size] / norm[norm > 1e-6 * size, None]  # what is left of a straight line is rounding
        gram += part.T @ part
    return gram


def _leading(gram: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leading eigenvectors (n_found, n_scans) of a Gram matrix, their singular values and shares of the variance."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    found = int(min(n_components, (values > 1e-10 * max(values[0], 1e-300)).sum()))
    components = vectors[:, :found].T.copy()
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(found), largest])[:, None]
    return components, np.sqrt(values[:found]), values[:found] / max(values.sum(), 1e-300)


def _expanded(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """A column with its first difference and the squares of both."""
    difference = _difference(values)
    return {
        name: values,
        f"{name}_derivative1": difference,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": difference**2,
    }


def _facts(name: str, table: pandas.DataFrame, masks: Mapping[str, str]) -> dict[str, Any]:
    stem, ending = name, ""
    for suffix, words in _EXPANSIONS:
        if name.endswith(suffix):
            stem, ending = name.removesuffix(suffix), words
            break
    if stem.startswith("trans"):
        text, unit = "translation of the grid's centre, RAS axes", "mm"
    elif stem.startswith("rot"):
        text, unit = "rotation about the grid's centre, right-handed about the RAS axis, R = R_z R_y R_x", "rad"
    elif "_comp_cor_" in stem:
        tissues = {"w": ("WM",), "c": ("CSF",), "a": ("WM", "CSF")}[stem[0]]
        text = "principal component of detrended, variance-normalised voxels; " + "; ".join(
            masks.get(tissue, tissue) for tissue in tissues
        )
        unit = "arbitrary"
    elif stem.startswith("cosine"):
        period = f"2/{int(stem.removeprefix('cosine')) + 1}"
        text, unit = (
            f"discrete cosine with a period of {period} of the scan's length (above {HIGH_PASS:g} s)",
            "arbitrary",
        )
    elif stem.startswith("non_steady_state_outlier"):
        volume = int(np.argmax(table[name]))
        text, unit = f"1 at volume {volume} (from 0), which is before the steady state, 0 elsewhere", "no unit"
    else:
        text, unit = _DESCRIPTIONS.get(stem, (stem.replace("_", " "), "arbitrary"))
    facts: dict[str, Any] = {"Description": text + ending, "Units": f"{unit}^2" if "squared" in ending else unit}
    if name in ("global_signal", "white_matter", "csf", "csf_wm"):
        facts["Method"] = "Mean"
    return facts | table.attrs.get("components", {}).get(name, {})


def _difference(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[np.nan], np.diff(values)])


def _varying(image: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """The series (n_voxels, n_scans) of the mask's voxels that are finite and not constant."""
    series = image[np.asarray(mask, bool)]
    smallest, largest = series.min(axis=1), series.max(axis=1)
    varying = np.isfinite(smallest) & np.isfinite(largest) & (largest > smallest)
    if not varying.any():
        raise InputError(
            f"no voxel of the {name} mask has a signal that varies ({len(series)} voxels looked at); expected a BOLD "
            "image that covers the brain: look at the scan, its coregistration and its field of view"
        )
    return series if varying.all() else series[varying]
