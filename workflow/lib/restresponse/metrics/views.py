"""Each fold as a protocol lets a linear model see it, read from the files its jobs have: for the null and for the curve of p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.inner import seed_of
from restresponse.classifier.kernel import MapProducts
from restresponse.classifier.linear_fold import refitting
from restresponse.classifier.permuted import Procedure, View
from restresponse.classifier.protocols import arm_order, kernel_memory, refits, reported_folds
from restresponse.classifier.selection import Selector
from restresponse.errors import InputError
from restresponse.files import read_json, read_table

if TYPE_CHECKING:
    import pandas

    from restresponse.plan import Plan


def permutation_files(plan: Plan, batches: Sequence[str], wildcards: Any, first: str | None = None) -> dict[str, Any]:
    """Input files of `read_views`: of each distinct cohort of the folds of `first`'s repeat (None: of the first), in their order."""
    arm, order = plan.arms[wildcards.arm], arm_order(plan)
    folds = reported_folds(plan, first or plan.folds[0])
    cohorts = list(dict.fromkeys(plan.cohort(wildcards.protocol, fold) for fold in folds))
    kernels = [f"results/classifier/kernels/{cohort}/order-{order}" for cohort in cohorts]
    files: dict[str, Any] = {
        "folds": "results/folds/folds.tsv",
        "labels": "results/folds/labels/all.tsv",
        **{name: [f"{kernel}/{name}.npy" for kernel in kernels] for name in ("gram", "sums")},
        "records": [f"{kernel}/gram.json" for kernel in kernels],
    }
    if arm.get("select"):
        for name in ("amplitudes", "matches"):
            files[name] = [f"results/components/{cohort}/order-{order}/{name}.tsv" for cohort in cohorts]
    if refits(arm):
        files["components"] = [f"results/group_ica/{cohort}/order-{order}/components.npy" for cohort in cohorts]
        files["all_maps"] = [
            f"results/dual_regression/{cohort}/order-{order}/asc/{batch}" for cohort in cohorts for batch in batches
        ]
    return files


def null_memory(plan: Plan, n_participants: int, protocol: str) -> int:
    """Memory in MiB to ask for a job of the null: the kernels of all its cohorts lie in memory together."""
    cohorts = {plan.cohort(protocol, fold) for fold in reported_folds(plan, plan.folds[0])}
    return 1000 + len(cohorts) * kernel_memory(n_participants, arm_order(plan), least=100)


def read_views(
    *,
    folds: str | Path,
    labels: str | Path,
    gram: Sequence[str | Path],
    sums: Sequence[str | Path],
    records: Sequence[str | Path],
    batches: Mapping[str, Sequence[str]],
    cohorts: Mapping[str, str],
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    seed: int,
    normalise: bool,
    require_match: bool,
    amplitudes: Sequence[str | Path] = (),
    matches: Sequence[str | Path] = (),
    components: Sequence[str | Path] = (),
    all_maps: Sequence[str | Path] = (),
) -> tuple[dict[str, View], np.ndarray, list[str]]:
    """Each fold of `cohorts` as a protocol lets an arm's linear model see it, the labels, and whose they are.

    The parameters are those of `write_null`; labels are -1 where there is none.
    """
    table, known = read_table(folds), read_table(labels)
    distinct = list(dict.fromkeys(cohorts.values()))
    facts = [read_json(record) for record in records]
    names = facts[0]["participants"]
    if any(fact["participants"] != names for fact in facts):
        raise InputError(
            "the kernels of the cohorts hold different participants; remove results/classifier/kernels, run again"
        )
    label_of = dict(zip(known["participant_id"], known["response"].astype(int), strict=True))
    response = np.array([label_of.get(name, -1) for name in names])
    position = {name: index for index, name in enumerate(names)}
    tests = {fold: np.array(sorted(position[name] for name in members)) for fold, members in _members(table, cohorts)}
    labelled = np.flatnonzero(response >= 0)

    products, selectors = {}, {}
    for index, cohort in enumerate(distinct):
        restrict = None
        if all_maps:
            folders = all_maps[index * len(batches) : (index + 1) * len(batches)]
            courses = list(files_of(folders, batches, "_timecourses.tsv", names).values())
            restrict = refitting(components[index], courses, normalise)
        products[cohort] = MapProducts.read(gram[index], sums[index], facts[index]["n_voxels"], restrict)
        if amplitudes:
            selectors[cohort] = Selector.read(amplitudes[index], matches[index], names, arm["p"], require_match)
    views = {}
    for fold, cohort in cohorts.items():
        training = np.setdiff1d(labelled, tests[fold])
        views[fold] = View(
            products[cohort],
            training,
            tests[fold],
            selectors.get(cohort),
            labelled if protocol["selection"] == "all" else training,
            seed_of(seed, fold, "inner"),
        )
    return views, response, list(names)


def procedure_of(
    protocol: Mapping[str, Any], arm: Mapping[str, Any], model: Mapping[str, Any], n_inner_folds: int
) -> Procedure:
    """How a protocol makes an arm's linear model."""
    return Procedure(
        model["penalties"],
        on_reported_folds=protocol["hyperparameters"] == "reported_folds",
        selects_in_inner_folds=bool(arm.get("select")) and protocol["selection"] == "training",
        n_inner_folds=n_inner_folds,
    )


def _members(table: pandas.DataFrame, cohorts: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Test participants of each fold of `cohorts`, in its order."""
    tested = table.groupby("fold")["participant_id"].apply(list)
    return [(fold, tested[fold]) for fold in cohorts]
