"""Who a cohort is: everyone, or everyone but the test participants of a fold. It reads no labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restresponse.errors import InputError
from restresponse.files import read_table


def cohort_members(participants: Sequence[str], cohort: str, folds: str | Path | None) -> list[str]:
    """Those of `participants` that a cohort is fitted on: all of them for `all`, else all but the fold's test participants.

    A participant without a label is in no fold's test part and so in every cohort.
    """
    if cohort == "all":
        return sorted(participants)
    table = read_table(folds)
    tested = set(table.loc[table["fold"] == cohort, "participant_id"])
    if not tested:
        raise InputError(
            f"{folds} has no fold {cohort!r}; it has {', '.join(sorted(table['fold'].unique()))}: run folds again"
        )
    return sorted(set(participants) - tested)
