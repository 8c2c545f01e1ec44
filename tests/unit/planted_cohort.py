"""A cohort on the MNI grid whose components are four of the atlas's networks, two of them stronger in responders."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from classifier_cohort import FOLDS, N_COMPONENTS, N_SCANS, Cohort, config, job_of

from restresponse.classifier.explanation import explain_fold, explanation_files
from restresponse.classifier.linear_fold import fit_fold
from restresponse.components.templates import network_templates
from restresponse.files import read_table, write_table
from restresponse.grid import brain_mask, grid
from restresponse.metrics.explanation import write_explanations
from restresponse.metrics.left_out import left_out_cases, write_left_out
from restresponse.plan import Plan

VOXEL_SIZE = 6.0  # mm, the coarsest grid that VoxNet takes
PLANTED = (1, 3)  # components, from 0


def planted_cohort(n: int = 36, effect: float = 0.5, seed: int = 4) -> tuple[Cohort, list[str]]:
    """Maps of noise around the networks' own, `effect` more of the planted ones in responders, and the networks' names."""
    mask, (_, affine) = brain_mask(VOXEL_SIZE), grid(VOXEL_SIZE)
    names, maps = network_templates(mask, affine)
    chosen = np.linspace(0, len(names) - 1, N_COMPONENTS).astype(int)
    components = maps[chosen]
    components = (components - components.mean(axis=1, keepdims=True)) / components.std(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    response = np.tile([1, 0], n)[:n]
    noise = rng.standard_normal((n, *components.shape))
    amplitude = 1 + 0.2 * rng.standard_normal((n, N_COMPONENTS))
    amplitude[:, PLANTED] += effect * response[:, None]
    found = (amplitude[:, :, None] * components + noise).astype(np.float32)
    courses = rng.standard_normal((n, N_SCANS, N_COMPONENTS))
    people = [f"sub-{number:02d}" for number in range(1, n + 1)]
    return Cohort(found, mask, response, courses, components, people, affine=affine), [names[index] for index in chosen]


def explain(cohort: Cohort, kind: str, arm: str, arguments: dict, folder) -> pd.DataFrame:
    """The job that explains one fold's model, given the arguments and the folder of the model's own job; its table."""
    model, fold = "linear" if kind == "linear" else "voxnet", arguments["fold"]
    wildcards = SimpleNamespace(protocol="clean", arm=arm, model=model, fold=fold)
    explain_fold(
        **explanation_files(Plan.of(config()), list(cohort.batches), wildcards),
        **{key: arguments[key] for key in ("batches", "fold", "protocol", "arm", "model")},
        voxel_size=None,
        seed=1,
        table=folder / "explanation.tsv",
        attribution=folder / "explanation.npy",
        sidecar=folder / "explanation.json",
    )
    return read_table(folder / "explanation.tsv", ("participant_id", "what", "name", "measure"))


def write_explained(intervals: dict[str, tuple[float, float, float]]) -> tuple[Cohort, list[str]]:
    """Every fold's linear model of arms asc and ssc, explained, fitted again without each component, and joined, under the current folder.

    `intervals`: the AUC of each arm and its interval, for the decision to withhold.
    """
    cohort, names = planted_cohort()
    cohort.write()
    cohort.write_kernels()
    folders, parts = [], []
    for arm in intervals:
        for fold in FOLDS:
            arguments, folder = job_of(cohort, "linear", "clean", arm, fold)
            fit_fold(**arguments)
            explain(cohort, "linear", arm, arguments, folder)
            folders.append(folder)
            facts = {"protocol": "clean", "arm": arm, "model": "linear", "fold": fold}
            parts.append(read_table(folder / "predictions.tsv").assign(**facts))
    predictions = pd.concat(parts)
    predictions["response"] = predictions["participant_id"].map(dict(zip(cohort.names, cohort.response, strict=True)))
    write_table("results/metrics/predictions.tsv", predictions)
    rows = [("clean", arm, "linear", "auc", "mean", *interval) for arm, interval in intervals.items()]
    columns = ["protocol", "arm", "model", "metric", "scope", "value", "low", "high"]
    write_table("results/metrics/metrics.tsv", pd.DataFrame(rows, columns=columns))
    order = f"order-{N_COMPONENTS}"
    named = pd.DataFrame({"component": range(1, N_COMPONENTS + 1), "network": names})
    write_table(f"results/components/all/{order}/matches.tsv", named)
    write_explanations(
        metrics="results/metrics/metrics.tsv",
        predictions="results/metrics/predictions.tsv",
        tables=[folder / "explanation.tsv" for folder in folders],
        attributions=[folder / "explanation.npy" for folder in folders],
        sidecars=[folder / "explanation.json" for folder in folders],
        reference=f"results/group_ica/all/{order}/components.npy",
        networks=f"results/components/all/{order}/matches.tsv",
        fold_components=[f"results/group_ica/{fold}/{order}/components.npy" for fold in FOLDS],
        mask="results/quality/group_mask.nii.gz",
        explained=[("clean", arm, "linear") for arm in intervals],
        folds=FOLDS,
        voxel_size=None,
        confidence=0.95,
        explanation="results/metrics/explanation",
    )
    plan = Plan.of(config())
    write_left_out(
        metrics="results/metrics/metrics.tsv",
        reference=f"results/group_ica/all/{order}/components.npy",
        networks=f"results/components/all/{order}/matches.tsv",
        fold_components={fold: f"results/group_ica/{fold}/{order}/components.npy" for fold in FOLDS},
        cases=left_out_cases(plan, list(cohort.batches), [("clean", arm, "linear") for arm in intervals]),
        batches=cohort.batches,
        protocols=plan.protocols,
        arms=plan.arms,
        models=plan.models,
        seed=1,
        n_inner_folds=2,
        normalise=True,
        require_match=False,
        resamples=200,
        confidence=0.95,
        table="results/metrics/left_out.tsv",
    )
    return cohort, names
