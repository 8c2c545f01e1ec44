"""The null of a network, within a budget: the fold's own job again on labels permuted within the outer folds.

Whatever reads labels is renewed: the selection and the maps refitted on it, inner folds, the epoch, the training. The labels
that the job is given are those its protocol allows, permuted; group ICA and split stay. The permutations are those of the
linear models' null (`permutations`), so that both can be counted together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.protocols import config_row, inherited_from, network_files, refits, reported_folds, selects
from restresponse.classifier.search import can_be_made_again
from restresponse.classifier.selection import Selector
from restresponse.dual_regression import read_time_courses, restriction, spatial_gram
from restresponse.errors import InputError
from restresponse.files import read_array, read_table, write_array, write_table
from restresponse.metrics.permutations import collect_null, permuted_labels
from restresponse.metrics.scores import auc

if TYPE_CHECKING:
    import pandas

    from restresponse.plan import Plan

CHUNK = 5  # permutations a job
COLUMNS = ("protocol", "arm", "model", "fold", "permutation", "participant_id", "y_score")


def network_null_files(plan: Plan, n_permutations: int) -> list[str]:
    """The tables of `metrics_network_null`: of every network, each fold of the first repeat.

    A network whose search ends by the clock (`search.minutes`) has none: it could not be made again.
    """
    folds = reported_folds(plan, plan.folds[0])
    return [
        f"results/metrics/null/{protocol}/{arm}/{model}/{fold}/{chunk}.tsv"
        for protocol, arm, model, fold in plan.classifications
        if plan.models[model]["kind"] == "network" and can_be_made_again(plan.models[model]) and fold in folds
        for chunk in network_chunks(n_permutations)
    ]


def network_chunks(n_permutations: int) -> list[str]:
    """The jobs that a fold's permutations are cut into: `chunk-001` …"""
    return [f"chunk-{number:03d}" for number in range(1, -(-n_permutations // CHUNK) + 1)]


def network_chunk_range(chunk: str, n_permutations: int) -> tuple[int, int]:
    """First permutation of a chunk (they begin at 1) and the one after its last."""
    number = int(chunk.split("-")[1])
    return (number - 1) * CHUNK + 1, min(number * CHUNK, n_permutations) + 1


def permuted_network_files(plan: Plan, batches: Sequence[str], wildcards: Any) -> dict[str, Any]:
    """Input files of `metrics_network_null`: those of the fold's own job, and what a selection is made anew from.

    Where the job takes its hyper-parameters over from another arm, that arm's own files too, `source_…`.
    """
    arm, order = plan.arms[wildcards.arm], plan.order_of(wildcards.arm)
    files = network_files(plan, batches, wildcards)
    cohort = plan.cohort(wildcards.protocol, wildcards.fold)
    files["everyone"] = "results/folds/labels/all.tsv"
    if selects(arm):
        folder = f"results/components/{cohort}/order-{order}"
        files |= {"anew_amplitudes": f"{folder}/amplitudes.tsv", "anew_matches": f"{folder}/matches.tsv"}
    if refits(arm):
        files["anew_components"] = f"results/group_ica/{cohort}/order-{order}/components.npy"
        files["anew_maps"] = [f"results/dual_regression/{cohort}/order-{order}/asc/{batch}" for batch in batches]
        del files["maps"]
    if files.pop("inherited"):
        others = permuted_network_files(plan, batches, _source(plan, wildcards))
        files |= {f"source_{name}": paths for name, paths in others.items()}
    return files


def permuted_row(plan: Plan, wildcards: Any) -> dict[str, Any]:
    """The rows of the config of the fold's own job and, as `source`, of the one whose hyper-parameters it takes over (or None)."""
    source = _source(plan, wildcards)
    return {**config_row(plan, wildcards), "source": None if source is None else config_row(plan, source)}


def _source(plan: Plan, wildcards: Any) -> SimpleNamespace | None:
    """Wildcards of the network whose hyper-parameters a network takes over; None where it has its own."""
    found = inherited_from(plan, wildcards)
    if found is None:
        return None
    return SimpleNamespace(protocol=found[0], arm=found[1], model=wildcards.model, fold=wildcards.fold)


def write_network_null(
    *,
    folds: str | Path,
    everyone: str | Path,
    fold: str,
    key: Sequence[str],
    permutations: tuple[int, int],
    seed: int,
    null: str | Path,
    source: Mapping[str, Any] | None = None,
    **job: Any,
) -> None:
    """Train a fold's network on a range of permutations and write the scores of its test participants, columns `COLUMNS`.

    Parameters
    ----------
    everyone : label table of all
    key : names of protocol, arm and model
    permutations : the first number and the one after the last
    source : protocol, arm and model of the network whose hyper-parameters are taken over; it is trained on the same labels first
    job : the other arguments of `_Job` and of `train_fold`; those of the source begin with `source_`
    """
    import pandas as pd

    known, table = read_table(everyone), read_table(folds)
    names = sorted(known["participant_id"])
    response = known.set_index("participant_id")["response"].loc[names].to_numpy(int)
    test = sorted(table.loc[table["fold"] == fold, "participant_id"])
    common = {"folds": folds, "fold": fold, "seed": seed, "names": names, "test": test}
    others = {name.removeprefix("source_"): job.pop(name) for name in list(job) if name.startswith("source_")}
    own = _Job(**common, **job)
    before = None if source is None else _Job(**{**job, **_NO_FILES, **source, **others, **common})
    rows = []
    labellings = permuted_labels(response, _tests(table, fold, names), seed, range(*permutations))
    for number, answers in zip(range(*permutations), labellings, strict=True):
        with tempfile.TemporaryDirectory(dir=Path(null).parent, prefix=f"permutation-{number}.") as temporary:
            inherited = [] if before is None else [before.train(Path(temporary) / "source", answers) / "model.json"]
            folder = own.train(Path(temporary) / "own", answers, inherited)
            rows.append(read_table(folder / "predictions.tsv").assign(permutation=number))
    found = pd.concat(rows, ignore_index=True).assign(**dict(zip(COLUMNS[:3], key, strict=True)), fold=fold)
    write_table(null, found[list(COLUMNS)])


# What a job need not have, and does not take from the job of another arm.
_NO_FILES: dict[str, Any] = dict.fromkeys(("anew_amplitudes", "anew_matches", "anew_components"))
_NO_FILES |= {"watched_labels": (), "selection": (), "anew_maps": (), "maps": ()}


class _Job:
    """A fold's own job, to be done on other labels.

    Parameters
    ----------
    names, test : everyone with a label, and the fold's test participants
    labels, watched_labels : the tables that the protocol gives the job
    protocol, arm : rows of the config
    selection : the fold's own, which no permutation reads
    anew_… : of the fold's cohort, where the arm selects, and where it refits maps
    everyone : the label table of all, whose names are `names`
    job : the other arguments of `train_fold`
    """

    def __init__(
        self,
        *,
        names: Sequence[str],
        test: Sequence[str],
        labels: str | Path,
        protocol: Mapping[str, Any],
        arm: Mapping[str, Any],
        watched_labels: Sequence[str | Path] = (),
        selection: Sequence[str | Path] = (),
        anew_amplitudes: str | Path | None = None,
        anew_matches: str | Path | None = None,
        anew_components: str | Path | None = None,
        anew_maps: Sequence[str | Path] = (),
        everyone: str | Path | None = None,
        **job: Any,
    ) -> None:
        self._names, self._test, self._arm = names, test, arm
        self._given = [set(read_table(path)["participant_id"]) for path in (labels, *watched_labels)]
        self._reading = set(names) if protocol["selection"] == "all" else self._given[0]
        self._components, self._maps = anew_components, anew_maps
        self._job = {**job, "protocol": protocol, "arm": arm}
        self._selector = None
        if anew_amplitudes is not None:
            self._selector = Selector.read(anew_amplitudes, anew_matches, names, arm["p"], job["require_match"])

    def train(self, folder: Path, answers: np.ndarray, inherited: Sequence[Path] = ()) -> Path:
        """Train on labels `(n_names,)` and write what the job writes into `folder`, which is given back."""
        import pandas as pd

        folder.mkdir()
        truth = pd.DataFrame({"participant_id": self._names, "response": answers})
        paths = [folder / f"labels-{index}.tsv" for index in range(len(self._given))]
        for path, members in zip(paths, self._given, strict=True):
            write_table(path, truth[truth["participant_id"].isin(members)])
        arguments = dict(self._job)
        if self._selector is not None:
            chosen = _selected(self._selector, self._names, self._reading, answers)
            arguments["selection"] = [_write_selection(folder, self._selector, chosen, self._arm["p"])]
            if self._components is not None:
                wanted = sorted({*self._given[0], *self._test})
                arguments["maps"] = _refit(
                    folder, self._components, self._maps, self._job["batches"], wanted, chosen, self._job["normalise"]
                )
        train_fold(
            **arguments,
            labels=paths[0],
            watched_labels=paths[1:],
            inherited=inherited,
            predictions=folder / "predictions.tsv",
            history=folder / "history.tsv",
            network=folder / "model.keras",
            sidecar=folder / "model.json",
        )
        return folder


def join_nulls(
    *,
    predictions: str | Path,
    folds: str | Path,
    labels: str | Path,
    confidence: float,
    seed: int,
    null: str | Path,
    permutations: str | Path,
    chunks: Sequence[str | Path] = (),
    networks: Sequence[str | Path] = (),
) -> None:
    """Write the two tables of `collect_null` from the chunks of linear models and those of networks."""
    import pandas as pd

    areas = None
    if networks:
        scores = pd.concat([read_table(path, text_columns=COLUMNS[:4] + COLUMNS[5:6]) for path in networks])
        areas = network_areas(scores, read_table(folds), read_table(labels), seed)
    collect_null(
        predictions=predictions,
        chunks=chunks,
        confidence=confidence,
        null=null,
        permutations=permutations,
        networks=areas,
    )


def network_areas(
    scores: pandas.DataFrame, folds: pandas.DataFrame, labels: pandas.DataFrame, seed: int
) -> pandas.DataFrame:
    """Mean of fold AUCs and pooled AUC of each permutation, from the scores of all folds and chunks of all networks.

    Parameters
    ----------
    scores : columns `COLUMNS`
    folds, labels : tables of the folds and of everyone's labels
    seed : of the run

    Returns
    -------
    columns protocol, arm, model, permutation, mean and pooled
    """
    import pandas as pd

    names = sorted(labels["participant_id"])
    response = labels.set_index("participant_id")["response"].loc[names].to_numpy(int)
    tests, place = _tests(folds, folds["fold"].min(), names), {name: index for index, name in enumerate(names)}
    rows = []
    for key, part in scores.groupby(["protocol", "arm", "model", "permutation"], sort=False):
        answers = permuted_labels(response, tests, seed, [key[3]])[0]
        truth = answers[[place[name] for name in part["participant_id"]]]
        value = part["y_score"].to_numpy(float)
        areas = [auc(truth[own], value[own]) for own in (part["fold"] == fold for fold in sorted(set(part["fold"])))]
        rows.append((*key, float(np.nanmean(areas)), auc(truth, value)))
    return pd.DataFrame(rows, columns=["protocol", "arm", "model", "permutation", "mean", "pooled"])


def _tests(folds: pandas.DataFrame, fold: str, names: Sequence[str]) -> list[np.ndarray]:
    """Positions in `names` of the test participants of each fold of the repeat of `fold`, folds in order."""
    place = {name: index for index, name in enumerate(names)}
    own = folds[folds["fold"].str.split("_").str[0] == fold.split("_")[0]]
    parts = own.groupby("fold", sort=True)["participant_id"]
    return [np.array(sorted(place[name] for name in members)) for _, members in parts]


def _selected(selector: Selector, names: Sequence[str], reading: set[str], answers: np.ndarray) -> np.ndarray:
    positions = np.array([index for index, name in enumerate(names) if name in reading])
    chosen = selector.on(positions, answers[positions])
    if chosen is None:
        raise InputError(
            "a permutation leaves fewer than two participants of a class to the group test; expected at least two: use "
            "fewer folds or more participants"
        )
    return chosen


def _write_selection(folder: Path, selector: Selector, chosen: np.ndarray, p: float) -> Path:
    import pandas as pd

    path = folder / "components.tsv"
    flags = np.isin(np.arange(selector.amplitudes.shape[1]), chosen)
    write_table(path, pd.DataFrame({"component": np.arange(1, len(flags) + 1), f"selected_p-{p}": flags}))
    return path


def _refit(
    folder: Path,
    components: str | Path,
    maps: Sequence[str | Path],
    batches: Mapping[str, Sequence[str]],
    names: Sequence[str],
    chosen: np.ndarray,
    normalise: bool,
) -> list[Path]:
    """Write the maps of `names` refitted on the chosen components; folders, one for each batch."""
    gram = spatial_gram(read_array(components))
    whole, courses = (files_of(maps, batches, ending) for ending in ("_maps.npy", "_timecourses.tsv"))
    folders = [folder / "maps" / batch for batch in batches]
    refitted = files_of(folders, batches, "_maps.npy")
    for name in names:
        matrix = restriction(read_time_courses(courses[name]), gram, chosen, normalise=normalise)
        rows = matrix @ np.asarray(read_array(whole[name]), np.float64)
        write_array(refitted[name], rows.astype(np.float32))
    return folders
