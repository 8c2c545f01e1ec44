"""The leakage audit: from each prediction back through its model, selection and group ICA to who was seen by each fit.

A participant's own reduction, Gram blocks and dual regression are applications, not fits on others. Two things are held
against each other: what must be behind a prediction (`chain`), its lists recomputed from the inputs of the jobs and its
numbers from their files, and what is behind it by the sources on record (`walk`), which gives the path to each leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.metrics.certificate import write_certificate
from restresponse.metrics.chain import Baselines, Classification, Step, inner_participants, steps_of
from restresponse.metrics.evidence import Evidence, cohorts_in
from restresponse.metrics.inputs import inputs_problem
from restresponse.metrics.measured_chain import Measured, measured_steps
from restresponse.metrics.verdicts import CLEAN, DECLARED, VIOLATION
from restresponse.metrics.walk import Finding, entries, in_words, ways_back
from restresponse.plan import Plan

COLUMNS = ("protocol", "arm", "model", "fold", "check", "artefact", "verdict", "participants", "detail", "path")
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
    certificate: str | Path,
    baselines: Sequence[str] = (),
    measured: Sequence[str] = (),
) -> None:
    """Audit every classification of a results folder; write the table and the certificate.

    Parameters
    ----------
    results : the results folder, relative to the folder the jobs ran in
    classifications : (protocol, arm, model, fold) of each model
    protocols, arms, models : sections of the config
    order : number of components of the arms that name none, and of the baselines
    batches : batch -> its participants
    group_ica : `exact_limit` and `passes` of the config
    audit : the table to write, with the columns of `COLUMNS`
    certificate : the JSON file to write, see `write_certificate`
    baselines, measured : folds whose baselines and models of the percent fall of pain are audited too

    Raises
    ------
    InputError
        For any violation, after the table was written: path, participants and what to do. The rows are printed too.
    """
    import pandas as pd

    evidence = Evidence(results, batches, group_ica)
    tested = read_table(evidence.results / "folds/folds.tsv").groupby("fold")["participant_id"]
    folds = {fold: frozenset(participants) for fold, participants in tested}
    plan = Plan(sorted(folds), ["all", *sorted(folds)], [order], [], protocols, arms, models)
    rows, cases = [], []
    for protocol, arm, model, fold in classifications:
        if fold not in folds:
            raise InputError(f"{evidence.results}/folds/folds.tsv has no fold {fold}; remove it and run again")
        case = Classification(
            protocol,
            arm,
            model,
            fold,
            protocols[protocol],
            arms[arm],
            models[model]["kind"],
            plan.order_of(arm),
            folds,
            batches,
            bool(models[model].get("search")),
        )
        cases.append(case)
    cases += [Baselines.of(fold, order, folds, batches) for fold in baselines]
    cases += [Measured.of(fold, order, folds, batches, arms) for fold in measured]
    for case in cases:
        names = (case.protocol, case.arm, case.model, case.fold)
        ways = ways_back(evidence, evidence.results / case.folder / "model.json")
        for check, artefact, *found in [*follow(evidence, case, ways), *audit_one(evidence, case, plan)]:
            way = ways.get(Path(artefact))
            path = None if way is None else in_words(evidence.results / case.folder / "predictions.tsv", way)
            # A row of `follow` brings its own path: to a file that has no sidecar, or to a label table.
            rows.append((*names, check, artefact, *found, *([] if len(found) == 4 else [path])))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(audit, table)
    write_certificate(certificate, evidence, cases, table, audit)
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


def audit_one(evidence: Evidence, case: Classification, plan: Plan) -> Iterator[Row]:
    """Rows (check, artefact, verdict, participants, detail) of one classification."""
    folder = evidence.results / case.folder
    steps = measured_steps if isinstance(case, Measured) else steps_of
    for step in steps(evidence, case):
        yield from check_step(evidence, step, case.test)
    facts = evidence.sidecar(folder / "model.json")
    if not facts.problem:
        problem = inputs_problem(evidence, case, plan)
        yield "inputs", str(facts.path), VIOLATION if problem else CLEAN, None, problem
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


def follow(evidence: Evidence, case: Classification, ways: dict[Path, tuple[str, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows (check `path`, artefact, verdict, participants, detail, path): where test participants or labels enter.

    One row that says so, of the predictions, where they enter nowhere.
    """
    predictions = evidence.results / case.folder / "predictions.tsv"
    found = list(entries(evidence, ways, case.test))
    for finding in found:
        verdict = DECLARED if _is_declared(case, finding) else VIOLATION
        if finding.check == "sources":
            detail = "cannot be followed further, so that nothing is proved: no sidecar says on whom it was fitted"
        else:
            words = "test participants enter this fit" if finding.check == "fitted_on" else "test labels are read here"
            detail = f"{words}{', as the protocol declares' if verdict == DECLARED else '; the protocol allows none'}"
        path = in_words(predictions, finding.way)
        yield "path", str(finding.artefact), verdict, _listed(finding.participants), detail, path
    if not found:
        detail = f"{len(ways)} artefacts are behind it; no test participant was fitted on and no test label read in any"
        yield "path", str(predictions), CLEAN, None, detail, None


def _is_declared(case: Classification, finding: Finding) -> bool:
    """Whether the protocol lets test participants enter there."""
    if cohorts_in(finding.artefact) & set(case.views[1:]):
        return True  # the other folds of the repeat, on which a penalty is chosen
    if finding.check == "fitted_on":
        return finding.stage == "group_ica" and case.cohort == "all"
    if finding.check == "labels_of":
        return case.watches_reported_folds if finding.stage == "classifier" else case.selection_labels == "all"
    return False


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
        way = f"; {path}" if check == "path" and isinstance(path := part["path"].iloc[0], str) else ""
        yield f"{artefact}: {check}: {detail}{who}; reaches {', '.join(reached[:3])}{more}{way}"
