"""The lists of a model recomputed from the inputs that its job is given, as the rules have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from restresponse.classifier.baselines import baseline_files
from restresponse.classifier.protocols import linear_files, measured_files, network_files
from restresponse.metrics.chain import Baselines, Classification
from restresponse.metrics.evidence import Evidence
from restresponse.metrics.measured_chain import Measured
from restresponse.plan import Plan

_LABELS = ("labels", "watched_labels")


def inputs_problem(evidence: Evidence, case: Classification, plan: Plan) -> str | None:
    """Where a model's sidecar and the inputs of its job disagree; None where they agree.

    Every source must be an input or lie in a folder that is one; the labels read must be those of the label tables among
    the inputs, and nobody can be fitted on who is not in the fold's own.
    """
    facts = evidence.sidecar(evidence.results / case.folder / "model.json")
    files = _files(case, plan, case.batches)
    given = {path for paths in files.values() for path in paths}
    foreign = [source for source in facts.sources if source not in given and str(Path(source).parent) not in given]
    tables = [Path(path) for name in _LABELS for path in files.get(name, ())]
    readable = frozenset().union(*(evidence.members_of_table(path) for path in tables if path.is_file()))
    own = evidence.members_of_table(Path(files["labels"][0]))
    surplus = (facts.participants("labels_of") ^ readable) | (facts.participants("fitted_on") - own)
    problems = [f"read {source}, which its job is not given" for source in sorted(foreign)]
    if surplus:
        problems.append(f"its lists are not those of its job's label tables: {', '.join(sorted(surplus))}")
    return "; ".join(problems) or None


def _files(case: Classification, plan: Plan, batches: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The job's input files by name, each as a list."""
    names: Any = SimpleNamespace(protocol=case.protocol, arm=case.arm, model=case.model, fold=case.fold)
    if isinstance(case, Baselines):
        files = baseline_files(list(batches), case.order, case.fold)
    elif isinstance(case, Measured):
        files = measured_files(plan, list(batches), case.fold)
    else:
        files = (linear_files if case.kind == "linear" else network_files)(plan, list(batches), names)
    return {name: [paths] if isinstance(paths, str) else list(paths) for name, paths in files.items()}
