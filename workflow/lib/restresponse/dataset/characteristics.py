"""What is known of each participant before treatment, for the baselines: never a column that defines the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_table, write_table

if TYPE_CHECKING:
    import pandas

PAIN = "pain_before"  # name of the column of pain before treatment, a baseline of its own
_OWN = ("participant_id", "included", "response", "pain_change")  # of this workflow's tables
_SAME = 0.999  # |rank correlation| with the outcome at which a column is it under another name


def refusals(columns: Sequence[str], outcome: Mapping[str, Any]) -> list[str]:
    """Why columns cannot be a clinical baseline, told from their names; one sentence each."""
    roles = {outcome["pain_after"]: "pain after treatment, which defines the outcome"}
    for key in ("label_column", "change_column"):
        if outcome[key] is not None:
            roles[outcome[key]] = "the outcome itself"
    roles |= dict.fromkeys(_OWN, "a column of this workflow's own tables")
    roles[outcome["pain_before"]] = "pain before treatment, which is a baseline of its own already"
    return [
        f"metrics.baselines: found {name}, {roles[name]}; expected columns known before treatment: take it out"
        for name in columns
        if name in roles
    ]


def write_characteristics(
    participants: str | Path, characteristics: str | Path, *, columns: Sequence[str], outcome: Mapping[str, Any]
) -> None:
    """Write participant_id, the named columns that exist, and pain before treatment where it is known.

    Parameters
    ----------
    participants : participants.tsv of stage `dataset`
    characteristics : the table to write
    columns : config `metrics.baselines`
    outcome : config `dataset.outcome`

    Raises
    ------
    InputError
        For a column that is the outcome, by its name or by its values.
    """
    import pandas as pd

    table = read_table(participants)
    problems = [*refusals(columns, outcome), *_disguised(table, columns, outcome)]
    if problems:
        raise InputError.from_problems("The clinical baseline cannot be used", problems)
    absent = [name for name in columns if name not in table]
    if absent:
        print(f"participants.tsv has no column {', '.join(absent)}: left out of the clinical baseline")
    kept = table[["participant_id", *(name for name in columns if name in table)]].copy()
    before = outcome["pain_before"]
    kept[PAIN] = pd.to_numeric(table[before], errors="coerce") if before in table else np.nan
    write_table(characteristics, kept)


def _disguised(table: pandas.DataFrame, columns: Sequence[str], outcome: Mapping[str, Any]) -> list[str]:
    """Columns that order the participants as pain after treatment, its change or the label does."""
    import pandas as pd

    numbers = {
        name: pd.to_numeric(table[outcome[name]], errors="coerce")
        for name in ("pain_before", "pain_after")
        if outcome[name] in table
    }
    wanted = {outcome["pain_after"]: numbers["pain_after"]} if "pain_after" in numbers else {}
    if len(numbers) == 2:
        wanted["the fall of pain"] = numbers["pain_before"] - numbers["pain_after"]
        wanted["the percent fall of pain"] = wanted["the fall of pain"] / numbers["pain_before"]
    if outcome["change_column"] in table:
        wanted[outcome["change_column"]] = pd.to_numeric(table[outcome["change_column"]], errors="coerce")
    if outcome["label_column"] in table:
        wanted[outcome["label_column"]] = pd.Series(pd.factorize(table[outcome["label_column"]])[0], dtype=float)
    found = []
    for name in columns:
        if name not in table:
            continue
        values = pd.to_numeric(table[name], errors="coerce")
        if values.isna().all():
            values = pd.Series(pd.factorize(table[name])[0], dtype=float).replace(-1, np.nan)
        same = [other for other, known in wanted.items() if _rank_correlation(values, known) >= _SAME]
        if same:
            found.append(
                f"metrics.baselines: {name} orders the participants as {same[0]} does; expected a column known before "
                "treatment: take it out"
            )
    return found


def _rank_correlation(values: pandas.Series, known: pandas.Series) -> float:
    """|Spearman's correlation| where both are known; 0 with fewer than five participants or no variation."""
    both = values.notna() & known.notna()
    if both.sum() < 5 or values[both].nunique() < 2 or known[both].nunique() < 2:
        return 0.0
    return abs(float(values[both].rank().corr(known[both].rank())))
