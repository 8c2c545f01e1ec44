"""What the jobs of both kinds of model share: who is trained on, whose labels are read, what is written."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_table, write_table


@dataclass(frozen=True)
class Fold:
    """One outer fold, as far as its job may know it.

    Attributes
    ----------
    name : of the fold
    training, test : participants, sorted
    response : 1 or 0 of every participant whose label was read
    tests : test participants of every fold of the run, by fold
    """

    name: str
    training: list[str]
    test: list[str]
    response: dict[str, int]
    tests: dict[str, list[str]]

    @classmethod
    def read(cls, name: str, folds: str | Path, labels: str | Path, watched_labels: Sequence[str | Path] = ()) -> Fold:
        """Read the fold's participants and the label tables given, none else.

        Raises `InputError` where the fold's label table holds a test participant.
        """
        table = read_table(folds)
        tests = {fold: sorted(rows["participant_id"]) for fold, rows in table.groupby("fold")}
        if name not in tests:
            raise InputError(f"{folds} has no fold {name}; remove it and run again")
        own = _read_labels(labels)
        held_out = sorted(set(own) & set(tests[name]))
        if held_out:
            raise InputError(
                f"{labels} holds the labels of test participants {', '.join(held_out)}; expected training participants "
                "alone: remove results/folds and run again"
            )
        response = dict(own)
        for path in watched_labels:
            response |= _read_labels(path)
        return cls(name, sorted(own), tests[name], response, tests)

    def array(self, participants: Iterable[str]) -> np.ndarray:
        """Responses as an int array; -1 where the label was not read."""
        return np.array([self.response.get(participant, -1) for participant in participants], int)


def write_predictions(path: str | Path, participants: Sequence[str], scores: np.ndarray) -> None:
    """Write the probability of a responder of each test participant."""
    import pandas as pd

    if not np.all(np.isfinite(scores)):
        raise InputError("a prediction is not a finite number; expected probabilities: lower the model's learning_rate")
    write_table(path, pd.DataFrame({"participant_id": list(participants), "y_score": np.asarray(scores, float)}))


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read_labels(path: str | Path) -> dict[str, int]:
    table = read_table(path)
    found = dict(zip(table["participant_id"], table["response"], strict=True))
    wrong = sorted(participant for participant, value in found.items() if value not in (0, 1))
    if wrong:
        raise InputError(f"{path} has responses other than 1 and 0 for {', '.join(wrong)}; remove it and run again")
    return {participant: int(value) for participant, value in found.items()}
