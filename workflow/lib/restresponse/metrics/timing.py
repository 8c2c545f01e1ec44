"""Minutes a fold and peak memory of each arm and model, as the paper's comparison of computing time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from restresponse.files import read_json, write_table

COLUMNS = ("protocol", "arm", "model", "n_folds", "minutes_per_fold", "minutes_total", "peak_memory_gb", "n_parameters")


def write_timing(*, sidecars: Mapping[tuple[str, str, str, str], str | Path], timing: str | Path) -> None:
    """Summarise the folds of each (protocol, arm, model).

    Parameters
    ----------
    sidecars : (protocol, arm, model, fold) -> model.json: `seconds` of tuning and training, `peak_memory_mb` of the job
    timing : the table to write, with the columns of `COLUMNS`
    """
    import pandas as pd

    rows = []
    for key in dict.fromkeys(key[:3] for key in sidecars):
        folds = {fold: read_json(path) for (*other, fold), path in sidecars.items() if tuple(other) == key}
        minutes = np.array([facts["seconds"] / 60 for facts in folds.values()])
        peaks = [facts["peak_memory_mb"] / 1024 for facts in folds.values() if facts.get("peak_memory_mb") is not None]
        parameters = [facts["n_parameters"] for facts in folds.values() if facts.get("n_parameters") is not None]
        rows.append(
            (
                *key,
                len(folds),
                minutes.mean(),
                minutes.sum(),
                max(peaks, default=np.nan),
                max(parameters, default=np.nan),
            )
        )
    write_table(timing, pd.DataFrame(rows, columns=list(COLUMNS)))
