"""The fabricated results' tables of stage `metrics`, by its own jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from fabricated_cohort import ORDER, scan_of
from fabricated_models import N_OUTCOMES
from measured_jobs import score_change

from restresponse.batches import files_of
from restresponse.classifier.protocols import reported_folds
from restresponse.metrics.audit import audit_run
from restresponse.metrics.collect import collect_predictions
from restresponse.metrics.curve import curve_cases, write_curve
from restresponse.metrics.further import write_further
from restresponse.metrics.group_maps import write_group_maps
from restresponse.metrics.optimism import score_predictions
from restresponse.metrics.permutations import chunk_range, collect_null, null_files, permutation_files, write_null
from restresponse.metrics.tables import write_tables


def write_metrics(tree: SimpleNamespace) -> None:
    """The tables of stage `metrics`, by its own jobs."""
    plan, metrics = tree.plan, "results/metrics"
    models = ["results/classifier/" + "/".join(key) for key in plan.classifications]
    collect_predictions(
        files={key: f"{model}/predictions.tsv" for key, model in zip(plan.classifications, models, strict=True)},
        folds="results/folds/folds.tsv",
        labels="results/dataset/labels.tsv",
        training={fold: f"results/folds/labels/{fold}.tsv" for fold in plan.folds},
        predictions=f"{metrics}/predictions.tsv",
        baselines={fold: f"results/classifier/baselines/{fold}/predictions.tsv" for fold in plan.folds},
    )
    write_null_tables(tree)
    write_component_tables(tree)
    thresholds = tree.config["metrics"]["thresholds"]
    score_change(plan, metrics, thresholds=thresholds, n_permutations=N_OUTCOMES, resamples=200)
    score_predictions(
        predictions=f"{metrics}/predictions.tsv",
        metrics=f"{metrics}/metrics.tsv",
        optimism=f"{metrics}/optimism.tsv",
        protocols=plan.protocols,
        arms=plan.arms,
        models=plan.models,
        resamples=200,
        confidence=0.95,
        seed=1,
    )
    audit(tree)
    write_tables(
        participants="results/dataset/participants.tsv",
        labels="results/folds/labels/all.tsv",
        inclusion="results/quality/inclusion.tsv",
        quality=[f"results/quality/scans/{batch}" for batch in tree.batches],
        models=[f"{model}/model.json" for model in models],
        reference=f"results/group_ica/all/order-{ORDER}/components.npy",
        networks=f"results/components/all/order-{ORDER}/matches.tsv",
        fold_components=[f"results/group_ica/{fold}/order-{ORDER}/components.npy" for fold in plan.folds],
        fold_networks=[f"results/components/{fold}/order-{ORDER}/matches.tsv" for fold in plan.folds],
        scan_batches={batch: [scan_of(name) for name in members] for batch, members in tree.batches.items()},
        classifications=plan.classifications,
        folds=plan.folds,
        characteristics=["age", "sex", "pain_pre", "hba1c"],
        confidence=0.95,
        motion=f"{metrics}/motion.tsv",
        cohort_table=f"{metrics}/cohort_table.tsv",
        timing=f"{metrics}/timing.tsv",
        component_stability=f"{metrics}/component_stability.tsv",
    )


def write_null_tables(tree: SimpleNamespace, n_permutations: int = 20) -> None:
    """The null of every linear model, by its own jobs."""
    plan, chunks = tree.plan, null_files(tree.plan, n_permutations)
    folds = reported_folds(plan, plan.folds[0])
    for path in chunks:
        protocol, arm, model = Path(path).parts[3:6]
        wildcards = SimpleNamespace(protocol=protocol, arm=arm, model=model)
        write_null(
            **permutation_files(plan, list(tree.batches), wildcards),
            batches=tree.batches,
            cohorts={name: plan.cohort(protocol, name) for name in folds},
            key=(protocol, arm, model),
            protocol=plan.protocols[protocol],
            arm=plan.arms[arm],
            model=plan.models[model],
            permutations=chunk_range(Path(path).stem, n_permutations),
            seed=1,
            n_inner_folds=2,
            normalise=True,
            require_match=False,
            null=path,
        )
    collect_null(
        predictions="results/metrics/predictions.tsv",
        chunks=chunks,
        confidence=0.95,
        null="results/metrics/null.tsv",
        permutations="results/metrics/permutations.tsv",
    )
    names = ("comparisons", "calibration", "reliability", "decision_curve", "variance", "power")
    write_further(
        predictions="results/metrics/predictions.tsv",
        null="results/metrics/null.tsv",
        permutations="results/metrics/permutations.tsv",
        resamples=200,
        confidence=0.95,
        seed=1,
        **{name: f"results/metrics/{name}.tsv" for name in names},
    )


def write_component_tables(tree: SimpleNamespace) -> None:
    """The curve of p and the groups' maps, by their own jobs."""
    config, plan = tree.config, tree.plan
    write_curve(
        cases=curve_cases(plan, list(tree.batches)),
        batches=tree.batches,
        protocols=plan.protocols,
        arms=plan.arms,
        models=plan.models,
        thresholds=plan.curve,
        seed=1,
        n_inner_folds=2,
        normalise=True,
        require_match=False,
        resamples=200,
        confidence=0.95,
        curve="results/metrics/selection.tsv",
    )
    folders = [f"results/dual_regression/all/order-{ORDER}/asc/{batch}" for batch in tree.batches]
    measured, folder = f"results/components/all/order-{ORDER}", f"results/metrics/group_maps/order-{ORDER}"
    write_group_maps(
        maps=files_of(folders, tree.batches, "_maps.npy"),
        labels="results/folds/labels/all.tsv",
        mask="results/quality/group_mask.nii.gz",
        amplitudes=f"{measured}/amplitudes.tsv",
        variability=f"{measured}/variability.tsv",
        permutations=99,
        normalise=config["dual_regression"]["normalise_time_courses"],
        seed=1,
        image=f"{folder}/t.nii.gz",
        p_image=f"{folder}/log10_p_maxt.nii.gz",
        voxelwise=f"{folder}/voxelwise.tsv",
        groups=f"{folder}/groups.tsv",
        sidecar=f"{folder}/group_maps.json",
    )


def audit(tree: SimpleNamespace) -> None:
    """The audit's own job on the results of the working directory."""
    plan = tree.plan
    audit_run(
        results="results",
        classifications=plan.classifications,
        protocols=plan.protocols,
        arms=plan.arms,
        models=plan.models,
        order=ORDER,
        batches=tree.batches,
        group_ica=tree.config["group_ica"],
        audit="results/metrics/audit.tsv",
        certificate="results/metrics/certificate.json",
        baselines=plan.folds,
        measured=getattr(tree, "measured", plan.folds),
    )
