"""Where the maps of responders and non-responders differ, voxel by voxel, and everyone's amplitudes by group.

Descriptive: the labels of all participants are read, for the report alone, and no selection and no classifier reads what
is written here. A two-sample t of pooled variance in each voxel; its p is the share of label permutations whose largest
|t| over the component's voxels is as great. These are the t and the p of nilearn's `permuted_ols`; since t grows with the
correlation of map and label, a permutation costs one row of a matrix product.

References: Westfall & Young 1993 (max-T); Nichols & Holmes 2002; Phipson & Smyth 2010 (a p value is never 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.components.selection import direction_words
from restresponse.errors import InputError
from restresponse.files import read_array, read_table, write_image, write_table
from restresponse.images import read_mask
from restresponse.provenance import write_sidecar

COLUMNS = (
    "component", "peak_t", "x", "y", "z", "p_maxt", "p_maxt_all", "n_stronger", "n_weaker", "direction",
)  # fmt: skip
LEVEL = 0.05  # of max-T, below which a voxel counts
_BLOCK = 16384  # voxels at once at most; changes no number
_CELLS = 2**25  # of the largest array
_TIE = 1e-5  # correlations nearer than this are one value in float32


def permuted_contrasts(response: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Centred labels of unit norm, `(1 + permutations, n_participants)` float32: as they are, and permuted."""
    rng = np.random.default_rng([seed, 53])
    response = np.asarray(response, np.float64)
    centred = response - response.mean()
    shuffled = rng.permuted(np.tile(centred, (permutations, 1)), axis=1)
    return (np.vstack([centred, shuffled]) / np.linalg.norm(centred)).astype(np.float32)


def map_correlations(maps: Sequence[np.ndarray], contrasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of one component's maps with the labels, and the largest |correlation| of each permutation.

    Parameters
    ----------
    maps : one (n_voxels,) row a participant
    contrasts : (1 + permutations, n_participants) of `permuted_contrasts`

    Returns
    -------
    correlation : (n_voxels,) float32; 0 in a voxel without spread
    largest : (1 + permutations,) float32
    """
    n_voxels = len(maps[0])
    correlation, largest = np.zeros(n_voxels, np.float32), np.zeros(len(contrasts), np.float32)
    width = max(1, min(_BLOCK, _CELLS // max(len(contrasts), len(maps))))
    for start in range(0, n_voxels, width):
        block = np.stack([np.asarray(row[start : start + width], np.float64) for row in maps])
        block -= block.mean(axis=0)
        norm = np.linalg.norm(block, axis=0)
        unit = np.divide(block, norm, out=np.zeros_like(block), where=norm > 0).astype(np.float32)
        found = contrasts @ unit
        correlation[start : start + width] = found[0]
        np.abs(found, out=found)
        np.maximum(largest, found.max(axis=1), out=largest)
    return correlation, largest


def t_of(correlation: np.ndarray, n_participants: int) -> np.ndarray:
    """Two-sample t of pooled variance (responders less non-responders) from the correlation with the labels."""
    r = np.clip(np.asarray(correlation, np.float64), -1 + 1e-12, 1 - 1e-12)
    return r * np.sqrt((n_participants - 2) / (1 - r**2))


def exceedances(values: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """p of each |value|: the share of draws, the observed one among them, at least as great; NaN without permutations.

    Parameters
    ----------
    values : array of any shape
    largest : (1 + permutations,), the observed one first
    """
    if len(largest) < 2:
        return np.full(np.shape(values), np.nan)
    drawn = np.sort(largest[1:])
    as_great = len(drawn) - np.searchsorted(drawn, np.abs(values) - _TIE, side="left")
    return (1 + as_great) / (1 + len(drawn))


def write_group_maps(
    *,
    maps: Mapping[str, str | Path],
    labels: str | Path,
    mask: str | Path,
    amplitudes: str | Path,
    variability: str | Path,
    permutations: int,
    normalise: bool,
    seed: int,
    image: str | Path,
    p_image: str | Path,
    voxelwise: str | Path,
    groups: str | Path,
    sidecar: str | Path,
) -> None:
    """Test one cohort's maps voxel by voxel and join the amplitudes with the labels.

    Parameters
    ----------
    maps : maps of all components by participant; those without an included scan are left out
    labels : label table of everyone
    mask : of the maps
    amplitudes, variability : of `components.tables.measure_components`
    permutations : of the labels; 0: t alone, without p
    normalise : whether the time courses had unit variance when the maps were made
    image, p_image : 4D images to write, t and -log10 of p (max-T) of each component
    voxelwise, groups : tables to write, the peak of each component, and everyone's amplitudes by group
    """
    import pandas as pd

    inside, affine = read_mask(mask)
    known = read_table(labels).set_index("participant_id")["response"].astype(int)
    stored = {name: read_array(path) for name, path in maps.items() if name in known.index}
    names = [name for name in sorted(stored) if len(stored[name])]
    response = known.loc[names].to_numpy()
    if min((response == 1).sum(), (response == 0).sum()) < 2:
        raise InputError(
            f"the maps of {int((response == 1).sum())} responders and {int((response == 0).sum())} non-responders are to be "
            "compared; expected at least 2 of each: use more participants"
        )
    if stored[names[0]].shape[1] != inside.sum():
        raise InputError(
            f"{maps[names[0]]} has {stored[names[0]].shape[1]} voxels and {mask} {int(inside.sum())}; expected as many: "
            "remove results/dual_regression and run again"
        )
    contrasts = permuted_contrasts(response, permutations, seed)
    found = [
        map_correlations([stored[name][component] for name in names], contrasts)
        for component in range(len(stored[names[0]]))
    ]
    over_all = np.max([largest for _, largest in found], axis=0)
    places = np.argwhere(inside)
    rows, volumes, logs = [], [], []
    for number, (correlation, largest) in enumerate(found, start=1):
        p, t = exceedances(correlation, largest), t_of(correlation, len(names))
        peak = int(np.argmax(np.abs(correlation)))
        position = affine[:3, :3] @ places[peak] + affine[:3, 3]
        beyond = p < LEVEL
        rows.append(
            (number, t[peak], *position, p[peak], exceedances(correlation[peak], over_all), int((beyond & (t > 0)).sum()),
             int((beyond & (t < 0)).sum()), direction_words(t[[peak]], "map", normalise=normalise)[0])
        )  # fmt: skip
        volumes.append(_volume(t, inside))
        logs.append(_volume(-np.log10(np.where(np.isfinite(p), p, 1.0)), inside))
    write_image(image, np.stack(volumes, axis=-1), affine)
    write_image(p_image, np.stack(logs, axis=-1), affine)
    write_table(voxelwise, pd.DataFrame(rows, columns=list(COLUMNS)))
    write_table(groups, _groups(read_table(amplitudes), read_table(variability), known))
    write_sidecar(
        sidecar,
        fitted_on=names,
        labels_of=names,
        sources=[labels, amplitudes, variability],
        parameters={"permutations": permutations, "level": LEVEL, "normalise_time_courses": normalise},
        seed=seed,
        descriptive="labels of everyone; read by the report alone",
        n_responders=int((response == 1).sum()),
        n_nonresponders=int((response == 0).sum()),
    )


def _groups(amplitudes, variability, known):
    """One row a labelled participant and component: response, amplitude of the map and of the time course."""
    kept = amplitudes["participant_id"].isin(known.index)
    long = amplitudes[kept].melt("participant_id", var_name="component", value_name="map")
    other = variability.melt("participant_id", var_name="component", value_name="time_course")
    joined = long.merge(other, on=["participant_id", "component"])
    joined["component"] = joined["component"].str.removeprefix("component_").astype(int)
    joined.insert(1, "response", known.loc[joined["participant_id"]].to_numpy())
    return joined.sort_values(["component", "participant_id"])


def _volume(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    volume = np.zeros(inside.shape, np.float32)
    volume[inside] = values
    return volume
