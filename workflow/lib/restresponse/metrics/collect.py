"""The predictions of every classification beside the truth, and the constant classifier beside every arm.

With `folds` this is the only place where true outcomes are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_table, write_table

if TYPE_CHECKING:
    import pandas

CONSTANT = "constant"
CLEAN = "clean"
BASELINE = "baseline"  # stands where the arm does; baselines are clean
COLUMNS = ("protocol", "arm", "model", "repeat", "fold", "participant_id", "response", "y_score")


def collect_predictions(
    *,
    files: Mapping[tuple[str, str, str, str], str | Path],
    folds: str | Path,
    labels: str | Path,
    training: Mapping[str, str | Path],
    predictions: str | Path,
    baselines: Mapping[str, str | Path] | None = None,
) -> None:
    """Join every fold's predictions with the true responses and add the constant classifier and the baselines.

    Parameters
    ----------
    files : (protocol, arm, model, fold) -> table of participant_id and y_score (0 to 1, of being a responder)
    folds : table of repeat, fold and participant_id: the test participants
    labels : table of participant_id and response, of every labelled participant
    training : fold -> label table of its training participants
    predictions : the table to write, with the columns of `COLUMNS`
    baselines : fold -> table of baseline, participant_id and y_score. A baseline that a fold lacks (a network that none of
        its components is named by) predicts the training share there.

    Raises
    ------
    InputError
        For a fold of one class, a prediction of someone who is not in the fold's test part or has no label, a
        participant predicted twice, and a score that is missing or outside 0 to 1. All problems are listed.
    """
    import pandas as pd

    truth = read_table(labels).set_index("participant_id")["response"].astype(int)
    tested = read_table(folds)
    problems = fold_problems(tested, truth)
    parts = []
    constants: set[tuple[str, str, str]] = set()
    for (protocol, arm, model, fold), path in files.items():
        if arm == BASELINE:
            raise InputError(f"classifier.arms: {BASELINE!r} is the name of the baselines; choose another")
        if model == CONSTANT:
            raise InputError(f"classifier.models: {CONSTANT!r} is the name of the constant classifier; choose another")
        table = read_table(path)
        members = tested[tested["fold"] == fold]
        found = prediction_problems(table, set(members["participant_id"]))
        if found:
            problems += [f"{path}: {problem}" for problem in found]
            continue
        facts = {"protocol": protocol, "arm": arm, "repeat": int(members["repeat"].iloc[0]), "fold": fold}
        parts.append(table[["participant_id", "y_score"]].assign(model=model, **facts))
        if (protocol, arm, fold) not in constants:
            constants.add((protocol, arm, fold))
            share = read_table(training[fold])["response"].mean()
            parts.append(table[["participant_id"]].assign(y_score=share, model=CONSTANT, **facts))
    problems += _add_baselines(parts, baselines or {}, tested, training)
    if problems:
        raise InputError.from_problems("the predictions cannot be scored", problems)
    everything = pd.concat(parts, ignore_index=True)
    everything["response"] = everything["participant_id"].map(truth).astype(int)
    order = {name: place for place, name in enumerate(dict.fromkeys(key[2] for key in files))} | {CONSTANT: len(files)}
    order |= {name: place for place, name in enumerate(sorted(set(everything["model"]) - set(order)), len(order))}
    arms = {name: place for place, name in enumerate(dict.fromkeys(key[:2] for key in files))}
    arms[CLEAN, BASELINE] = len(arms)
    everything["_arm"] = [arms[pair] for pair in zip(everything["protocol"], everything["arm"], strict=True)]
    everything["_model"] = everything["model"].map(order)
    everything = everything.sort_values(["_arm", "_model", "repeat", "fold", "participant_id"], kind="stable")
    write_table(predictions, everything[list(COLUMNS)])


def _add_baselines(
    parts: list[pandas.DataFrame],
    baselines: Mapping[str, str | Path],
    tested: pandas.DataFrame,
    training: Mapping[str, str | Path],
) -> list[str]:
    """Append each fold's baselines to `parts`; what is wrong with them is returned."""
    import pandas as pd

    problems = []
    tables = {fold: read_table(path, text_columns=("participant_id", "baseline")) for fold, path in baselines.items()}
    names = sorted({name for table in tables.values() for name in table["baseline"]})
    for fold, table in tables.items():
        members = tested[tested["fold"] == fold]
        facts = {"protocol": CLEAN, "arm": BASELINE, "repeat": int(members["repeat"].iloc[0]), "fold": fold}
        share = read_table(training[fold])["response"].mean()
        for name in names:
            part = table[table["baseline"] == name]
            if part.empty:
                part = pd.DataFrame({"participant_id": sorted(members["participant_id"]), "y_score": share})
            problems += [
                f"{baselines[fold]}, {name}: {text}"
                for text in prediction_problems(part, set(members["participant_id"]))
            ]
            parts.append(part[["participant_id", "y_score"]].assign(model=name, **facts))
    return problems


def fold_problems(tested: pandas.DataFrame, truth: pandas.Series) -> list[str]:
    """What makes the test parts unfit for an AUC: members without a label, folds of one class."""
    problems = []
    for fold, members in tested.groupby("fold")["participant_id"]:
        unknown = sorted(set(members) - set(truth.index))
        if unknown:
            problems.append(f"fold {fold} tests {', '.join(unknown)}, who have no label: run folds again")
            continue
        responders = int(truth.loc[members].sum())
        if responders in (0, len(members)):
            which = "responders" if responders else "non-responders"
            problems.append(
                f"fold {fold} holds {which} alone (n = {len(members)}); an AUC needs both classes: lower folds.n_folds"
            )
    return problems


def prediction_problems(table: pandas.DataFrame, members: set[str]) -> list[str]:
    """What is wrong with one fold's predictions, given its test participants."""
    problems = []
    foreign = sorted(set(table["participant_id"]) - members)
    if foreign:
        problems.append(f"predicts {', '.join(foreign)}, not test participants of this fold: run the classifier again")
    twice = sorted(set(table.loc[table["participant_id"].duplicated(), "participant_id"]))
    if twice:
        problems.append(f"predicts {', '.join(twice)} more than once: run the classifier again")
    scores = table["y_score"].to_numpy(np.float64)
    bad = sorted(table["participant_id"][~((scores >= 0) & (scores <= 1))])
    if bad:
        problems.append(
            f"y_score of {', '.join(bad)} is not within 0 to 1; did training diverge? lower its learning rate"
        )
    return problems
