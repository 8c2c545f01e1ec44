"""How many components each p selects, how many of them by chance, and how well linear models do with them.

For the report alone. Each p goes through the whole procedure of the linear model, under its protocol: selection on the
labels that the protocol allows, inner folds, choice of the penalty, fit. To pick a p by this table is to choose it on the
folds that are reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.ladder import leak_of
from restresponse.classifier.permuted import Procedure, View, rerun
from restresponse.classifier.protocols import reported_folds
from restresponse.classifier.search import can_be_made_again
from restresponse.components.selection import group_test, select
from restresponse.files import write_table
from restresponse.metrics.intervals import mean_auc_interval, participant_weights
from restresponse.metrics.permutations import permutation_files, procedure_of, read_views
from restresponse.metrics.scores import Sample, mean_fold_auc

if TYPE_CHECKING:
    from restresponse.plan import Plan

COLUMNS = (
    "protocol", "arm", "model", "p", "auc", "low", "high", "n_selected", "least_selected", "most_selected",
    "expected_by_chance", "n_fallbacks", "n_folds",
)  # fmt: skip


def curve_cases(plan: Plan, batches: Sequence[str]) -> list[dict[str, Any]]:
    """Every linear model of an arm that selects, under every protocol: its names and, by repeat, the files to read.

    A model whose search ends by the clock has none: it could not be made again.
    """
    cases = []
    for protocol, arm, model in dict.fromkeys(key[:3] for key in plan.classifications):
        settings = plan.models[model]
        if leak_of(protocol) is not None:  # the ladder has a figure of its own
            continue
        if settings["kind"] != "linear" or not can_be_made_again(settings) or not plan.arms[arm].get("select"):
            continue
        cases.append(case_of(plan, batches, protocol, arm, model))
    return cases


def case_of(plan: Plan, batches: Sequence[str], protocol: str, arm: str, model: str) -> dict[str, Any]:
    """A linear model that is to be made again: its names and, by repeat, the cohort of each fold and the files to read."""
    names = SimpleNamespace(protocol=protocol, arm=arm, model=model)
    repeats = dict.fromkeys(tuple(reported_folds(plan, fold)) for fold in plan.folds)
    return {
        "key": [protocol, arm, model],
        "repeats": [
            {
                "cohorts": {fold: plan.cohort(protocol, fold) for fold in folds},
                "files": permutation_files(plan, batches, names, folds[0]),
            }
            for folds in repeats
        ],
    }


def curve_inputs(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every file of the cases, each once."""
    values = [value for case in cases for repeat in case["repeats"] for value in repeat["files"].values()]
    return list(dict.fromkeys(path for value in values for path in ([value] if isinstance(value, str) else value)))


def write_curve(
    *,
    cases: Sequence[Mapping[str, Any]],
    batches: Mapping[str, Sequence[str]],
    protocols: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    thresholds: Sequence[float],
    seed: int,
    n_inner_folds: int,
    normalise: bool,
    require_match: bool,
    resamples: int,
    confidence: float,
    curve: str | Path,
) -> None:
    """Write one row a case and threshold, columns `COLUMNS`: mean of fold AUCs with its interval, numbers selected.

    Parameters
    ----------
    cases : of `curve_cases`
    protocols, arms, models : rows of the config
    thresholds : of p
    curve : the table to write
    """
    import pandas as pd

    rows = []
    for case in cases:
        protocol, arm, model = protocols[case["key"][0]], arms[case["key"][1]], models[case["key"][2]]
        procedure = procedure_of(protocol, arm, model, n_inner_folds)
        scored: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {p: [] for p in thresholds}
        counts: dict[float, list[tuple[int, bool, float]]] = {p: [] for p in thresholds}
        for repeat in case["repeats"]:
            views, response = read_views(
                **repeat["files"],
                batches=batches,
                cohorts=repeat["cohorts"],
                protocol=protocol,
                arm=arm,
                seed=seed,
                normalise=normalise,
                require_match=require_match,
            )
            for p in thresholds:
                scored[p].append(scored_once(_selecting_at(views, p), response, procedure))
                counts[p] += [_selected(view, response, p) for view in views.values()]
        for p in thresholds:
            sample = sample_of(scored[p], response)
            auc = mean_fold_auc(sample)
            weights = participant_weights(sample.response, resamples, seed)
            numbers, fallbacks, chance = (np.array(column) for column in zip(*counts[p], strict=True))
            rows.append(
                (*case["key"], p, auc, *mean_auc_interval(sample, auc, weights, confidence), numbers.mean(), numbers.min(),
                 numbers.max(), chance.mean(), int(fallbacks.sum()), len(numbers))
            )  # fmt: skip
    write_table(curve, pd.DataFrame(rows, columns=list(COLUMNS)))


def scored_once(views: Mapping[str, View], response: np.ndarray, procedure: Procedure) -> tuple[np.ndarray, np.ndarray]:
    """Each participant's score and the fold that tested it, NaN and empty where none did, of one repeat."""
    found = rerun(views, response[None], procedure)
    score, tested = np.full(len(response), np.nan), np.full(len(response), "", dtype=object)
    for fold, view in views.items():
        score[view.test], tested[view.test] = found[fold][0], fold
    return score, tested.astype(str)


def sample_of(scored: Sequence[tuple[np.ndarray, np.ndarray]], response: np.ndarray) -> Sample:
    """The tested participants with what `scored_once` gave for each repeat."""
    tested = np.flatnonzero(np.isfinite(scored[0][0]))
    return Sample(
        participants=tested.astype(str),
        response=response[tested] == 1,
        score=np.stack([score[tested] for score, _ in scored]),
        fold=np.stack([fold[tested] for _, fold in scored]),
    )


def _selecting_at(views: Mapping[str, View], p: float) -> dict[str, View]:
    return {
        fold: dataclasses.replace(view, selector=dataclasses.replace(view.selector, threshold=p))
        for fold, view in views.items()
    }


def _selected(view: View, response: np.ndarray, p: float) -> tuple[int, bool, float]:
    """Number of components a fold selects at `p`, whether none passed, and how many pass by chance."""
    selector = view.selector
    tested = group_test(selector.amplitudes[view.selecting], response[view.selecting])["p"]
    chosen, fallback = select(tested, p, selector.allowed)
    eligible = len(tested) if selector.allowed is None else int(selector.allowed.sum())
    return len(chosen), fallback, p * eligible
