"""The outcome: who is a responder, from a column that says so or from pain before and after treatment."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from restresponse.dataset.participants import is_included, is_missing, near_miss, read_participants, same_value
from restresponse.dataset.problems import Problems
from restresponse.errors import InputError
from restresponse.files import write_table

SCALE = 10.0  # the numeric rating goes from 0 to this


def labels(
    participants: Sequence[Mapping[str, str]], settings: Mapping[str, Any], included: Collection[str] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Label every participant inside the filter that has an outcome.

    Parameters
    ----------
    participants : rows of participants.tsv, all values text.
    settings : the section `dataset` of the config (`include` and `outcome` are read).
    included : who is inside the filter; None: told from `settings["include"]`.

    Returns
    -------
    rows : dicts of `participant_id`, `response` (1 responder, 0 non-responder) and `pain_change` (percent fall of pain, positive
        where pain fell; None where it is not known)
    problems : one sentence each; empty where the labels can be used
    """
    outcome, problems = settings["outcome"], Problems()
    columns = list(participants[0]) if participants else []
    by_label = outcome["label_column"] is not None
    computed = ["pain_before", "pain_after"] if outcome["change_column"] is None else ["change_column"]
    needed = ["label_column"] if by_label else computed
    for key in needed:
        if outcome[key] not in columns:
            remedy = (
                f"set dataset.outcome.{key}"
                if by_label
                else f"set dataset.outcome.{key}, or dataset.outcome.label_column where a column holds the outcome itself"
            )
            problems.add(
                f"dataset.outcome.{key}",
                f"no column {outcome[key]} in participants.tsv; found {', '.join(columns)}: {remedy}{near_miss(outcome[key], columns)}",
            )
    if problems.lines():
        return [], problems.lines()

    if included is None:
        included = {row["participant_id"] for row in participants if is_included(row, settings["include"])}
    rows = [_labelled(row, outcome, problems) for row in participants if row["participant_id"] in included]
    found = [row for row in rows if row is not None]
    if not found and not problems.lines():
        read = " and ".join(outcome[key] for key in needed)
        problems.add(
            "dataset.outcome",
            f"none of the {len(included)} participants inside dataset.include has a value in {read}; fill the column, or correct the filter",
        )
    return found, problems.lines()


def write_labels(participants: str | Path, settings: Mapping[str, Any], output: str | Path) -> None:
    """Write the table of labels from the table of participants that `write_tables` wrote.

    Raises
    ------
    InputError
        With every problem of the outcome.
    """
    import pandas as pd

    problems = Problems()
    rows = read_participants(participants, problems)
    found, listed = labels(rows, settings, {row["participant_id"] for row in rows if row["included"] == "True"})
    listed = [*problems.lines(), *listed]
    if listed:
        raise InputError.from_problems("The outcome cannot be used", listed)
    table = pd.DataFrame(found, columns=["participant_id", "response", "pain_change"])
    print(
        f"{len(table)} participants labelled: {int(table['response'].sum())} responders, {int((table['response'] == 0).sum())} non-responders"
    )
    write_table(output, table)


def _labelled(row: Mapping[str, str], outcome: Mapping[str, Any], problems: Problems) -> dict[str, Any] | None:
    participant = row["participant_id"]
    if outcome["label_column"] is None:
        change = change_of(row, outcome, problems)
        return (
            None
            if change is None
            else {
                "participant_id": participant,
                "response": int(is_response(change, outcome["threshold"])),
                "pain_change": change,
            }
        )
    cell = row[outcome["label_column"]]
    if is_missing(cell) and not any(
        same_value(cell, value) for value in outcome["responder_values"] + outcome["nonresponder_values"]
    ):
        return None
    meanings = [
        response
        for response, key in ((1, "responder_values"), (0, "nonresponder_values"))
        if any(same_value(cell, value) for value in outcome[key])
    ]
    if len(meanings) != 1:
        where = "in both responder_values and" if meanings else "in neither responder_values nor"
        problems.add(
            participant,
            f"{outcome['label_column']} is {cell!r}, {where} nonresponder_values; expected one of them: correct dataset.outcome or the cell",
        )
        return None
    stated = {outcome["change_column"]} if outcome["change_column"] else {outcome["pain_before"], outcome["pain_after"]}
    change = change_of(row, outcome, Problems()) if stated <= row.keys() else None  # beside the label: not needed
    return {"participant_id": participant, "response": meanings[0], "pain_change": change}


def change_of(row: Mapping[str, str], outcome: Mapping[str, Any], problems: Problems) -> float | None:
    """Fall of pain in percent of pain before, from the column that holds it or from pain before and after."""
    column = outcome["change_column"]
    if column is None:
        return pain_change(row, outcome["pain_before"], outcome["pain_after"], problems)
    cell = row[column].strip()
    if is_missing(cell):
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value > 100:
        problems.add(
            row["participant_id"],
            f"{column} is {cell!r}; expected the percent fall of pain, a number of at most 100 (negative where pain rose), or n/a",
        )
        return None
    return value


def pain_change(row: Mapping[str, str], before: str, after: str, problems: Problems) -> float | None:
    """Fall of pain in percent of pain before; None without an outcome or where a problem was added."""
    values = {}
    for column in (before, after):
        cell = row[column].strip()
        if is_missing(cell):
            continue
        try:
            values[column] = float(cell)
        except ValueError:
            hint = "; write the decimal point as a point" if "," in cell else ""
            problems.add(
                row["participant_id"], f"{column} is {cell!r}; expected a number from 0 to {SCALE:g}{hint}, or n/a"
            )
            continue
        if not math.isfinite(values[column]) or not 0 <= values[column] <= SCALE:
            problems.add(
                row["participant_id"],
                f"{column} is {cell}; expected a number from 0 to {SCALE:g} (a 0-100 scale must be divided by 10), or n/a",
            )
            del values[column]
        elif column == before and values[column] == 0:
            problems.add(
                row["participant_id"],
                f"{column} is 0, so that pain cannot fall; expected above 0: correct it, or write n/a to leave the participant unlabelled",
            )
            del values[column]
    if len(values) < 2:
        return None
    return 100.0 * (values[before] - values[after]) / values[before]


def is_response(change: float, threshold: float) -> bool:
    """Whether a fall of pain (percent) reaches the threshold; 6 to 4.2 is 30 % though floating point says 29.999999999999996."""
    return round(change, 9) >= threshold
