"""Leave one network out: each linear model fitted again without a component, and the AUC that is lost. For the report.

The whole procedure is made again without it: selection among the others, inner folds, choice of the penalty, fit. What a
component adds to a model that was fitted with it is another question (`explanation`): others that say the same can take its
place. A fold's components are aligned with those of everyone, which no fit reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.permuted import Procedure, View
from restresponse.classifier.search import can_be_made_again
from restresponse.classifier.selection import Selector
from restresponse.files import read_array, read_table, write_table
from restresponse.metrics.curve import case_of, sample_of, scored_once
from restresponse.metrics.explanation import alignment, component_names, withheld
from restresponse.metrics.intervals import mean_fold_auc_draws, participant_weights, percentile
from restresponse.metrics.permutations import procedure_of, read_views
from restresponse.metrics.scores import mean_fold_auc

if TYPE_CHECKING:
    from restresponse.plan import Plan

COLUMNS = ("protocol", "arm", "model", "component", "network", "auc", "without", "auc_lost", "low", "high", "rank")


@dataclasses.dataclass(frozen=True)
class AllBut:
    """The selection of an arm that takes every component, without one; asked as a `Selector` is."""

    n_components: int
    left_out: int

    def on_many(self, positions: Sequence[np.ndarray], responses: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Every component but one, for each set of positions."""
        return [np.delete(np.arange(self.n_components), self.left_out)] * len(positions)


def left_out_cases(
    plan: Plan, batches: Sequence[str], explained: Sequence[tuple[str, str, str]]
) -> list[dict[str, Any]]:
    """Of the classifiers to explain, the linear ones on more than one component: names and, by repeat, the files to read."""
    cases = []
    for protocol, arm, model in explained:
        settings = plan.models[model]
        if settings["kind"] != "linear" or not can_be_made_again(settings) or plan.order_of(arm) < 2:
            continue
        cases.append(case_of(plan, batches, protocol, arm, model))
    return cases


def write_left_out(
    *,
    metrics: str | Path,
    reference: str | Path,
    networks: str | Path,
    fold_components: Mapping[str, str | Path],
    cases: Sequence[Mapping[str, Any]],
    batches: Mapping[str, Sequence[str]],
    protocols: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    seed: int,
    n_inner_folds: int,
    normalise: bool,
    require_match: bool,
    resamples: int,
    confidence: float,
    table: str | Path,
) -> None:
    """Write a row for each case and component, columns `COLUMNS`; none for a classifier whose AUC may be chance.

    Parameters
    ----------
    metrics : `metrics.tsv`
    reference, networks : components of cohort `all`, and the table that names them
    fold_components : components of each fold's cohort
    cases : of `left_out_cases`
    protocols, arms, models : rows of the config
    table : to write; `auc_lost` with its interval, the same participants resampled with and without the component
    """
    import pandas as pd

    scores = read_table(metrics, text_columns=("protocol", "arm", "model", "metric", "scope"))
    names, everyone, rows = component_names(networks), read_array(reference), []
    own = {fold: _numbers(alignment(everyone, read_array(path))) for fold, path in fold_components.items()}
    for case in cases:
        if withheld(scores, tuple(case["key"]), confidence):
            continue
        protocol, arm, model = protocols[case["key"][0]], arms[case["key"][1]], models[case["key"][2]]
        procedure = procedure_of(protocol, arm, model, n_inner_folds)
        repeats = (  # one in memory at a time
            read_views(
                **repeat["files"],
                batches=batches,
                cohorts=repeat["cohorts"],
                protocol=protocol,
                arm=arm,
                seed=seed,
                normalise=normalise,
                require_match=require_match,
            )
            for repeat in case["repeats"]
        )
        found = lost_without(repeats, own, procedure, resamples=resamples, confidence=confidence, seed=seed)
        for row in found:
            number = row.pop("component")
            rows.append((*case["key"], number, names.get(str(number)), *row.values()))
    write_table(table, pd.DataFrame(rows, columns=list(COLUMNS)))


def lost_without(
    repeats: Iterable[tuple[Mapping[str, View], np.ndarray]],
    own: Mapping[str, Mapping[int, int]],
    procedure: Procedure,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[dict[str, float]]:
    """What a procedure loses without each component: `component`, `auc`, `without`, `auc_lost`, `low`, `high`, `rank`.

    Parameters
    ----------
    repeats : the views of the folds of each repeat, and everyone's labels (n_participants,)
    own : fold -> number of everyone's component, from 1 -> position of the fold's own
    procedure : of the protocol
    """
    numbers = sorted(set.intersection(*(set(positions) for positions in own.values())))
    whole: list[tuple[np.ndarray, np.ndarray]] = []
    without: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {number: [] for number in numbers}
    for views, response in repeats:
        whole.append(scored_once(views, response, procedure))
        for number in numbers:
            others = {fold: _without(view, own[fold][number]) for fold, view in views.items()}
            without[number].append(scored_once(others, response, procedure))
    sample = sample_of(whole, response)
    weights = participant_weights(sample.response, resamples, seed)
    auc, draws = mean_fold_auc(sample), mean_fold_auc_draws(sample, weights)
    rows = []
    for number in numbers:
        sample = sample_of(without[number], response)
        value = mean_fold_auc(sample)
        low, high = percentile(auc - value, draws - mean_fold_auc_draws(sample, weights), confidence)
        rows.append(
            {"component": number, "auc": auc, "without": value, "auc_lost": auc - value, "low": low, "high": high}
        )
    order = np.argsort([-row["auc_lost"] for row in rows], kind="stable")
    for rank, index in enumerate(order, start=1):
        rows[index]["rank"] = rank
    return rows


def _without(view: View, left_out: int) -> View:
    """The view of a fold whose arm cannot have one of its components."""
    selector = view.selector
    if isinstance(selector, Selector):
        allowed = np.ones(selector.amplitudes.shape[1], bool) if selector.allowed is None else selector.allowed.copy()
        allowed[left_out] = False
        return dataclasses.replace(view, selector=dataclasses.replace(selector, allowed=allowed))
    return dataclasses.replace(view, selector=AllBut(view.products.n_components, left_out))


def _numbers(aligned: Mapping[str, str]) -> dict[int, int]:
    """Number of everyone's component -> position of the fold's own."""
    return {int(other): int(number) - 1 for number, other in aligned.items()}
