"""The job of one fold of a network: choose the epoch as the protocol says, train, predict the test participants."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.arms import ArmInput, read_component_arm, read_volume_arm
from restresponse.classifier.checkpoint import Checkpoints, Kept
from restresponse.classifier.fold import Fold, peak_memory_mb, write_predictions
from restresponse.classifier.inner import check_both_classes, inner_folds, seed_of
from restresponse.classifier.inputs import ClassifierGrid, Samples
from restresponse.classifier.network import ensemble, prepare, trainable_parameters
from restresponse.classifier.options import cropped
from restresponse.classifier.search import SPACE, Pruned, Report, identity_of, search
from restresponse.classifier.training import Diverged, Training, predict, train
from restresponse.errors import InputError
from restresponse.files import read_json, write_table, writing
from restresponse.provenance import write_sidecar

_STEPS = int(max(SPACE["epochs"]))  # of one inner fold, the same in every trial
NOT_EXERCISED = "not exercised; values taken from the config"  # what the report says of leak L3


def train_fold(
    *,
    mask: str | Path,
    folds: str | Path,
    labels: str | Path,
    maps: Sequence[str | Path],
    batches: Mapping[str, Sequence[str]],
    fold: str,
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    model: Mapping[str, Any],
    seed: int,
    n_inner_folds: int,
    voxel_size: float | None,
    gpu: int,
    normalise: bool,
    require_match: bool,
    predictions: str | Path,
    history: str | Path,
    network: str | Path,
    sidecar: str | Path,
    watched_labels: Sequence[str | Path] = (),
    inherited: Sequence[str | Path] = (),
    all_maps: Sequence[str | Path] = (),
    **tables: Sequence[str | Path],
) -> None:
    """Train one fold's network and write its predictions, history, weights and sidecar.

    `maps` are the folders of the arm's maps or volumes, one for each of `batches`; `all_maps` those of the maps on all
    components, where inner folds refit. `inherited` is the sidecar of the model whose hyper-parameters are taken over, if
    any are. `protocol`, `arm` and `model` are rows of the config; `tables` are those of
    `read_component_arm`.
    """
    import pandas as pd

    prepare(gpu)
    target = ClassifierGrid.of(mask, voxel_size)
    known = Fold.read(fold, folds, labels, watched_labels)
    if arm["input"] == "volumes":
        by_participant = {"maps": files_of(maps, batches, ".npy"), "records": files_of(maps, batches, ".json")}
        given = read_volume_arm(
            arm["volumes"], known, target, volumes=by_participant["maps"], records=by_participant["records"]
        )
    else:
        by_participant = {"maps": files_of(maps, batches, "_maps.npy")}
        if all_maps:
            by_participant["time_courses"] = files_of(all_maps, batches, "_timecourses.tsv")
            by_participant["all_maps"] = files_of(all_maps, batches, "_maps.npy")
        given = read_component_arm(
            arm, known, target, normalise=normalise, require_match=require_match, **by_participant, **tables
        )
    training = [name for name in known.training if name in given.final]
    test = [name for name in known.test if name in given.final]
    check_both_classes(known.array(training), f"the training participants of {fold}")

    if not test and "reported_folds" in (
        protocol["epoch"],
        protocol["hyperparameters"] if model.get("search") else None,
    ):
        raise InputError(
            f"no test participant of {fold} has this arm's input, and the protocol chooses by their loss; "
            "lower the arm's number of volumes"
        )
    journal = Path(sidecar).with_name("search.journal")
    read = _read(arm, by_participant, training, test, known)
    sources = [
        folds,
        labels,
        *watched_labels,
        *inherited,
        *(path for paths in tables.values() for path in paths),
        *read,
    ]
    identity = identity_of([protocol, arm, {**model, "search": None}, seed, n_inner_folds, voxel_size, gpu], sources)
    # Beside the outputs, which a workflow removes where a job failed.
    checkpoints = Checkpoints(Path(sidecar).with_name("checkpoints"), identity)
    run = _Run(
        known, given, cropped(target.mask, model.get("crop", "none")), training, n_inner_folds, seed, checkpoints
    )
    settings, tuning, how, inner = _hyperparameters(run, protocol, arm, model, test, inherited, identity, journal)
    if protocol["epoch"] == "inner_folds":
        inner = inner or run.inner(settings)
        epochs, watched = max(1, statistics.median_low(row["epoch"] for row in inner)), []
    else:
        epochs, watched = settings["epochs"], test
    for row in inner:
        run.keep(row["stage"], row.pop("losses"), row.pop("watched_losses"))
    samples = run.samples
    members = []
    for number in range(1, model.get("members", 1) + 1):
        name = "final" if number == 1 else f"final-{number}"
        members.append(run.train(name, samples, training, settings, epochs, watched))
        run.keep(name, members[-1].losses, members[-1].watched_losses)
    done, together = members[0], ensemble([member.model for member in members])
    at_once = model["batch_size"] if len(members) == 1 else 1  # an ensemble is not streamed
    write_predictions(predictions, test, predict(together, samples, test, at_once))
    write_table(history, pd.DataFrame(run.rows))
    with writing(network) as temporary:
        together.save(temporary)
    selected = None if given.selected is None else given.selected + 1
    write_sidecar(
        sidecar,
        fitted_on=training,
        labels_of=known.response,
        applied_to=test,
        sources=sources,
        parameters={"protocol": protocol, "arm": arm, "model": model, "fold": fold, "voxel_size": voxel_size},
        seed=seed,
        chosen={
            "epoch": done.epoch,
            "selected": selected,
            **{key: settings[key] for key in ("learning_rate", "epsilon", "dropout", "batch_size", "epochs")},
        },
        hyperparameters=how,
        tuning=tuning,
        scaling={"mean": samples.scaling.mean, "deviation": samples.scaling.deviation},
        inner_folds=inner,
        left_out=given.left_out,
        n_channels=samples.n_channels,
        n_parameters=trainable_parameters(together),
        # Means over all trainings of the fold: the final one alone may be a single epoch.
        training_loss_first=float(np.mean([losses[0] for losses in run.losses])),
        training_loss_last=float(np.mean([losses[-1] for losses in run.losses])),
        seconds=checkpoints.seconds,
        peak_memory_mb=peak_memory_mb(),
    )
    journal.unlink(missing_ok=True)
    checkpoints.remove()


def _read(
    arm: Mapping[str, Any],
    by_participant: Mapping[str, Mapping[str, Path]],
    training: Sequence[str],
    test: Sequence[str],
    known: Fold,
) -> list[Path]:
    """The participants' files that were read."""
    # The volumes' records stand for them; of maps the files themselves are named, so that the audit sees their cohort.
    named = ("records",) if arm["input"] == "volumes" else ("maps", "time_courses", "all_maps")
    readers = {"maps": {*training, *test}, "records": {*known.training, *known.test}}  # the others: training alone
    return [
        path
        for kind in named
        for name, path in by_participant.get(kind, {}).items()
        if name in readers.get(kind, known.training)
    ]


def _hyperparameters(
    run: _Run,
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    model: Mapping[str, Any],
    test: Sequence[str],
    inherited: Sequence[str | Path],
    identity: str,
    journal: Path,
) -> tuple[dict[str, Any], dict[str, Any] | None, str, list[dict[str, Any]]]:
    """The settings to train with, the record of their search, in words where they are from, and their inner trainings."""
    if not model.get("search"):
        return dict(model), None, NOT_EXERCISED, []
    if inherited:
        taken = read_json(inherited[0])["chosen"]
        words = f"taken over from arm {Path(inherited[0]).parts[-4]}"
        return _with(model, {name: taken[name] for name in SPACE}), None, words, []
    on_inner = protocol["hyperparameters"] == "inner_folds"

    def objective(setting: dict[str, float], report: Report) -> tuple[float, dict[str, Any]]:
        settings = _with(model, setting)
        try:
            if on_inner:
                rows = run.inner(settings, report)
                return float(np.mean([min(row["watched_losses"]) for row in rows])), {"inner": rows}
            done = run.train("final", run.samples, run.training, settings, settings["epochs"], test, report)
            return min(done.watched_losses), {}
        except Diverged:
            raise Pruned from None  # a learning rate too high for the data is no mistake of the search

    found = search(
        objective,
        SPACE,
        {name: float(model[name]) for name in SPACE},
        budget=model["search"],
        seed=seed_of(run.seed, run.fold.name, "search"),
        identity=identity,
        journal=journal,
    )
    where = "inner folds" if on_inner else "the reported fold"
    words = f"searched within a budget on {where} by log-loss, the config's values first"
    return _with(model, found.settings), found.record, words, found.facts.get("inner") or []


def _with(model: Mapping[str, Any], setting: Mapping[str, float]) -> dict[str, Any]:
    """The model with a setting in place of its own hyper-parameters."""
    return {**model, **setting, "epochs": int(setting["epochs"])}


class _Run:
    """The trainings of one fold, their seeds from fold and stage alone, and the history that those leave which count."""

    def __init__(
        self,
        fold: Fold,
        given: ArmInput,
        mask: np.ndarray,
        training: Sequence[str],
        n_inner_folds: int,
        seed: int,
        checkpoints: Checkpoints,
    ) -> None:
        self.fold, self.training, self.n_inner_folds, self.seed = fold, training, n_inner_folds, seed
        self._checkpoints = checkpoints
        self._given, self._mask = given, mask
        self.samples = Samples(given.final, mask, training)
        self.rows: list[dict[str, Any]] = []
        self.losses: list[list[float]] = []

    def train(
        self,
        name: str,
        samples: Samples,
        training: Sequence[str],
        settings: Mapping[str, Any],
        epochs: int,
        watched: Sequence[str],
        on_epoch: Report | None = None,
    ) -> Training:
        """Train once; every protocol and every trial of a search starts a stage from the same weights."""
        return train(
            samples,
            training,
            self.fold.response,
            settings,
            epochs=epochs,
            seed=seed_of(self.seed, self.fold.name, name),
            watched=watched,
            on_epoch=on_epoch,
            kept=self._kept(name, training, settings, epochs, watched),
        )

    def _kept(
        self, name: str, training: Sequence[str], settings: Mapping[str, Any], epochs: int, watched: Sequence[str]
    ) -> Kept:
        return self._checkpoints.of(name, [list(training), dict(settings), epochs, list(watched)])

    def keep(self, name: str, losses: list[float], watched_losses: list[float]) -> None:
        """Put a training into the history."""
        self.losses.append(losses)
        for index, loss in enumerate(losses):
            watched_loss = watched_losses[index] if watched_losses else np.nan
            self.rows.append({"stage": name, "epoch": index + 1, "loss": loss, "watched_loss": watched_loss})

    def inner(self, settings: Mapping[str, Any], report: Report | None = None) -> list[dict[str, Any]]:
        """Train on each inner fold, watching those it holds out; what each came to, in JSON types.

        `report` is told after each epoch the mean of the least watched losses, of this fold so far and of those before.
        """
        found: list[dict[str, Any]] = []
        response, training = self.fold.array(self.training), self.training
        splits = inner_folds(response, self.n_inner_folds, seed_of(self.seed, self.fold.name, "inner"))
        for number, held_out in enumerate(splits, start=1):
            inside = [training[index] for index in np.delete(np.arange(len(training)), held_out)]
            outside = [training[index] for index in held_out]
            channels, chosen = self._given.inner(inside, outside, self.fold.response)
            samples, before = Samples(channels, self._mask, inside), [min(row["watched_losses"]) for row in found]

            def on_epoch(epoch: int, least: float, number: int = number, before: list[float] = before) -> None:
                report((number - 1) * _STEPS + epoch, float(np.mean([*before, least])))

            told = on_epoch if report else None
            name = f"inner-{number}"
            kept = self._kept(name, inside, settings, settings["epochs"], outside)
            row = kept.finished()
            if row is None:
                done = self.train(name, samples, inside, settings, settings["epochs"], outside, told)
                row = {
                    "stage": name,
                    "fitted_on": inside,
                    "watched": outside,
                    "epoch": done.epoch,
                    "selected": None if chosen is None else [int(index) + 1 for index in chosen],
                    "loss_first": done.losses[0],
                    "loss_last": done.losses[-1],
                    "losses": [float(loss) for loss in done.losses],
                    "watched_losses": [float(loss) for loss in done.watched_losses],
                }
                kept.finish(row)
            elif told:
                for epoch in range(1, len(row["watched_losses"]) + 1):
                    told(epoch, min(row["watched_losses"][:epoch]))
            found.append(row)
        return found
