"""The certificate of the audit: what was proved of which predictions, made from which inputs, by which code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restresponse.code import code_of
from restresponse.files import digest_of, write_json
from restresponse.metrics.chain import Classification
from restresponse.metrics.evidence import Evidence
from restresponse.metrics.verdicts import CLEAN, DECLARED, VIOLATION
from restresponse.metrics.walk import leaves, ways_back
from restresponse.provenance import versions

if TYPE_CHECKING:
    import pandas

STATEMENTS = {
    CLEAN: "proved: no test participant and no test label reached the fit",
    DECLARED: "test participants or test labels reached the fit where the protocol declares it, and nowhere else",
    VIOLATION: "refuted: the audit found a violation",
}
_STAGES = ("folds", "group_ica", "dual_regression", "components", "classifier", "metrics")


def write_certificate(
    path: str | Path, evidence: Evidence, cases: Sequence[Classification], table: pandas.DataFrame, audit: str | Path
) -> None:
    """Write the certificate: the same bytes for the same results, whoever runs it and when.

    Parameters
    ----------
    path : of the JSON file
    evidence : of the results folder
    cases : the classifications that were audited
    table : the rows of `audit.tsv`
    audit : its path
    """
    inputs: dict[str, str] = {}
    artefacts: set[Path] = set()
    stated = []
    rows = dict(list(table.groupby(["protocol", "arm", "model", "fold"], sort=False)))
    for case in cases:
        folder = evidence.results / case.folder
        ways = ways_back(evidence, folder / "model.json")
        artefacts |= set(ways)
        inputs |= leaves(evidence, ways)
        stated.append(_statement(case, folder, rows[case.protocol, case.arm, case.model, case.fold], len(ways)))
    worst = next(word for word in (VIOLATION, DECLARED, CLEAN) if word in {row["verdict"] for row in stated})
    tested = sorted(frozenset().union(*(case.test for case in cases)))
    write_json(
        path,
        {
            "verdict": worst,
            "classifications": stated,
            "participants": {
                "tested": tested,
                "fitted_without_label": sorted(evidence.usable() - set(tested)),
                "folds": {fold: sorted(members) for fold, members in sorted(cases[0].folds.items())},
            },
            "inputs": dict(sorted(inputs.items())),
            "artefacts": {"n": len(artefacts), "sha256": _digest_of_all(artefacts)},
            "audit": {"rows": len(table), "sha256": digest_of(audit)},
            "code": {stage: code_of(stage) for stage in _STAGES},
            "versions": versions(),
        },
    )


def _statement(case: Classification, folder: Path, rows: pandas.DataFrame, n_artefacts: int) -> dict[str, Any]:
    verdicts = set(rows["verdict"])
    verdict = next(word for word in (VIOLATION, DECLARED, CLEAN) if word in verdicts)
    entries = rows[(rows["check"] == "path") & (rows["verdict"] != CLEAN)]
    return {
        "protocol": case.protocol,
        "arm": case.arm,
        "model": case.model,
        "fold": case.fold,
        "verdict": verdict,
        "statement": STATEMENTS[verdict],
        "declares": dict(case.allowed),
        "paths": sorted(set(entries["path"].dropna())),
        "checks": len(rows),
        "artefacts": n_artefacts,
        "model_sha256": _digest(folder / "model.json"),
        "predictions_sha256": _digest(folder / "predictions.tsv"),
    }


def _digest(path: Path) -> str | None:
    return digest_of(path) if path.is_file() else None


def _digest_of_all(paths: set[Path]) -> str:
    """One digest over the names and digests of many files."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(f"{path.as_posix()}\0{_digest(path)}\n".encode())
    return whole.hexdigest()


def quoted(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """What the report quotes: the verdict's counts, the participants, the digests of code."""
    counts = {word: sum(row["verdict"] == word for row in certificate["classifications"]) for word in STATEMENTS}
    return {
        "counts": [{"n": count, "statement": STATEMENTS[word]} for word, count in counts.items() if count],
        "n_tested": len(certificate["participants"]["tested"]),
        "n_inputs": len(certificate["inputs"]),
        "n_artefacts": certificate["artefacts"]["n"],
        "code": ", ".join(f"{stage} {digest}" for stage, digest in certificate["code"].items()),
    }
