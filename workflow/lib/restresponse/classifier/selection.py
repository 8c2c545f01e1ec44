"""Which components are an arm's channels: read from the fold's table, or chosen anew inside an inner fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restresponse.components.selection import group_test, select
from restresponse.errors import InputError
from restresponse.files import read_table


def read_selection(table: str | Path, threshold: float) -> np.ndarray:
    """Sorted indices (from 0) of the components that a table of stage `components` selects at p < `threshold`."""
    column = f"selected_p-{threshold}"
    rows = read_table(table, text_columns=("network", "direction"))
    if column not in rows:
        raise InputError(
            f"{table} has no column {column}; remove it and run again, so that it is made for this threshold"
        )
    selected = np.flatnonzero(rows[column].astype(str).str.lower() == "true")
    if not len(selected):
        raise InputError(
            f"{table} selects no component at p < {threshold}; expected at least one: make the table again"
        )
    return selected


@dataclass(frozen=True)
class Selector:
    """The selection of stage `components`, to be made again on other participants.

    Attributes
    ----------
    amplitudes : (n_participants, n_components), no labels in it
    threshold : of p
    allowed : (n_components,) bool, components that match a network, or None where any may be selected
    """

    amplitudes: np.ndarray
    threshold: float
    allowed: np.ndarray | None = None

    @classmethod
    def read(
        cls,
        amplitudes: str | Path,
        matches: str | Path,
        participants: Sequence[str],
        threshold: float,
        require_match: bool,
    ) -> Selector:
        """Read the amplitudes of `participants`, in that order; `matches` only where a match is required."""
        table = read_table(amplitudes).set_index("participant_id")
        missing = sorted(set(participants) - set(table.index))
        if missing:
            raise InputError(f"{amplitudes} has no row for {', '.join(missing)}; remove it and run again")
        allowed = None
        if require_match:
            matched = read_table(matches, text_columns=("network", "best_three"))["matched"]
            allowed = (matched.astype(str).str.lower() == "true").to_numpy()
        return cls(table.loc[list(participants)].to_numpy(np.float64), threshold, allowed)

    def on(self, positions: np.ndarray, response: np.ndarray) -> np.ndarray | None:
        """Components selected by the labels `response` of the participants at `positions`; None: too few for the test."""
        if min((response == 1).sum(), (response == 0).sum()) < 2:
            return None
        return select(group_test(self.amplitudes[positions], response)["p"], self.threshold, self.allowed)[0]
