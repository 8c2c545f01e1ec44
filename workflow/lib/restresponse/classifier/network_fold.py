"""The job of one fold of a network: choose the epoch as the protocol says, train, predict the test participants."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.arms import ArmInput, read_component_arm, read_volume_arm
from restresponse.classifier.fold import Fold, peak_memory_mb, write_predictions
from restresponse.classifier.inner import check_both_classes, inner_folds, seed_of
from restresponse.classifier.inputs import ClassifierGrid, Samples
from restresponse.classifier.network import prepare, trainable_parameters
from restresponse.classifier.training import Training, predict, train
from restresponse.errors import InputError
from restresponse.files import write_table, writing
from restresponse.provenance import write_sidecar

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
    all_maps: Sequence[str | Path] = (),
    **tables: Sequence[str | Path],
) -> None:
    """Train one fold's network and write its predictions, history, weights and sidecar.

    `maps` are the folders of the arm's maps or volumes, one for each of `batches`; `all_maps` those of the maps on all
    components, where inner folds refit. `protocol`, `arm` and `model` are rows of the config; `tables` are those of
    `read_component_arm`.
    """
    import pandas as pd

    prepare(gpu)
    started = time.perf_counter()
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

    run = _Run(known, model, seed)
    inner: list[dict[str, Any]] = []
    if protocol["epoch"] == "inner_folds":
        inner = run.inner(given, training, target.mask, n_inner_folds)
        epochs, watched = max(1, statistics.median_low(row["epoch"] for row in inner)), []
    elif test:
        epochs, watched = model["epochs"], test
    else:
        raise InputError(
            f"no test participant of {fold} has this arm's input, and the protocol stops training by their loss; "
            "lower the arm's number of volumes"
        )
    samples = Samples(given.final, target.mask, training)
    done = run.stage("final", samples, training, epochs, watched)
    write_predictions(predictions, test, predict(done.model, samples, test, model["batch_size"]))
    write_table(history, pd.DataFrame(run.rows))
    with writing(network) as temporary:
        done.model.save(temporary)
    selected = None if given.selected is None else given.selected + 1
    # The volumes' records stand for them; of maps the files themselves are named, so that the audit sees their cohort.
    named = ("records",) if arm["input"] == "volumes" else ("maps", "time_courses", "all_maps")
    readers = {"maps": {*training, *test}, "records": {*known.training, *known.test}}  # the others: training alone
    read = [
        path
        for kind in named
        for name, path in by_participant.get(kind, {}).items()
        if name in readers.get(kind, known.training)
    ]
    write_sidecar(
        sidecar,
        fitted_on=training,
        labels_of=known.response,
        applied_to=test,
        sources=[folds, labels, *watched_labels, *(path for paths in tables.values() for path in paths), *read],
        parameters={"protocol": protocol, "arm": arm, "model": model, "fold": fold, "voxel_size": voxel_size},
        seed=seed,
        chosen={
            "epoch": done.epoch,
            "selected": selected,
            **{key: model[key] for key in ("learning_rate", "epsilon", "dropout", "batch_size")},
        },
        hyperparameters=NOT_EXERCISED,
        scaling={"mean": samples.scaling.mean, "deviation": samples.scaling.deviation},
        inner_folds=inner,
        left_out=given.left_out,
        n_channels=samples.n_channels,
        n_parameters=trainable_parameters(done.model),
        # Means over all trainings of the fold: the final one alone may be a single epoch.
        training_loss_first=float(np.mean([losses[0] for losses in run.losses])),
        training_loss_last=float(np.mean([losses[-1] for losses in run.losses])),
        seconds=time.perf_counter() - started,
        peak_memory_mb=peak_memory_mb(),
    )


class _Run:
    """The trainings of one fold and the history they leave."""

    def __init__(self, fold: Fold, model: Mapping[str, Any], seed: int) -> None:
        self._fold, self._model, self._seed = fold, model, seed
        self.rows: list[dict[str, Any]] = []
        self.losses: list[list[float]] = []

    def stage(
        self, name: str, samples: Samples, training: Sequence[str], epochs: int, watched: Sequence[str]
    ) -> Training:
        """Train once, its seed from fold and stage alone, so that every protocol starts from the same weights."""
        done = train(
            samples,
            training,
            self._fold.response,
            self._model,
            epochs=epochs,
            seed=seed_of(self._seed, self._fold.name, name),
            watched=watched,
        )
        self.losses.append(done.losses)
        for index, loss in enumerate(done.losses):
            watched_loss = done.watched_losses[index] if done.watched_losses else np.nan
            self.rows.append({"stage": name, "epoch": index + 1, "loss": loss, "watched_loss": watched_loss})
        return done

    def inner(self, given: ArmInput, training: Sequence[str], mask: np.ndarray, n_folds: int) -> list[dict[str, Any]]:
        """Train on each inner fold, watching those it holds out; what each came to."""
        found = []
        splits = inner_folds(self._fold.array(training), n_folds, seed_of(self._seed, self._fold.name, "inner"))
        for number, held_out in enumerate(splits, start=1):
            inside = [training[index] for index in np.delete(np.arange(len(training)), held_out)]
            outside = [training[index] for index in held_out]
            channels, chosen = given.inner(inside, outside, self._fold.response)
            samples = Samples(channels, mask, inside)
            done = self.stage(f"inner-{number}", samples, inside, self._model["epochs"], outside)
            found.append(
                {
                    "stage": f"inner-{number}",
                    "fitted_on": inside,
                    "watched": outside,
                    "epoch": done.epoch,
                    "selected": None if chosen is None else chosen + 1,
                    "loss_first": done.losses[0],
                    "loss_last": done.losses[-1],
                }
            )
        return found
