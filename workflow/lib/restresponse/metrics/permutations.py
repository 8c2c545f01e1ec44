"""The null of each linear model: the whole procedure again on labels permuted within the outer folds.

A permutation keeps the split, the class counts of every fold and the group ICA, and renews whatever reads labels: selection,
inner folds, choice of the penalty, fit. A protocol that lets test labels in does so under permutation too, so that its null
lies where such a protocol takes pure noise. With repeats it is the null of the first repeat, the one split that the
permutations keep.

References: Ojala & Garriga 2010; Phipson & Smyth 2010 (a p value is never 0); Westfall & Young 1993 (max-T).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.inner import seed_of
from restresponse.classifier.kernel_files import KernelFiles
from restresponse.classifier.permuted import AT_ONCE, Procedure, View, mean_fold_areas, rerun
from restresponse.classifier.protocols import (
    kernel_memory,
    refits,
    reported_folds,
    selects,
)
from restresponse.classifier.search import can_be_made_again
from restresponse.errors import InputError
from restresponse.files import read_table, write_table
from restresponse.metrics.scores import Sample, mean_fold_auc, pooled_values

if TYPE_CHECKING:
    import pandas

    from restresponse.plan import Plan

CHUNK = 250  # permutations a job
NULL_COLUMNS = ("protocol", "arm", "model", "permutation", "mean", "pooled")
COLUMNS = (
    "protocol", "arm", "model", "scope", "auc", "null_mean", "null_mean_error", "null_sd", "null_low", "null_high", "p", "p_maxt",
    "n_permutations", "n_maxt",
)  # fmt: skip
_TEXT = ("protocol", "arm", "model", "fold", "participant_id")


def null_files(plan: Plan, n_permutations: int) -> list[str]:
    """The tables of `metrics_null`: of every linear model under every protocol and rung of the ladder.

    A model whose search ends by the clock (`search.minutes`) has no null: it could not be made again.
    """
    keys = dict.fromkeys(key[:3] for key in plan.classifications)
    return [
        f"results/metrics/null/{protocol}/{arm}/{model}/{chunk}.tsv"
        for protocol, arm, model in keys
        if plan.models[model]["kind"] == "linear" and can_be_made_again(plan.models[model])
        for chunk in chunk_names(n_permutations)
    ]


def chunk_names(n_permutations: int) -> list[str]:
    """The jobs that `n_permutations` are cut into: `chunk-001` …"""
    return [f"chunk-{number:03d}" for number in range(1, -(-n_permutations // CHUNK) + 1)]


def chunk_range(chunk: str, n_permutations: int) -> tuple[int, int]:
    """First permutation of a chunk and the one after its last; permutation 0 (the labels as they are) is in the first."""
    number = int(chunk.split("-")[1])
    return (number - 1) * CHUNK + (number > 1), min(number * CHUNK, n_permutations) + 1


def permutation_files(plan: Plan, batches: Sequence[str], wildcards: Any, first: str | None = None) -> dict[str, Any]:
    """Input files of `metrics_null`: of each distinct cohort of the folds of `first`'s repeat (None: of the first), in their order."""
    arm, order = plan.arms[wildcards.arm], plan.order_of(wildcards.arm)
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


def null_memory(plan: Plan, n_participants: int, n_inner_folds: int, protocol: str, arm: str) -> int:
    """Memory in MiB to ask for a job of the null.

    The kernels of all its cohorts lie in memory together, and beside them, of the labellings that run at once, a few small
    kernels of every inner fold and, where the arm selects, the channels of every selection.
    """
    cohorts = {plan.cohort(protocol, fold) for fold in reported_folds(plan, plan.folds[0])}
    order = plan.order_of(arm)
    channels = order // 3 if selects(plan.arms[arm]) else 0
    at_once = AT_ONCE * n_inner_folds * (5 + channels) * 8 * n_participants**2 / 2**20
    return 1000 + len(cohorts) * kernel_memory(n_participants, order, least=100) + round(at_once)


def permuted_labels(response: np.ndarray, tests: Sequence[np.ndarray], seed: int, numbers: Sequence[int]) -> np.ndarray:
    """Labels permuted within each fold's test participants; each permutation has a seed of its own, number 0 is none.

    Parameters
    ----------
    response : (n_participants,) of 1 and 0, -1 where there is no label
    tests : positions of the test participants of each fold of a repeat
    seed : root
    numbers : of the permutations wanted

    Returns
    -------
    (n_permutations, n_participants)
    """
    found = np.tile(response, (len(numbers), 1))
    for row, number in zip(found, numbers, strict=True):
        if number:
            random = np.random.default_rng(np.random.SeedSequence([seed, 41, number]))
            for test in tests:
                row[test] = random.permutation(row[test])
    return found


def read_views(
    *,
    folds: str | Path,
    labels: str | Path,
    batches: Mapping[str, Sequence[str]],
    cohorts: Mapping[str, str],
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    seed: int,
    normalise: bool,
    require_match: bool,
    **files: Sequence[str | Path],
) -> tuple[dict[str, View], np.ndarray]:
    """Each fold of `cohorts` as a protocol lets an arm's linear model see it, and the labels, -1 where there is none.

    The parameters are those of `write_null`.
    """
    table, known = read_table(folds), read_table(labels)
    kernels = KernelFiles(**files).read(
        list(dict.fromkeys(cohorts.values())),
        batches,
        p=arm.get("p"),
        normalise=normalise,
        require_match=require_match,
    )
    label_of = dict(zip(known["participant_id"], known["response"].astype(int), strict=True))
    response = np.array([label_of.get(name, -1) for name in kernels.names])
    tests = {fold: np.sort(kernels.at(members)) for fold, members in _members(table, cohorts)}
    labelled = np.flatnonzero(response >= 0)
    views = {}
    for fold, cohort in cohorts.items():
        training = np.setdiff1d(labelled, tests[fold])
        views[fold] = View(
            kernels.products[cohort],
            training,
            tests[fold],
            kernels.selectors.get(cohort),
            labelled if protocol["selection"] == "all" else training,
            seed_of(seed, fold, "inner"),
            seed_of(seed, fold, "search"),
        )
    return views, response


def procedure_of(
    protocol: Mapping[str, Any], arm: Mapping[str, Any], model: Mapping[str, Any], n_inner_folds: int
) -> Procedure:
    """How a protocol makes an arm's linear model."""
    return Procedure(
        model["penalties"],
        on_reported_folds=protocol["hyperparameters"] == "reported_folds",
        selects_in_inner_folds=bool(arm.get("select")) and protocol["selection"] == "training",
        n_inner_folds=n_inner_folds,
        search=model.get("search") if can_be_made_again(model) else None,
    )


def write_null(
    *,
    folds: str | Path,
    labels: str | Path,
    batches: Mapping[str, Sequence[str]],
    cohorts: Mapping[str, str],
    key: Sequence[str],
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    model: Mapping[str, Any],
    permutations: tuple[int, int],
    seed: int,
    n_inner_folds: int,
    normalise: bool,
    require_match: bool,
    null: str | Path,
    **files: Sequence[str | Path],
) -> None:
    """Write mean of fold AUCs and pooled AUC of a range of permutations, columns `NULL_COLUMNS`.

    Parameters
    ----------
    cohorts : the cohort of each fold of the first repeat
    key : names of protocol, arm and model
    protocol, arm, model : rows of the config
    permutations : the first number and the one after the last
    files : those of `KernelFiles`, for each distinct cohort of `cohorts`, in order
    """
    import pandas as pd

    views, response = read_views(
        folds=folds,
        labels=labels,
        batches=batches,
        cohorts=cohorts,
        protocol=protocol,
        arm=arm,
        seed=seed,
        normalise=normalise,
        require_match=require_match,
        **files,
    )
    procedure = procedure_of(protocol, arm, model, n_inner_folds)
    numbers = range(*permutations)
    labellings = permuted_labels(response, [view.test for view in views.values()], seed, numbers)
    mean, pooled = mean_fold_areas(views, labellings, rerun(views, labellings, procedure))
    columns = dict(zip(NULL_COLUMNS, (*key, list(numbers), mean, pooled), strict=True))
    write_table(null, pd.DataFrame(columns))


def collect_null(
    *,
    predictions: str | Path,
    chunks: Sequence[str | Path],
    confidence: float,
    null: str | Path,
    permutations: str | Path,
    networks: pandas.DataFrame | None = None,
) -> None:
    """Join the chunks into one table and write each classifier's p value, its null's centre and spread, and max-T.

    Parameters
    ----------
    predictions : predictions.tsv
    chunks : tables of `write_null`
    confidence : share of the null between `null_low` and `null_high`
    null, permutations : the tables to write, columns `NULL_COLUMNS` and `COLUMNS`
    networks : columns `NULL_COLUMNS`, the permutations of networks (`network_null.network_areas`), where there are any

    Raises
    ------
    InputError
        Where the procedure on the labels as they are does not give the classifier's own AUC: then they differ in more.
    """
    import pandas as pd

    parts = [read_table(path, text_columns=_TEXT) for path in chunks]
    if networks is not None:
        parts.append(with_observed(read_table(predictions, text_columns=_TEXT), networks))
    if not parts:
        write_table(null, pd.DataFrame(columns=list(NULL_COLUMNS)))
        write_table(permutations, pd.DataFrame(columns=list(COLUMNS)))
        return
    everything = pd.concat(parts, ignore_index=True)
    write_table(null, everything)
    write_table(permutations, null_table(read_table(predictions, text_columns=_TEXT), everything, confidence))


def with_observed(predictions: pandas.DataFrame, networks: pandas.DataFrame) -> pandas.DataFrame:
    """The permutations of networks after their AUC on the labels as they are (permutation 0), which is not trained again."""
    import pandas as pd

    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    rows = []
    for key in networks[["protocol", "arm", "model"]].drop_duplicates().itertuples(index=False, name=None):
        own = first[(first[["protocol", "arm", "model"]] == list(key)).all(axis=1)]
        sample = Sample.of(own)
        rows.append((*key, 0, mean_fold_auc(sample), pooled_values(sample)["auc"]))
    observed = pd.DataFrame(rows, columns=list(NULL_COLUMNS))
    return pd.concat([observed, networks], ignore_index=True)[list(NULL_COLUMNS)]


def null_table(predictions: pandas.DataFrame, null: pandas.DataFrame, confidence: float) -> pandas.DataFrame:
    """The rows of `permutations.tsv` from predictions and the table of the null (permutation 0: labels as they are).

    max-T is over the permutations that every arm and model of the protocol has (`n_maxt`): a network may have fewer than a
    linear model, and a largest value over some of them alone would be too small.
    """
    import pandas as pd

    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    own = dict(list(first.groupby(["protocol", "arm", "model"], sort=False)))
    rows = []
    for protocol, part in null.groupby("protocol", sort=False):
        groups = {key: rows.sort_values("permutation") for key, rows in part.groupby(["arm", "model"], sort=False)}
        for scope in ("mean", "pooled"):
            values = {key: group[scope].to_numpy(np.float64) for key, group in groups.items()}
            shared = min(map(len, values.values()))
            standard = {key: standardised(value[:shared]) for key, value in values.items()}
            largest = np.max(list(standard.values()), axis=0)
            for (arm, model), value in values.items():
                sample = Sample.of(own[protocol, arm, model])
                auc = mean_fold_auc(sample) if scope == "mean" else pooled_values(sample)["auc"]
                if abs(auc - value[0]) > 1e-6:
                    raise InputError(
                        f"{model} on {arm} under {protocol} has the {scope} AUC {auc:.6f}, and {value[0]:.6f} where its null is "
                        "made on the labels as they are; expected the same: remove results/metrics/null and run again"
                    )
                drawn = value[1:]
                low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
                spread = float(drawn.std(ddof=1)) if len(drawn) > 1 else np.nan
                centre, error = float(drawn.mean()), spread / np.sqrt(len(drawn))
                p, p_maxt = exceedance(value[0], drawn), exceedance(standard[arm, model][0], largest[1:])
                rows.append(
                    (
                        *(protocol, arm, model, scope, auc, centre, error, spread, low, high, p, p_maxt),
                        *(len(drawn), shared - 1),
                    )
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def exceedance(value: float, drawn: np.ndarray) -> float:
    """(1 + b) / (1 + n): the share of draws at least as great as the value, which counts as one of them."""
    return float((1 + (drawn >= value - 1e-9).sum()) / (1 + len(drawn)))


def standardised(values: np.ndarray) -> np.ndarray:
    """Values over their spread, the observed one among them: exchangeable, and arms of another spread weigh the same."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _members(table: pandas.DataFrame, cohorts: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Test participants of each fold of `cohorts`, in its order."""
    tested = table.groupby("fold")["participant_id"].apply(list)
    return [(fold, tested[fold]) for fold in cohorts]
