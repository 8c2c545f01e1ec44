"""The outer folds: participants dealt by response into folds, and for each fold the labels that its training may read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.plan import fold_names
from restresponse.provenance import write_sidecar

if TYPE_CHECKING:
    import pandas

_CLASSES = {1: "responders", 0: "non-responders"}


def eligible_participants(labels: pandas.DataFrame, inclusion: pandas.DataFrame) -> tuple[dict[str, int], list[str]]:
    """Participants with a label and at least one included scan, and why the other labelled ones are left out.

    Parameters
    ----------
    labels : pandas.DataFrame
        Columns participant_id and response (1 or 0).
    inclusion : pandas.DataFrame
        Columns scan, participant_id, included and reason.

    Returns
    -------
    responses : dict, participant_id to response, sorted by participant_id
    left_out : list of str, one sentence a participant
    """
    usable = inclusion["included"].astype(str).str.lower() == "true"
    with_scan = set(inclusion.loc[usable, "participant_id"])
    responses, left_out = {}, []
    for participant, response in sorted(zip(labels["participant_id"], labels["response"].astype(int), strict=True)):
        if participant in with_scan:
            responses[participant] = response
            continue
        scans = inclusion.loc[inclusion["participant_id"] == participant]
        reasons = [f"{scan}: {reason}" for scan, reason in zip(scans["scan"], scans["reason"], strict=True)]
        left_out.append(f"{participant} ({'; '.join(reasons) or 'no resting-state scan in the dataset'})")
    return responses, left_out


def assign_folds(
    responses: Mapping[str, int], n_folds: int, repeats: int, seed: int, seeds: int = 1
) -> pandas.DataFrame:
    """Deal participants into folds, stratified by response; each is tested once a repeat.

    Each class is shuffled and dealt in turn, the second class from where the first ended, so that neither the classes
    nor the sizes of two folds of a repeat differ by more than one. The order of `responses` changes nothing.

    Parameters
    ----------
    responses : mapping of participant_id to response (1 or 0)
    n_folds, repeats : int
    seed : int
        Split s draws from the seed sequence (seed, s), so that more repeats leave the first ones as they are.
    seeds : int
        Repeats in a row that have the same split, and differ by the seeds of their trainings alone.

    Returns
    -------
    pandas.DataFrame
        repeat (from 1), fold (`rep-1_fold-01`), participant_id: the test participants of each fold.

    Raises
    ------
    InputError
        A fold would lack a class; the message says the largest number of folds that works.
    """
    import pandas as pd

    members = {value: sorted(name for name, response in responses.items() if response == value) for value in _CLASSES}
    counts = " and ".join(f"{len(members[value])} {name}" for value, name in _CLASSES.items())
    rarest = min(len(names) for names in members.values())
    if rarest == 0:
        raise InputError(
            f"the participants are {counts}: one class only; expected both, in every fold: look at dataset.outcome (label "
            "column, values and threshold) and at results/quality/inclusion.tsv"
        )
    if rarest < n_folds:
        few = (
            f"fewer participants than the {n_folds} folds" if len(responses) < n_folds else "a fold would lack a class"
        )
        remedy = (
            f"set folds.n_folds to {rarest} or less" if rarest > 1 else "no number of folds works with one of a class"
        )
        raise InputError(
            f"{counts} cannot be dealt into {n_folds} folds: {few}; expected at least one of each class in the test part of "
            f"every fold: {remedy}"
        )
    names, rows = fold_names(n_folds, repeats), []
    for repeat in range(1, repeats + 1):
        random = np.random.default_rng(np.random.SeedSequence([seed, (repeat - 1) // seeds + 1]))
        shuffled = [members[value][place] for value in _CLASSES for place in random.permutation(len(members[value]))]
        for turn, participant in enumerate(shuffled):
            rows.append((repeat, names[(repeat - 1) * n_folds + turn % n_folds], participant))
    return pd.DataFrame(sorted(rows), columns=["repeat", "fold", "participant_id"])


def write_folds(
    labels: str | Path,
    inclusion: str | Path,
    folds: str | Path,
    label_tables: Iterable[str | Path],
    *,
    n_folds: int,
    repeats: int,
    seed: int,
    seeds: int = 1,
    outcome_tables: Iterable[str | Path] = (),
) -> None:
    """Write the table of folds and the label tables, each with its JSON sidecar beside it.

    Parameters
    ----------
    labels, inclusion : the tables of `dataset` and `quality`
    folds : TSV to write: repeat, fold, participant_id of the test participants
    label_tables : TSVs to write, participant_id and response. The one named `all` holds every eligible participant; one
        named as a fold holds that fold's training participants and no others.
    n_folds, repeats, seed, seeds : see `assign_folds`
    outcome_tables : TSVs to write, named as the label tables and of the same participants, those of them whose percent
        fall of pain is known: participant_id, response and pain_change

    Raises
    ------
    InputError
        Nobody is left, or `assign_folds` cannot deal the participants; whoever was left out is listed with the reason.
    """
    import pandas as pd

    known_outcomes = read_table(labels)
    responses, left_out = eligible_participants(
        known_outcomes, read_table(inclusion, text_columns=("scan", "participant_id", "reason"))
    )
    listed = InputError.from_problems("Labelled participants that were left out", left_out) if left_out else None
    if not responses:
        raise InputError(
            "no labelled participant has an included scan; expected at least one of each class in every fold: see "
            "results/quality/inclusion.tsv and config section quality. "
            + str(listed or "No participant has a label: see results/dataset/labels.tsv and dataset.outcome.")
        )
    try:
        table = assign_folds(responses, n_folds, repeats, seed, seeds)
    except InputError as error:
        raise InputError(f"{error}\n{listed}" if listed else str(error)) from None
    parameters = {"n_folds": n_folds, "repeats": repeats, "seeds": seeds, "left_out": left_out}
    write_table(folds, table)
    write_sidecar(
        Path(folds).with_suffix(".json"),
        labels_of=responses,
        sources=[labels, inclusion],
        parameters=parameters,
        seed=seed,
    )
    tested = {fold: set(part["participant_id"]) for fold, part in table.groupby("fold")}
    change = _changes(known_outcomes)
    for path, measured in [*((path, False) for path in label_tables), *((path, True) for path in outcome_tables)]:
        name = Path(path).stem
        known = [participant for participant in responses if name == "all" or participant not in tested[name]]
        columns = {"participant_id": known, "response": [responses[participant] for participant in known]}
        if measured:
            columns["pain_change"] = [change.get(participant, np.nan) for participant in known]
        rows = pd.DataFrame(columns).dropna()
        write_table(path, rows)
        write_sidecar(
            Path(path).with_suffix(".json"),
            labels_of=rows["participant_id"],
            sources=[labels, inclusion, folds],
            parameters=parameters,
            seed=seed,
        )


def _changes(labels: pandas.DataFrame) -> dict[str, float]:
    """Percent fall of pain of each participant of the table of labels of whom it is known."""
    if "pain_change" not in labels:
        return {}
    known = labels.dropna(subset="pain_change")
    return dict(zip(known["participant_id"], known["pain_change"].astype(float), strict=True))
