"""The jobs that predict the percent fall of pain and score it, as their rules call them, in the working directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from restresponse.classifier.measured_fold import fit_measured
from restresponse.classifier.protocols import measured_files, measured_models
from restresponse.metrics.measured import write_measured
from restresponse.plan import Plan

FOLDER = "results/classifier/measured"


def predict_change(
    plan: Plan,
    batches: Mapping[str, Sequence[str]],
    fold: str,
    *,
    thresholds: Sequence[float],
    n_permutations: int,
    seed: int,
) -> None:
    """Fit a fold's models of the change."""
    fit_measured(
        **measured_files(plan, list(batches), fold),
        batches=batches,
        fold=fold,
        models=measured_models(plan),
        arms=plan.arms,
        settings_of=plan.models,
        thresholds=thresholds,
        n_permutations=n_permutations,
        seed=seed,
        n_inner_folds=2,
        normalise=True,
        require_match=False,
        predictions=f"{FOLDER}/{fold}/predictions.tsv",
        permuted=f"{FOLDER}/{fold}/permuted.npy",
        sidecar=f"{FOLDER}/{fold}/model.json",
    )


def score_change(
    plan: Plan, folder: str | Path, *, thresholds: Sequence[float], n_permutations: int, resamples: int
) -> None:
    """Write the tables of all folds' predictions of the change into `folder`."""
    write_measured(
        folds="results/folds/folds.tsv",
        outcomes="results/folds/outcomes/all.tsv",
        predictions={fold: f"{FOLDER}/{fold}/predictions.tsv" for fold in plan.folds},
        permuted={fold: f"{FOLDER}/{fold}/permuted.npy" for fold in plan.folds},
        models=measured_models(plan),
        thresholds=thresholds,
        resamples=resamples,
        confidence=0.95,
        n_permutations=n_permutations,
        seed=1,
        scores=f"{folder}/change.tsv",
        sweep=f"{folder}/thresholds.tsv",
        pairs=f"{folder}/change_predictions.tsv",
    )
