"""How well the components of each fold's cohort agree with those of everyone: for the report, read by no fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from restresponse.files import read_array, read_table, write_table

COLUMNS = ("component", "network", "mean_r", "least_r", "least_fold", "n_folds")


def match_components(reference: np.ndarray, components: np.ndarray) -> np.ndarray:
    """|Spatial correlation| of each reference map with the component it is assigned, one to one (Hungarian method).

    Parameters
    ----------
    reference, components : (n_components, n_voxels) arrays

    Returns
    -------
    (n_components,) float64, in the order of `reference`
    """
    from scipy.optimize import linear_sum_assignment

    def standardised(maps: np.ndarray) -> np.ndarray:
        centred = maps - maps.mean(axis=1, keepdims=True, dtype=np.float64)
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    correlation = np.abs(standardised(reference) @ standardised(components).T)
    rows, columns = linear_sum_assignment(-correlation)
    return correlation[rows, columns]


def write_stability(
    *, reference: str | Path, networks: str | Path, folds: Mapping[str, str | Path], component_stability: str | Path
) -> None:
    """Match each fold's components to those of everyone.

    Parameters
    ----------
    reference : components.npy of cohort `all`
    networks : table of component and network of cohort `all`
    folds : fold -> components.npy of its training participants
    component_stability : the table to write, with the columns of `COLUMNS`
    """
    import pandas as pd

    everyone = read_array(reference)
    correlation = np.stack([match_components(everyone, read_array(path)) for path in folds.values()])
    names = read_table(networks, text_columns=("network",))["network"]
    least = correlation.argmin(axis=0)
    write_table(
        component_stability,
        pd.DataFrame(
            {
                "component": np.arange(1, len(everyone) + 1),
                "network": names.to_numpy(),
                "mean_r": correlation.mean(axis=0),
                "least_r": correlation.min(axis=0),
                "least_fold": [list(folds)[index] for index in least],
                "n_folds": len(folds),
            }
        )[list(COLUMNS)],
    )
