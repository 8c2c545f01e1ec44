"""The job of one fold of a linear model: choose the penalty as the protocol says, fit, predict the test participants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.classifier.fold import Fold, peak_memory_mb, write_predictions
from restresponse.classifier.inner import check_both_classes, seed_of
from restresponse.classifier.kernel_files import KernelFiles
from restresponse.classifier.linear import Split, choose_penalty, fit, inner_splits, searched_penalty
from restresponse.classifier.search import exhaustive, identity_of
from restresponse.classifier.selection import read_selection
from restresponse.files import writing
from restresponse.provenance import write_sidecar


def fit_fold(
    *,
    folds: str | Path,
    labels: str | Path,
    batches: Mapping[str, Sequence[str]],
    fold: str,
    views: Mapping[str, str],
    protocol: Mapping[str, Any],
    arm: Mapping[str, Any],
    model: Mapping[str, Any],
    seed: int,
    n_inner_folds: int,
    normalise: bool,
    require_match: bool,
    predictions: str | Path,
    coefficients: str | Path,
    sidecar: str | Path,
    watched_labels: Sequence[str | Path] = (),
    selection: Sequence[str | Path] = (),
    **files: Sequence[str | Path],
) -> None:
    """Fit one fold's logistic ridge and write its predictions, coefficients and sidecar.

    Parameters
    ----------
    files : those of `KernelFiles`, for each distinct cohort of `views`, in order
    selection : one table for each fold of `views`, or none
    views : the cohort of each fold looked at, `fold` first; more than one where the penalty is chosen on reported folds
    protocol, arm, model : rows of the config
    """
    known = Fold.read(fold, folds, labels, watched_labels)
    started = time.perf_counter()
    kernels = KernelFiles(**files).read(
        list(dict.fromkeys(views.values())),
        batches,
        p=arm.get("p"),
        normalise=normalise,
        require_match=require_match,
    )
    names = kernels.names
    kernels.at([*known.training, *known.test])  # whoever has no maps is told
    position = {name: index for index, name in enumerate(names)}
    response = known.array(names)

    def split_of(view: str, number: int) -> Split:
        test = [name for name in known.tests[view] if name in position]
        outside = set(test)
        training = known.training if view == fold else sorted(set(known.response) - outside)
        chosen = read_selection(selection[number], arm["p"]) if selection else None
        return Split(kernels.products[views[view]], _at(position, training), _at(position, test), chosen)

    splits = [split_of(view, number) for number, view in enumerate(views)]
    own = splits[0]
    check_both_classes(response[own.training], f"the training participants of {fold}")
    if protocol["hyperparameters"] == "inner_folds":
        selector = kernels.selectors.get(views[fold])
        choose = None if selector is None else selector.on
        watched = inner_splits(
            own.products,
            own.training,
            response,
            n_inner_folds,
            seed_of(seed, fold, "inner"),
            selected=own.selected,
            choose=choose,
        )
    else:
        watched = splits
    read_files = [folds, labels, *watched_labels, *selection, *kernels.sources, *kernels.time_courses]
    journal = Path(sidecar).with_name("search.journal")
    if model.get("search"):
        found = searched_penalty(
            watched,
            response,
            model["penalties"],
            model["search"],
            seed_of(seed, fold, "search"),
            identity=identity_of([protocol, arm, {**model, "search": None}, seed, n_inner_folds], read_files),
            journal=journal,
        )
        penalty, tuning = found.settings["penalty"], found.record
    else:
        penalty, candidates = choose_penalty(watched, response, model["penalties"])
        tuning = exhaustive("penalty", candidates)
    fitted = fit(own, response, penalty)

    test = [names[index] for index in own.watched]
    training = [names[index] for index in own.training]
    scaling = own.products.channels(own.selected).scaling(own.training)
    selected = None if own.selected is None else own.selected + 1
    write_predictions(predictions, test, fitted.scores[own.watched])
    with writing(coefficients) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            allow_pickle=False,
            participants=np.array(training),
            dual_coefficients=fitted.dual_coefficients,
            intercept=np.array(fitted.intercept),
            deviation=scaling.deviation,
            selected=np.arange(1, len(scaling.mean) + 1) if selected is None else selected,
        )
    write_sidecar(
        sidecar,
        fitted_on=training,
        labels_of=known.response,
        applied_to=test,
        sources=read_files,
        parameters={"protocol": protocol, "arm": arm, "model": model, "fold": fold},
        seed=seed,
        chosen={"penalty": penalty, "selected": selected},
        hyperparameters=f"penalty chosen on {protocol['hyperparameters'].replace('_', ' ')} by mean AUC",
        tuning=tuning,
        scaling={"mean": scaling.mean, "deviation": scaling.deviation},
        inner_folds=[
            {
                "fitted_on": [names[index] for index in split.training],
                "watched": [names[index] for index in split.watched],
                "selected": None if split.selected is None else split.selected + 1,
            }
            for split in (watched if protocol["hyperparameters"] == "inner_folds" else [])
        ],
        left_out=[],
        n_channels=len(scaling.mean),
        n_parameters=len(training) + 1,
        seconds=time.perf_counter() - started,
        peak_memory_mb=peak_memory_mb(),
    )
    journal.unlink(missing_ok=True)


def _at(position: Mapping[str, int], names: Sequence[str]) -> np.ndarray:
    return np.array([position[name] for name in names], int)
