"""The leakage audit: from each prediction back through its model, selection and group ICA to who was seen by each fit.

A participant's own reduction, Gram blocks and dual regression are applications, not fits on others. The lists of the
sidecars are checked against the folds, against the files that were read, and against numbers recomputed from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.metrics.chain import Classification, Step, baseline_steps, inner_participants, steps_of
from restresponse.metrics.collect import BASELINE
from restresponse.metrics.evidence import Evidence

CLEAN, DECLARED, VIOLATION = "clean", "leak as declared", "VIOLATION"
COLUMNS = ("protocol", "arm", "model", "fold", "check", "artefact", "verdict", "participants", "detail")
Row = tuple[str, str, str, str | None, str | None]


def audit_run(
    *,
    results: str | Path,
    classifications: Sequence[tuple[str, str, str, str]],
    protocols: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    order: int,
    batches: Mapping[str, Sequence[str]],
    group_ica: Mapping[str, Any],
    audit: str | Path,
    baselines: Sequence[str] = (),
) -> None:
    """Audit every classification of a results folder and write the table.

    Parameters
    ----------
    results : the results folder, relative to the folder the jobs ran in
    classifications : (protocol, arm, model, fold) of each model
    protocols, arms, models : sections of the config
    order : number of components
    batches : batch -> its participants
    group_ica : `exact_limit` and `passes` of the config
    audit : the table to write, with the columns of `COLUMNS`
    baselines : folds whose baselines are audited too

    Raises
    ------
    InputError
        For any violation, after the table was written: path, participants and what to do. The rows are printed too.
    """
    import pandas as pd

    evidence = Evidence(results, batches, group_ica)
    tested = read_table(evidence.results / "folds/folds.tsv").groupby("fold")["participant_id"]
    folds = {fold: frozenset(participants) for fold, participants in tested}
    rows = []
    for protocol, arm, model, fold in classifications:
        if fold not in folds:
            raise InputError(f"{evidence.results}/folds/folds.tsv has no fold {fold}; remove it and run again")
        case = Classification(
            protocol, arm, model, fold, protocols[protocol], arms[arm], models[model]["kind"], order, folds, batches
        )
        rows += [(protocol, arm, model, fold, *row) for row in audit_one(evidence, case)]
    for fold in baselines:
        rows += [(CLEAN, BASELINE, "all", fold, *row) for row in audit_baselines(evidence, fold, folds[fold], order)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(audit, table)
    counts = table["verdict"].value_counts()
    print("audit: " + ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in (CLEAN, DECLARED, VIOLATION)))
    violations = table[table["verdict"] == VIOLATION]
    if len(violations):
        print(violations.to_csv(sep="\t", index=False, na_rep="n/a"))
        raise InputError.from_problems(
            "the leakage audit failed; remove each artefact named here with its sidecar and run again "
            "(sidecars are written by the jobs and never edited)",
            _stated(violations),
        )


def audit_one(evidence: Evidence, case: Classification) -> Iterator[Row]:
    """Rows (check, artefact, verdict, participants, detail) of one classification."""
    folder = evidence.results / case.folder
    for step in steps_of(evidence, case):
        yield from check_step(evidence, step, case.test)
    facts = evidence.sidecar(folder / "model.json")
    if not facts.problem:
        surplus = inner_participants(facts.content.get("inner_folds") or []) - facts.participants("fitted_on")
        yield _row("inner folds", facts.path, surplus, "inner folds hold participants who are not trained on")
    predictions = folder / "predictions.tsv"
    if not predictions.is_file():
        yield "predictions", str(predictions), VIOLATION, None, "the predictions are missing"
        return
    predicted = evidence.members_of_table(predictions)
    odd = predicted ^ (case.test - facts.participants("left_out"))
    odd |= predicted ^ facts.participants("applied_to")
    yield _row("predictions", predictions, odd, "predicted, tested and on record (applied_to, left_out) disagree")


def audit_baselines(evidence: Evidence, fold: str, test: frozenset[str], order: int) -> Iterator[Row]:
    """Rows of one fold's baselines: fitted on its training participants, on the amplitudes of its own cohort."""
    for step in baseline_steps(evidence, fold, test, order):
        yield from check_step(evidence, step, test)
    folder = evidence.results / f"classifier/baselines/{fold}"
    predicted = evidence.members_of_table(folder / "predictions.tsv")
    odd = (predicted ^ test) | (predicted ^ evidence.sidecar(folder / "model.json").participants("applied_to"))
    yield _row("predictions", folder / "predictions.tsv", odd, "predicted, tested and on record (applied_to) disagree")


def check_step(evidence: Evidence, step: Step, test: frozenset[str]) -> Iterator[Row]:
    """Rows of one artefact: its sidecar, whom it was fitted on, whose labels it read, its sources, its numbers."""
    path, sidecar = step.sidecar, evidence.sidecar(step.sidecar)
    if sidecar.problem:
        yield "sidecar", str(path), VIOLATION, None, sidecar.problem
        return
    yield _seen("fitted_on", path, sidecar.participants("fitted_on"), step.fit, step.fit, test, step.may_fit_on_test)
    read = sidecar.participants("labels_of")
    yield _seen("labels_of", path, read, step.labels, step.labels_at_most, test, step.may_read_test_labels)
    if not step.may_read_test_labels:
        hidden = (evidence.labels_read(path) & test) - read
        yield _row("label tables read", path, hidden, "a label table among its sources holds test participants")
    cohorts = evidence.cohorts_read(path)
    problems = [
        *evidence.source_problems(path),
        *(f"reads files of cohort {name}" for name in sorted(cohorts - step.cohorts)),
        *(f"reads the label table {name}" for name in sorted(evidence.tables_read(path) - step.tables)),
        *(f"names no file of cohort {name}" for name in sorted(step.needed - cohorts)),
    ]
    yield "sources", str(path), VIOLATION if problems else CLEAN, None, "; ".join(problems) or None
    if step.recomputed is not None:
        yield "recomputed", str(path), VIOLATION if step.recomputed else CLEAN, None, step.recomputed or None


def _seen(
    check: str,
    path: Path,
    claimed: frozenset[str],
    least: frozenset[str],
    most: frozenset[str],
    test: frozenset[str],
    allowed: bool,
) -> Row:
    visible, surplus, lacking = claimed & test, claimed - most, least - claimed
    if visible and not allowed:
        return check, str(path), VIOLATION, _listed(visible), "test participants were seen; the protocol allows none"
    if surplus or lacking:
        found = [f"{word}: {_listed(group)}" for word, group in (("too many", surplus), ("lacking", lacking)) if group]
        return check, str(path), VIOLATION, _listed(surplus | lacking), "; ".join(found)
    return check, str(path), DECLARED if visible else CLEAN, _listed(visible), None


def _row(check: str, path: Path, odd: frozenset[str], problem: str) -> Row:
    """A row that is a violation where there are `odd` participants."""
    return check, str(path), VIOLATION if odd else CLEAN, _listed(odd), problem if odd else None


def _listed(participants: frozenset[str]) -> str | None:
    return ", ".join(sorted(participants)) or None


def _stated(violations: Any) -> Iterator[str]:
    """One sentence for each artefact and finding, with the classifications it reaches."""
    groups = violations.groupby(["artefact", "check", "detail", "participants"], sort=False, dropna=False)
    for (artefact, check, detail, participants), part in groups:
        reached = list(dict.fromkeys(f"{row.protocol}/{row.arm}/{row.model}/{row.fold}" for row in part.itertuples()))
        more = f" and {len(reached) - 3} more" if len(reached) > 3 else ""
        who = f" ({participants})" if isinstance(participants, str) else ""
        yield f"{artefact}: {check}: {detail}{who}; reaches {', '.join(reached[:3])}{more}"
