"""Which components are an arm's channels: read from the fold's table, or chosen anew inside an inner fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restresponse.components.selection import group_test, group_tests, select
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

    def on_many(self, positions: Sequence[np.ndarray], responses: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """`on` for many sets of positions at once, each with labels of all participants `(n_participants,)`."""
        inside = np.zeros((len(positions), len(self.amplitudes)), bool)
        for row, members in zip(inside, positions, strict=True):
            row[members] = True
        labels = np.stack(responses)
        responders, others = inside & (labels == 1), inside & (labels == 0)
        enough = np.minimum(responders.sum(axis=1), others.sum(axis=1)) >= 2
        found: list[np.ndarray | None] = [None] * len(positions)
        tests = group_tests(self.amplitudes, responders[enough], others[enough])
        for index, p in zip(np.flatnonzero(enough), tests, strict=True):
            found[index] = select(p, self.threshold, self.allowed)[0]
        return found
