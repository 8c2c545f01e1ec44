"""The job that explains one fold's model: what each network adds to the decisions on the fold's test participants.

It applies the fold's own model to the fold's own input and reads no label; true outcomes meet its numbers in `metrics`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.architectures import n_parameters
from restresponse.classifier.arms import read_component_arm, read_volume_arm
from restresponse.classifier.attribution import Decision, LinearDecision, NetworkDecision, contributions
from restresponse.classifier.fold import Fold
from restresponse.classifier.inner import seed_of
from restresponse.classifier.inputs import ClassifierGrid
from restresponse.classifier.ladder import CLEAN
from restresponse.classifier.options import cropped
from restresponse.classifier.protocols import network_files
from restresponse.components.templates import network_templates
from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_array, write_table
from restresponse.grid import grid
from restresponse.plan import Plan
from restresponse.provenance import write_sidecar

COLUMNS = ("participant_id", "what", "name", "measure", "trained", "randomised")
_TOLERANCE = 0.01  # of a probability: mixed precision and another machine differ by less, another model by more


def explained(plan: Plan, wanted: bool) -> list[tuple[str, str, str]]:
    """The (protocol, arm, model) to explain: those of the clean protocol at the study's own order, where that is wanted."""
    return list(
        dict.fromkeys(
            key[:3]
            for key in plan.classifications
            if wanted and key[0] == CLEAN and plan.order_of(key[1]) == plan.orders[0]
        )
    )


def explanation_files(plan: Plan, batches: Sequence[str], wildcards: Any) -> dict[str, Any]:
    """Input files of `classifier_explain`: the fold's model, what it predicted, and its input; no label table."""
    given = network_files(plan, batches, wildcards)
    folder = f"results/classifier/{wildcards.protocol}/{wildcards.arm}/{wildcards.model}/{wildcards.fold}"
    ending = "keras" if plan.models[wildcards.model]["kind"] == "network" else "npz"
    return {
        **{key: given[key] for key in ("mask", "maps", "selection")},
        "fitted": f"{folder}/model.{ending}",
        "facts": f"{folder}/model.json",
        "predictions": f"{folder}/predictions.tsv",
    }


def explanation_memory(plan: Plan, config: Mapping[str, Any], wildcards: Any) -> int:
    """Memory in MiB to ask for `classifier_explain`: the library, and some copies of one sample and of the weights."""
    classifier = config["classifier"]
    arm, model = plan.arms[wildcards.arm], plan.models[wildcards.model]
    channels = arm["volumes"] if arm["input"] == "volumes" else plan.order_of(wildcards.arm)
    shape, _ = grid(classifier["voxel_size"] or config["functional"]["voxel_size"])
    sample = max(128.0, math.prod(shape) * channels * 4 / 2**20)
    weights = n_parameters(model["preset"], shape, channels) * 4 / 2**20 if model["kind"] == "network" else 0
    return int(1500 + 9 * sample + 4 * weights * model.get("members", 1))


def explain_fold(
    *,
    mask: str | Path,
    maps: Sequence[str | Path],
    fitted: str | Path,
    facts: str | Path,
    predictions: str | Path,
    batches: Mapping[str, Sequence[str]],
    fold: str,
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    model: Mapping[str, Any],
    voxel_size: float | None,
    seed: int,
    table: str | Path,
    attribution: str | Path,
    sidecar: str | Path,
    selection: Sequence[str | Path] = (),
    template: Sequence[str | Path] = (),
    template_labels: Sequence[str | Path] = (),
) -> None:
    """Write what each component and each network adds to the decision on every test participant of a fold.

    Parameters
    ----------
    maps, selection : as the job of the network has them
    fitted, facts, predictions : the fold's model, its sidecar, and what it predicted
    protocol, arm, model : rows of the config
    template, template_labels : image and names of the networks whose regions are occluded, or none: `network_templates`
    table : to write, with the columns of `COLUMNS`, of the model and of the same with its weights shuffled, log-odds
    attribution : (n_test, n_voxels) array to write, integrated gradients on the classifier's grid summed over channels

    Raises
    ------
    InputError
        A model that cannot be read, or that does not give the fold's own predictions.
    """
    import pandas as pd

    known = read_json(facts)
    target = ClassifierGrid.of(mask, voxel_size)
    training, test = known["fitted_on"], known["applied_to"]
    if not test:
        raise InputError(
            f"{facts} names no test participant; expected at least one to explain: remove it and run again"
        )
    people = Fold(fold, training, test, {}, {fold: test})
    if arm["input"] == "volumes":
        volumes, records = (files_of(maps, batches, ending) for ending in (".npy", ".json"))
        given = read_volume_arm(arm["volumes"], people, target, volumes=volumes, records=records)
        channels: dict[str, int] = {}
    else:
        volumes = files_of(maps, batches, "_maps.npy")
        given = read_component_arm(
            arm, people, target, maps=volumes, selection=selection, normalise=True, require_match=False
        )
        numbers = known["chosen"]["selected"] or range(1, len(given.final[test[0]]) + 1)
        channels = {str(number): position for position, number in enumerate(numbers)}
    mean, deviation = (np.asarray(known["scaling"][key], np.float32)[:, None] for key in ("mean", "deviation"))

    def scaled(names: Sequence[str]) -> Iterator[np.ndarray]:
        return ((given.final[name] - mean) * (1 / deviation) for name in names)

    middle = sum(sample.astype(np.float64) for sample in scaled(training)) / len(training)
    if model["kind"] == "network":
        decision: Decision = read_decision(fitted, cropped(target.mask, model.get("crop", "none")))
    else:
        decision = _linear(fitted, training, scaled(training), middle)
    middle = middle.astype(np.float32)
    _check_predictions(decision, test, scaled(test), predictions, fitted)

    images, labels = ([*paths, None][0] for paths in (template, template_labels))
    networks = network_templates(target.mask, target.affine, images, labels)
    # The same voxels of a network as its Dice with a component counts.
    regions = {name: values > 0.5 * values.max() for name, values in zip(*networks, strict=True) if values.any()}
    shuffled = decision.randomised(seed_of(seed, fold, "explanation"))
    rows, volumes_of = [], []
    for name, sample in zip(test, scaled(test), strict=True):
        added, by_voxel = contributions(decision, sample, middle, regions, channels)
        other, _ = contributions(shuffled, sample, middle, regions, channels)
        rows += [(name, *key, value, other[key]) for key, value in added.items()]
        volumes_of.append(by_voxel)
    write_table(table, pd.DataFrame(rows, columns=list(COLUMNS)))
    write_array(attribution, np.stack(volumes_of))
    read = [volumes[name] for name in (*training, *test)] if arm["input"] == "components" else []
    write_sidecar(
        sidecar,
        fitted_on=training,
        labels_of=known["labels_of"],
        applied_to=test,
        sources=[mask, fitted, facts, predictions, *selection, *template, *template_labels, *read],
        parameters={"protocol": protocol, "arm": arm, "model": model, "fold": fold, "voxel_size": voxel_size},
        seed=seed,
        steps=decision.steps,
        participants=test,
    )


def read_decision(path: str | Path, mask: np.ndarray) -> NetworkDecision:
    """The decision of a network that a fold saved, on the classifier's grid."""
    from restresponse.classifier.network import prepare, read_network

    prepare(0)
    model = read_network(path)
    found = tuple(model.input_shape[1:4])
    if found != mask.shape:
        raise InputError(
            f"{path} takes {' x '.join(map(str, found))} voxels and the classifier's grid has {' x '.join(map(str, mask.shape))}; "
            "expected the same: remove it and run again"
        )
    return NetworkDecision(model, mask)


def _linear(
    path: str | Path, training: Sequence[str], samples: Iterator[np.ndarray], middle: np.ndarray
) -> LinearDecision:
    """A linear model's weight of every voxel, from its weights of the training participants."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = stored["participants"].tolist()
            dual, intercept = stored["dual_coefficients"], float(stored["intercept"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as a linear model ({type(error).__name__}); expected a whole model.npz of this "
            "workflow: remove it and run again"
        ) from error
    if names != list(training):
        raise InputError(f"{path} and its sidecar name different training participants; remove both and run again")
    weights = sum(weight * sample for weight, sample in zip(dual, samples, strict=True)) - dual.sum() * middle
    return LinearDecision(weights, middle, intercept)


def _check_predictions(
    decision: Decision, test: Sequence[str], samples: Iterator[np.ndarray], predictions: str | Path, fitted: str | Path
) -> None:
    """Raise `InputError` where the model that was read is not the one that made the fold's predictions."""
    from scipy.special import expit

    scores = read_table(predictions).set_index("participant_id")["y_score"].reindex(test).to_numpy(np.float64)
    found = np.array([expit(decision(sample[None])[0]) for sample in samples])
    gap = np.abs(found - scores)
    if not np.all(gap < _TOLERANCE):
        raise InputError(
            f"{fitted} gives other scores than {predictions} (by up to {np.max(gap):.2g}); expected the same within "
            f"{_TOLERANCE:g}: remove both and run again"
        )
