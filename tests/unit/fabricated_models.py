"""The fabricated results' models of every fold: by their own jobs, but for the network, whose scores are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from fabricated_cohort import ORDER, PARTICIPANTS, RESPONDERS, VOXEL_SIZE, batch_of, scan_of
from measured_jobs import predict_change

from restresponse.batches import batches_of, files_of
from restresponse.classifier.baselines import baseline_files, fit_baselines
from restresponse.classifier.connectivity import measure_batch
from restresponse.classifier.inputs import Samples
from restresponse.classifier.linear_fold import fit_fold
from restresponse.classifier.protocols import linear_files, linear_views
from restresponse.dataset.characteristics import write_characteristics
from restresponse.files import read_table, write_table
from restresponse.grid import brain_mask
from restresponse.plan import Plan
from restresponse.provenance import write_sidecar

N_OUTCOMES = 30  # permutations of the percent fall of pain


def write_linear(plan: Plan, config: dict[str, Any], protocol: str, arm: str, model: str, fold: str) -> None:
    """The linear model's own job."""
    batches = batches_of(PARTICIPANTS, config["batch"])
    wildcards = SimpleNamespace(protocol=protocol, arm=arm, model=model, fold=fold)
    folder = f"results/classifier/{protocol}/{arm}/{model}/{fold}"
    fit_fold(
        **linear_files(plan, list(batches), wildcards),
        batches=batches,
        fold=fold,
        views=linear_views(plan, wildcards),
        protocol=plan.protocols[protocol],
        arm=plan.arms[arm],
        model=plan.models[model],
        seed=1,
        n_inner_folds=2,
        normalise=True,
        require_match=False,
        predictions=f"{folder}/predictions.tsv",
        coefficients=f"{folder}/model.npz",
        sidecar=f"{folder}/model.json",
    )


def write_network(plan: Plan, config: dict[str, Any], protocol: str, arm: str, model: str, fold: str) -> None:
    """Made-up scores of a network, with a sidecar as its job writes it. `rsp` leaves out sub-04, whose scan is short."""
    folder = f"results/classifier/{protocol}/{arm}/{model}/{fold}"
    tested = read_table("results/folds/folds.tsv")
    test = sorted(tested.loc[tested["fold"] == fold, "participant_id"])
    own = f"results/folds/labels/{fold}.tsv"
    watched = ["results/folds/labels/all.tsv"] if plan.protocols[protocol]["epoch"] == "reported_folds" else []
    training = sorted(read_table(own)["participant_id"])
    read = sorted({name for path in (own, *watched) for name in read_table(path)["participant_id"]})
    short = ["sub-04"] if arm == "rsp" else []
    kept = [name for name in test if name not in short]
    nothing_differs = arm == "rsp" and plan.protocols[protocol]["epoch"] == "inner_folds"
    rng = np.random.default_rng([len("clean" if nothing_differs else protocol), len(arm), int(fold[-2:])])
    gain = {"asc": 1.5, "ssc": 0.8, "rsp": 0.0}[arm] + (0.8 if protocol == "paper" else 0)
    decision = np.array([gain * (2 * (name in RESPONDERS) - 1) for name in kept]) + rng.normal(size=len(kept))
    write_table(
        f"{folder}/predictions.tsv", pd.DataFrame({"participant_id": kept, "y_score": 1 / (1 + np.exp(-decision))})
    )
    write_sidecar(
        f"{folder}/model.json",
        fitted_on=[name for name in training if name not in short],
        labels_of=read,
        applied_to=kept,
        sources=[
            "results/folds/folds.tsv",
            own,
            *watched,
            *maps_of(plan, config, protocol, arm, fold, training + test),
        ],
        parameters={"protocol": plan.protocols[protocol], "arm": plan.arms[arm], "model": plan.models[model]},
        seed=1,
        chosen={"epoch": 12},
        hyperparameters="not exercised; values taken from the config",
        inner_folds=[],
        scaling=scaling_of(plan, config, protocol, arm, fold, [name for name in training if name not in short]),
        left_out=[{"participant_id": name, "reason": "12 volumes, the arm takes 20"} for name in short],
        n_parameters=1404641,
        seconds=90.0,
        peak_memory_mb=1500.0,
        training_loss_first=0.7,
        training_loss_last=0.3,
    )


def maps_of(
    plan: Plan, config: dict[str, Any], protocol: str, arm: str, fold: str, participants: list[str]
) -> list[str]:
    """The maps that a network's job reads."""
    if plan.arms[arm]["input"] == "volumes":
        return []
    labels = f"ssc_labels-{plan.selection_labels(protocol, fold)}_p-0.1" if plan.arms[arm]["select"] else "asc"
    folder = f"results/dual_regression/{plan.cohort(protocol, fold)}/order-{ORDER}/{labels}"
    batches = batches_of(PARTICIPANTS, config["batch"])
    return list(files_of([f"{folder}/{batch}" for batch in batches], batches, "_maps.npy", participants).values())


def scaling_of(
    plan: Plan, config: dict[str, Any], protocol: str, arm: str, fold: str, participants: list[str]
) -> dict[str, np.ndarray]:
    """The scaling of a network's input, fitted on `participants`."""
    paths = dict(zip(participants, maps_of(plan, config, protocol, arm, fold, participants), strict=False))
    batches = batches_of(PARTICIPANTS, config["batch"])
    if not paths:
        folder = "results/classifier/volumes"
        paths = {name: f"{folder}/{batch_of(batches, name)}/{name}.npy" for name in participants}
    mask = brain_mask(VOXEL_SIZE)
    samples = Samples({name: np.load(path) for name, path in paths.items()}, mask, participants)
    return {"mean": samples.scaling.mean, "deviation": samples.scaling.deviation}


def write_baselines(plan: Plan, config: dict[str, Any], batches: dict[str, list[str]]) -> None:
    """What is known before treatment, the measures of each scan, and every fold's baselines."""
    write_characteristics(
        "results/dataset/participants.tsv",
        "results/dataset/characteristics.tsv",
        columns=config["metrics"]["baselines"],
        outcome=config["dataset"]["outcome"],
    )
    for batch, members in batches.items():
        measure_batch(
            preprocessed=[f"results/functional/{scan_of(name)}" for name in members],
            denoised=f"results/functional/denoised/{batch}",
            scans={name: [scan_of(name)] for name in members},
            quality=f"results/quality/scans/{batch}",
            inclusion="results/quality/inclusion.tsv",
            mask="results/quality/group_mask.nii.gz",
            folder=f"results/classifier/connectivity/{batch}",
        )
    for fold in plan.folds:
        folder = f"results/classifier/baselines/{fold}"
        fit_baselines(
            **baseline_files(list(batches), ORDER, fold),
            batches=batches,
            fold=fold,
            predictions=f"{folder}/predictions.tsv",
            sidecar=f"{folder}/model.json",
        )


def write_changes(plan: Plan, config: dict[str, Any], batches: dict[str, list[str]]) -> None:
    """Every fold's models of the percent fall of pain."""
    for fold in plan.folds:
        predict_change(
            plan, batches, fold, thresholds=config["metrics"]["thresholds"], n_permutations=N_OUTCOMES, seed=1
        )
