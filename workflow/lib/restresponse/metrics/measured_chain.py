"""The artefacts behind a prediction of the percent fall of pain; `chain` has those of the classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from restresponse.classifier.ladder import CLEAN, CLOSED
from restresponse.metrics.chain import (
    Classification,
    Step,
    amplitude_steps,
    finding,
    fit_of,
    model_step,
    table_step,
    unlabelled,
)
from restresponse.metrics.evidence import Evidence

MEASURED = "percent change"  # stands where the arm does in the audit; no arm's name holds a space


class Measured(Classification):
    """One fold's models of the percent fall of pain: clean, of all arms of maps, in one folder with one sidecar."""

    @classmethod
    def of(
        cls,
        fold: str,
        order: int,
        folds: Mapping[str, frozenset[str]],
        batches: Mapping[str, Sequence[str]],
        arms: Mapping[str, Mapping[str, Any]],
    ) -> Measured:
        """The models of a fold; `arms` are the config's."""
        return cls(
            CLEAN, MEASURED, "all", fold, CLOSED, {"input": "components", "arms": arms}, "linear", order, folds, batches
        )

    @property
    def folder(self) -> str:
        """Folder of the fold's models of the change."""
        return f"classifier/measured/{self.fold}"


def measured_steps(evidence: Evidence, case: Measured) -> Iterator[Step]:
    """The steps of a fold's models of the change: those, the kernel, amplitudes and group ICA of its cohort, its outcomes."""
    results, fold = evidence.results, case.fold
    known = evidence.members_of_table(results / f"folds/outcomes/{fold}.tsv")
    everyone = evidence.members_of_table(results / "folds/outcomes/all.tsv")
    yield model_step(results, case, known, finding(_measured_problem, evidence, case, sorted(known)))
    yield unlabelled(results / case.kernel, frozenset(), False, fold)
    yield from amplitude_steps(evidence, case)
    yield table_step(results / f"folds/outcomes/{fold}.json", known, everyone - case.test)


def _measured_problem(evidence: Evidence, case: Measured, known: Sequence[str]) -> str | None:
    """Whether the change and the responders at each threshold are predicted as the training participants say."""
    for chosen in evidence.sidecar(evidence.results / case.folder / "model.json").content.get("chosen") or ():
        arm = case.settings["arms"][chosen["arm"]]
        fit = fit_of(case, arm, {"chosen": chosen}, known, f"folds/outcomes/{case.fold}.tsv", maps={})
        problem = evidence.refits.measured_problem(fit)
        if problem:
            return f"{chosen['model']} on {chosen['arm']}, {chosen['target']}: {problem}"
    return None
