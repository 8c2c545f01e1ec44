"""How well the components of each fold's cohort agree with those of everyone: for the report, read by no fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from restresponse.components.match import one_to_one, spatial_correlation
from restresponse.files import read_array, read_table, write_table

COLUMNS = ("component", "network", "mean_r", "least_r", "least_fold", "same_network", "n_folds")


def align_components(reference: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which component each reference map is, one to one (Hungarian method on |spatial correlation|).

    Parameters
    ----------
    reference : (n_reference, n_voxels) array
    components : (n_components, n_voxels) array, of another cohort or another order

    Returns
    -------
    assigned : (n_reference,) int, index among `components`; -1 where these are too few
    correlation : (n_reference,) float64 with its sign, NaN where none is assigned, 0 of a map that is constant
    """
    correlation = spatial_correlation(reference, components)
    assigned = one_to_one(np.abs(correlation))
    found = np.where(assigned >= 0, correlation[np.arange(len(assigned)), assigned], np.nan)
    return assigned, found


def write_stability(
    *,
    reference: str | Path,
    networks: str | Path,
    folds: Mapping[str, str | Path],
    fold_networks: Mapping[str, str | Path],
    component_stability: str | Path,
) -> None:
    """Align each fold's components with those of everyone.

    Parameters
    ----------
    reference : components.npy of cohort `all`
    networks : table of component and network of cohort `all`
    folds : fold -> components.npy of its training participants
    fold_networks : fold -> table of component and network of its training participants
    component_stability : the table to write, with the columns of `COLUMNS`; `same_network` is the share of folds in which the
        aligned component bears the same network's name
    """
    import pandas as pd

    everyone, names = read_array(reference), _names(networks)
    correlation, same = np.zeros((len(folds), len(everyone))), np.zeros((len(folds), len(everyone)))
    for row, (fold, path) in enumerate(folds.items()):
        assigned, found = align_components(everyone, read_array(path))
        own = _names(fold_networks[fold])
        correlation[row] = np.nan_to_num(np.abs(found))
        same[row] = [
            index >= 0 and own[index] == name if isinstance(name, str) else np.nan
            for index, name in zip(assigned, names, strict=True)
        ]
    least = correlation.argmin(axis=0)
    write_table(
        component_stability,
        pd.DataFrame(
            {
                "component": np.arange(1, len(everyone) + 1),
                "network": names,
                "mean_r": correlation.mean(axis=0),
                "least_r": correlation.min(axis=0),
                "least_fold": [list(folds)[index] for index in least],
                "same_network": same.mean(axis=0),
                "n_folds": len(folds),
            }
        )[list(COLUMNS)],
    )


def _names(path: str | Path) -> list[str | float]:
    return read_table(path, text_columns=("network",))["network"].tolist()
