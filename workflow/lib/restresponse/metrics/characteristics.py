"""The characteristics of the cohort by outcome group, as in the first table of a trial's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restresponse.files import read_json, read_table, write_table

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "characteristic", "level", "responders", "nonresponders", "test", "p", "missing_responders", "missing_nonresponders"
)  # fmt: skip
DISPLACEMENT = "mean_framewise_displacement"


def write_cohort_table(
    *,
    participants: str | Path,
    labels: str | Path,
    quality: Mapping[str, str | Path],
    inclusion: str | Path,
    characteristics: Sequence[str],
    cohort_table: str | Path,
) -> None:
    """Compare responders and non-responders who entered the classification.

    Parameters
    ----------
    participants : participants.tsv of stage `dataset`
    labels : table of participant_id and response of the labelled participants with an included scan
    quality : scan -> its quality measures (JSON)
    inclusion : table of scan, participant_id and included
    characteristics : columns of `participants` wanted; those that do not exist are named in the log and left out
    cohort_table : the table to write, with the columns of `COLUMNS`
    """
    import pandas as pd

    response = read_table(labels).set_index("participant_id")["response"].astype(int)
    table = read_table(participants).set_index("participant_id").reindex(response.index)
    absent = [name for name in characteristics if name not in table]
    if absent:
        print(f"participants.tsv has no column {', '.join(absent)}: left out of the table of the cohort")
    chosen = table[[name for name in characteristics if name in table]].copy()
    chosen["mean framewise displacement (mm)"] = mean_displacement(inclusion, quality).reindex(response.index)
    counts = {1: int((response == 1).sum()), 0: int((response == 0).sum())}
    rows = [("participants", None, f"{counts[1]}", f"{counts[0]}", None, np.nan, 0, 0)]
    for name in chosen:
        rows += compare(name, chosen[name], response)
    write_table(cohort_table, pd.DataFrame(rows, columns=list(COLUMNS)))


def mean_displacement(inclusion: str | Path, quality: Mapping[str, str | Path]) -> pandas.Series:
    """Mean framewise displacement (mm) of each participant over the included scans."""
    table = read_table(inclusion, text_columns=("scan", "participant_id", "reason"))
    kept = table[table["included"].astype(str).str.lower() == "true"].copy()
    kept["displacement"] = [_number(read_json(quality[scan]).get(DISPLACEMENT)) for scan in kept["scan"]]
    return kept.groupby("participant_id")["displacement"].mean()


def compare(name: str, values: pandas.Series, response: pandas.Series) -> list[tuple]:
    """Rows of one characteristic.

    Numbers: mean ± SD and Welch's t. Categories: n (%) of each level, Fisher's exact test with two levels, chi-squared
    with more. Missing values are left out and counted; a p that cannot be computed is NaN.
    """
    import pandas as pd

    groups = [values[response == 1], values[response == 0]]
    missing = [int(group.isna().sum()) for group in groups]
    known = [group.dropna() for group in groups]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        text = [_mean_and_deviation(group) for group in known]
        return [(name, None, *text, "Welch's t", _welch_p(*known), *missing)]
    levels = sorted({str(level) for group in known for level in group})
    table = np.array([[(group.astype(str) == level).sum() for level in levels] for group in known])
    p, test = _category_p(table)
    return [
        (name, level, *(f"{row[index]} ({_percent(row, index)})" for row in table), *((test, p, *missing) if not index else (None, np.nan, *missing)))
        for index, level in enumerate(levels)
    ]  # fmt: skip


def _welch_p(first: pandas.Series, second: pandas.Series) -> float:
    from scipy import stats

    if min(len(first), len(second)) < 2 or not first.var() + second.var():
        return float("nan")
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def _category_p(table: np.ndarray) -> tuple[float, str | None]:
    from scipy import stats

    if table.shape[1] < 2 or not np.all(table.sum(axis=1)):
        return float("nan"), None
    if table.shape[1] == 2:
        return float(stats.fisher_exact(table).pvalue), "Fisher's exact"
    return float(stats.chi2_contingency(table).pvalue), "chi-squared"


def _percent(row: np.ndarray, index: int) -> str:
    return f"{row[index] / row.sum():.0%}" if row.sum() else "n/a"


def _mean_and_deviation(group: pandas.Series) -> str:
    """Mean ± SD with two digits of the SD; a single value as it is."""
    if len(group) < 2:
        return f"{group.iloc[0]:g}" if len(group) else "n/a"
    deviation = group.std(ddof=1)
    digits = int(np.clip(1 - np.floor(np.log10(deviation)), 1, 4)) if deviation > 0 else 1
    return f"{group.mean():.{digits}f} ± {deviation:.{digits}f}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
