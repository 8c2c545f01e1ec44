"""A small but complete results folder, made by the stages' own functions on made-up series: 14 participants, 2 folds.

Everything from `folds` on is real, but for the network, whose scores are made up. sub-13's scan failed, sub-14 has no
label, one scan of sub-02 was set aside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import yaml

from restresponse.batches import batches_of, files_of
from restresponse.classifier.baselines import baseline_files, fit_baselines
from restresponse.classifier.connectivity import measure_batch
from restresponse.classifier.inputs import Samples
from restresponse.classifier.kernel import compute_kernel
from restresponse.classifier.linear_fold import fit_fold
from restresponse.classifier.measured_fold import fit_measured
from restresponse.classifier.protocols import (
    linear_files,
    linear_views,
    measured_files,
    measured_models,
    reported_folds,
)
from restresponse.components.tables import measure_components, select_components
from restresponse.dataset.characteristics import write_characteristics
from restresponse.dual_regression import regress_batch, restrict_batch
from restresponse.files import read_json, read_table, write_array, write_image, write_json, write_table
from restresponse.folds import write_folds
from restresponse.grid import brain_mask, grid
from restresponse.group_ica.cohort import fit_cohort
from restresponse.group_ica.group_pca import compute_tile
from restresponse.group_ica.reduction import reduce_participant
from restresponse.layout import denoised_files, functional_files
from restresponse.metrics.audit import audit_run
from restresponse.metrics.collect import collect_predictions
from restresponse.metrics.curve import curve_cases, write_curve
from restresponse.metrics.further import write_further
from restresponse.metrics.group_maps import write_group_maps
from restresponse.metrics.measured import write_measured
from restresponse.metrics.optimism import score_predictions
from restresponse.metrics.permutations import chunk_range, collect_null, null_files, permutation_files, write_null
from restresponse.metrics.tables import write_tables
from restresponse.plan import Plan
from restresponse.provenance import write_sidecar
from restresponse.quality.inclusion import decide_inclusion

ROOT = Path(__file__).resolve().parents[2]
PARTICIPANTS = [f"sub-{number:02d}" for number in range(1, 15)]
RESPONDERS = set(PARTICIPANTS[:7])
FAILED, UNLABELLED = "sub-13", "sub-14"
REASON = "the image is truncated: 1000 of 5000 bytes; expected a whole file: copy it again"
VOXEL_SIZE, ORDER, N_VOLUMES = 12, 4, 40
N_OUTCOMES = 30  # permutations of the percent fall of pain


def batch_of(batches: dict[str, list[str]], participant: str) -> str:
    """The batch of a participant."""
    return next(batch for batch, members in batches.items() if participant in members)


def scan_of(participant: str) -> str:
    """Name of the participant's one scan."""
    return f"{participant}_task-rest"


def tiny_config() -> dict[str, Any]:
    """The repository's config, made small: two folds, four components, one network and one linear model."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["functional"]["voxel_size"] = VOXEL_SIZE
    config["folds"]["n_folds"] = 2
    config["batch"] = 5
    config["group_ica"] |= {"n_components": ORDER, "reduction": 10, "restarts": 3}
    config["quality"] |= {"minimum_dof": 5}
    config["classifier"]["inner_folds"] = 2
    config["classifier"]["arms"] = {
        "asc": {"input": "components", "select": False, "models": ["voxnet", "linear"]},
        "ssc": {"input": "components", "select": True, "p": 0.1, "maps": "refit", "models": ["voxnet", "linear"]},
        "rsp": {"input": "volumes", "volumes": 20, "models": ["voxnet"]},
    }
    config["metrics"] |= {"resamples": 200, "explanation": False}
    return config


def build(config: dict[str, Any]) -> SimpleNamespace:
    """Write `results/` into the working directory and give what the workflow's rules would be given."""
    plan = Plan.of(config)
    tree = SimpleNamespace(config=config, plan=plan, batches=batches_of(PARTICIPANTS, config["batch"]))
    write_dataset()
    write_scans(tree.batches)
    labels = Path("results/folds/labels")
    write_folds(
        "results/dataset/labels.tsv",
        "results/quality/inclusion.tsv",
        "results/folds/folds.tsv",
        [labels / f"{name}.tsv" for name in plan.cohorts],
        n_folds=2,
        repeats=1,
        seed=1,
        outcome_tables=[f"results/folds/outcomes/{name}.tsv" for name in plan.cohorts],
    )
    write_components(plan, tree.batches)
    for key in plan.classifications:
        (write_linear if plan.models[key[2]]["kind"] == "linear" else write_network)(plan, config, *key)
    write_baselines(plan, config, tree.batches)
    write_changes(plan, config, tree.batches)
    return tree


def write_changes(plan: Plan, config: dict[str, Any], batches: dict[str, list[str]]) -> None:
    """Every fold's models of the percent fall of pain, by their own job."""
    for fold in plan.folds:
        folder = f"results/classifier/measured/{fold}"
        fit_measured(
            **measured_files(plan, list(batches), fold),
            batches=batches,
            fold=fold,
            models=measured_models(plan),
            arms=plan.arms,
            settings_of=plan.models,
            thresholds=config["metrics"]["thresholds"],
            n_permutations=N_OUTCOMES,
            seed=1,
            n_inner_folds=2,
            normalise=True,
            require_match=False,
            predictions=f"{folder}/predictions.tsv",
            permuted=f"{folder}/permuted.npy",
            sidecar=f"{folder}/model.json",
        )


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


def write_dataset() -> None:
    """The tables of scans, participants and labels."""
    rng = np.random.default_rng(1)
    scans = [
        {
            "scan": scan_of(name),
            "participant_id": name,
            "repetition_time": 2.6,
            "n_volumes": N_VOLUMES,
            "set_aside": False,
        }
        for name in PARTICIPANTS
    ]
    aside = {"scan": "sub-02_task-rest_run-2", "participant_id": "sub-02", "set_aside": True}
    write_table("results/dataset/scans.tsv", pd.DataFrame([*scans, aside]))
    people = pd.DataFrame(
        {
            "participant_id": PARTICIPANTS,
            "included": True,
            "age": rng.integers(40, 75, len(PARTICIPANTS)).astype(float),
            "sex": ["FM"[number % 2] for number in range(len(PARTICIPANTS))],
            "pain_pre": rng.integers(5, 10, len(PARTICIPANTS)),
        }
    )
    people.loc[3, "age"] = np.nan
    write_table("results/dataset/participants.tsv", people)
    labelled = [name for name in PARTICIPANTS if name != UNLABELLED]
    response = [int(name in RESPONDERS) for name in labelled]
    change = [60.0, 55.0, 45.0, 70.0, np.nan, 65.0, 40.0, 5.0, 10.0, 25.0, 0.0, -10.0, 15.0]  # sub-05's is not known
    write_table(
        "results/dataset/labels.tsv",
        pd.DataFrame({"participant_id": labelled, "response": response, "pain_change": change}),
    )


def write_scans(batches: dict[str, list[str]]) -> None:
    """Masks, denoised images, records, quality measures, and the decisions."""
    brain, (shape, affine) = brain_mask(VOXEL_SIZE), grid(VOXEL_SIZE)
    write_image("results/quality/group_mask.nii.gz", brain, affine)
    rng, noise = np.random.default_rng(2), np.random.default_rng(3)
    sources = rng.laplace(size=(ORDER, int(brain.sum()))) ** 3
    sources /= sources.std(axis=1, keepdims=True)
    measures = []
    for name in PARTICIPANTS:
        scan = scan_of(name)
        folder = Path(f"results/functional/{scan}")
        cleaned = Path(f"results/functional/denoised/{batch_of(batches, name)}")
        failed = REASON if name == FAILED else None
        status = {"status": "failed" if failed else "done", "reason": failed}
        sentence = "Volumes were realigned to the first by a rigid transform."
        write_json(folder / f"{scan}.json", {"scan": scan, **status, "methods": [] if failed else [sentence]})
        dof = {"n_volumes": N_VOLUMES, "dof_bandpass": 30, "dof_residual": 24, "n_outliers": 1}
        sentence = f"Denoising took out 6 motion parameters, which left 24 of {N_VOLUMES} degrees of freedom."
        write_json(
            cleaned / f"{scan}_desc-denoised.json",
            {"scan": scan, **status, "methods": [] if failed else [sentence], **(dof if not failed else {})},
        )
        anatomical = {"status": "done", "reason": None, "methods": ["The T1w image was corrected for bias (N4)."]}
        write_json(f"results/anatomical/{name}/{name}.json", anatomical)
        displacement = np.abs(rng.normal(0.1, 0.05, N_VOLUMES))
        numbers = {
            "mean_framewise_displacement": displacement.mean(),
            "maximum_framewise_displacement": displacement.max(),
            "mean_dvars": 20.0,
            "mean_std_dvars": 1.1,
            "tsnr": 60.0,
            "coverage": 0.97,
            "overlap": 0.91,
            **dof,
        }
        path = Path(f"results/quality/scans/{batch_of(batches, name)}/{scan}.json")
        content = {"scan": scan, "participant_id": name, "status": status["status"], "failed": failed}
        write_json(path, content | (dict.fromkeys(numbers) if failed else numbers))
        measures.append(path)
        image = Path(denoised_files(cleaned, scan)["image"])
        confounds = functional_files(folder, scan)["confounds"]
        write_table(confounds, pd.DataFrame({"global_signal": 100 + noise.normal(size=N_VOLUMES)}))
        if failed:
            image.write_bytes(b"")
            continue
        strength = np.ones(ORDER) + 0.1 * rng.normal(size=ORDER)
        strength[0] += 0.5 * (name in RESPONDERS)
        courses = np.cumsum(rng.normal(size=(N_VOLUMES, ORDER)), axis=0)
        courses = (courses - courses.mean(axis=0)) / courses.std(axis=0)
        values = (courses * strength) @ sources + rng.normal(size=(N_VOLUMES, sources.shape[1]))
        series = np.zeros((*shape, N_VOLUMES), np.float32)
        series[brain] = values.T
        write_image(image, series, affine, repetition_time=2.6)
        volumes = Path(f"results/classifier/volumes/{batch_of(batches, name)}/{name}.npy")
        write_array(volumes, values[: 12 if name == "sub-04" else 20].astype(np.float32))
    decide_inclusion(
        measures,
        "results/quality/inclusion.tsv",
        settings=tiny_config()["quality"],
        minimum_dof=5,
        set_aside=[("sub-02_task-rest_run-2", "sub-02")],
    )


def write_components(plan: Plan, batches: dict[str, list[str]]) -> None:
    """Group ICA, dual regression, measures, selections, refitted maps and kernels of every cohort."""
    mask, inclusion = "results/quality/group_mask.nii.gz", "results/quality/inclusion.tsv"
    bold, reduced = {}, {}
    for name in PARTICIPANTS:
        scan = scan_of(name)
        cleaned = f"results/functional/denoised/{batch_of(batches, name)}"
        bold[name] = {scan: f"{cleaned}/{scan}_space-MNI152_desc-denoised_bold.nii.gz"}
        reduced[name] = f"results/group_ica/participants/{batch_of(batches, name)}/{name}_reduced.npy"
        reduce_participant(
            bold=bold[name],
            mask=mask,
            inclusion=inclusion,
            participant=name,
            n_dimensions=10,
            reduced=reduced[name],
            sidecar=reduced[name].replace(".npy", ".json"),
        )
    tiles = {(a, b): f"results/group_ica/gram/{a}_{b}.npy" for a in batches for b in batches if a <= b}
    for (a, b), tile in tiles.items():
        compute_tile(first=[reduced[p] for p in batches[a]], second=[reduced[p] for p in batches[b]], tile=tile)
    write_image("template.nii.gz", *_template(mask))
    for cohort in plan.cohorts:
        group = f"results/group_ica/{cohort}/order-{ORDER}/components"
        fit_cohort(
            cohort=cohort,
            reduced=reduced,
            tiles=tiles,
            members=batches,
            folds=None if cohort == "all" else "results/folds/folds.tsv",
            mask=mask,
            n_components=ORDER,
            restarts=3,
            subsample=20000,
            tolerance=1e-6,
            max_iterations=500,
            seed=1,
            components=f"{group}.npy",
            image=f"{group}.nii.gz",
            table=f"{group}.tsv",
            sidecar=f"{group}.json",
        )
        folder = f"results/dual_regression/{cohort}/order-{ORDER}"
        folders = [f"{folder}/asc/{batch}" for batch in batches]
        for batch, members in batches.items():
            regress_batch(
                bold={name: bold[name] for name in members},
                measures=f"results/quality/scans/{batch}",
                mask=mask,
                inclusion=inclusion,
                components=f"{group}.npy",
                component_facts=f"{group}.json",
                normalise_time_courses=True,
                folder=f"{folder}/asc/{batch}",
            )
        measured = f"results/components/{cohort}/order-{ORDER}"
        measure_components(
            components=f"{group}.npy",
            component_facts=f"{group}.json",
            mask=mask,
            maps=files_of(folders, batches, "_maps.npy"),
            residuals=files_of(folders, batches, "_residual.npy"),
            time_courses=files_of(folders, batches, "_timecourses.tsv"),
            threshold=2,
            match_threshold=0.0,
            template="template.nii.gz",
            template_labels=None,
            amplitudes=f"{measured}/amplitudes.tsv",
            variability=f"{measured}/variability.tsv",
            matches=f"{measured}/matches.tsv",
            networks=f"{measured}/networks.tsv",
            sidecar=f"{measured}/measures.json",
        )
        pairs = {(plan.cohort(*key), plan.selection_labels(*key)) for key in product(plan.protocols, plan.folds)}
        for labels in sorted(labels for name, labels in pairs if name == cohort):
            _select(plan, batches, cohort, labels)
        compute_kernel(
            mask=mask,
            maps=files_of(folders, batches, "_maps.npy"),
            voxel_size=None,
            gram=f"results/classifier/kernels/{cohort}/order-{ORDER}/gram.npy",
            sums=f"results/classifier/kernels/{cohort}/order-{ORDER}/sums.npy",
            record=f"results/classifier/kernels/{cohort}/order-{ORDER}/gram.json",
        )


def _template(mask: str) -> tuple[np.ndarray, np.ndarray]:
    """A label image of four slabs along x, as networks."""
    import nibabel as nib

    image = nib.load(mask)
    labels = np.zeros(image.shape, np.int16)
    for number, part in enumerate(np.array_split(np.arange(image.shape[0]), ORDER), start=1):
        labels[part] = number
    return labels, image.affine


def _select(plan: Plan, batches: dict[str, list[str]], cohort: str, labels: str) -> None:
    measured = f"results/components/{cohort}/order-{ORDER}"
    select_components(
        amplitudes=f"{measured}/amplitudes.tsv",
        variability=f"{measured}/variability.tsv",
        matches=f"{measured}/matches.tsv",
        measures_facts=f"{measured}/measures.json",
        labels=f"results/folds/labels/{labels}.tsv",
        thresholds=plan.curve,
        require_match=False,
        normalise=True,
        seed=1,
        table=f"{measured}/labels-{labels}/components.tsv",
        sidecar=f"{measured}/labels-{labels}/components.json",
    )
    folder = f"results/dual_regression/{cohort}/order-{ORDER}"
    for threshold in plan.thresholds:
        for batch, members in batches.items():
            restrict_batch(
                all_maps=f"{folder}/asc/{batch}",
                participants=members,
                components=f"results/group_ica/{cohort}/order-{ORDER}/components.npy",
                selection=f"{measured}/labels-{labels}/components.tsv",
                selection_facts=f"{measured}/labels-{labels}/components.json",
                threshold=threshold,
                normalise=True,
                folder=f"{folder}/ssc_labels-{labels}_p-{threshold}/{batch}",
            )


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


def edit_sidecar(path: str | Path, **changes: Any) -> None:
    """Overwrite keys of a sidecar, as someone would by hand."""
    write_json(path, {**read_json(path), **changes})


_BUILT: dict[str, tuple[Path, SimpleNamespace]] = {}


def fresh_copy(folder: Path, once: Path) -> SimpleNamespace:
    """A copy of the results in `folder`, the working directory of the test; built once a session, in `once`.

    Files are linked: whole files are replaced by the library's writers, never changed in place.
    """
    if "tree" not in _BUILT:
        with contextlib.chdir(once):
            _BUILT["tree"] = once, build(tiny_config())
            write_metrics(_BUILT["tree"][1])
    source, tree = _BUILT["tree"]
    shutil.copytree(source / "results", folder / "results", copy_function=os.link)
    return tree


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
    parts = {fold: f"results/classifier/measured/{fold}" for fold in plan.folds}
    write_measured(
        folds="results/folds/folds.tsv",
        outcomes="results/folds/outcomes/all.tsv",
        predictions={fold: f"{folder}/predictions.tsv" for fold, folder in parts.items()},
        permuted={fold: f"{folder}/permuted.npy" for fold, folder in parts.items()},
        models=measured_models(plan),
        thresholds=tree.config["metrics"]["thresholds"],
        resamples=200,
        confidence=0.95,
        n_permutations=N_OUTCOMES,
        seed=1,
        scores=f"{metrics}/change.tsv",
        sweep=f"{metrics}/thresholds.tsv",
        pairs=f"{metrics}/change_predictions.tsv",
    )
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
