"""What a protocol lets a fold's classifier see, as the files its job is given: checked before any job runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from restresponse.classifier.architectures import check_grid, memory_mb
from restresponse.classifier.ladder import CLEAN, leak_of, source_arm
from restresponse.classifier.options import network_shape, plain
from restresponse.errors import InputError
from restresponse.group_ica.layout import orders_of
from restresponse.plan import Plan


def check_plan(plan: Plan, config: Mapping[str, Any]) -> None:
    """Raise one `InputError` that lists every arm, model and grid that cannot go together."""
    finest = config["functional"]["voxel_size"]
    voxel_size = config["classifier"]["voxel_size"] or finest
    problems = []
    if voxel_size < finest:
        problems.append(
            f"classifier.voxel_size is {voxel_size:g} mm, finer than functional.voxel_size {finest:g} mm; "
            "set it to null or to a coarser grid"
        )
    for name, arm in plan.arms.items():
        if plan.order_of(name) not in plan.orders:
            problems.append(
                f"arm {name} names the order {arm['order']}; group_ica.n_components has "
                f"{', '.join(map(str, plan.orders))}: add it to that list or name one of them"
            )
        for model in arm["models"]:
            if model not in plan.models:
                problems.append(f"arm {name} names the model {model!r}; classifier.models has {', '.join(plan.models)}")
            elif plan.models[model]["kind"] == "linear" and arm["input"] == "volumes":
                problems.append(
                    f"arm {name} gives volumes to the linear model {model}; "
                    "linear models read maps of components: take it out of the arm's models"
                )
    used = {model for arm in plan.arms.values() for model in arm["models"] if model in plan.models}
    networks = [plan.models[model] for model in used if plan.models[model]["kind"] == "network"]
    for preset, crop in sorted({(model["preset"], model.get("crop", "none")) for model in networks}):
        try:
            check_grid(preset, voxel_size, crop)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError.from_problems("the classifier cannot be run as configured", problems)


def reported_folds(plan: Plan, fold: str) -> list[str]:
    """All folds of the repeat that `fold` is of: those a repeat's performance is reported on."""
    repeat = fold.split("_")[0]
    return [name for name in plan.folds if name.split("_")[0] == repeat]


def most_volumes(plan: Plan) -> int:
    """The most volumes that an arm takes; 0 where no arm takes volumes."""
    return max((arm["volumes"] for arm in plan.arms.values() if arm["input"] == "volumes"), default=0)


def config_row(plan: Plan, wildcards: Any) -> dict[str, Any]:
    """The rows of the config that a job's wildcards name; an arm's list of models is not part of what it is."""
    arm = {key: value for key, value in plan.arms[wildcards.arm].items() if key != "models"}
    return {
        "protocol": plan.protocols[wildcards.protocol],
        "arm": arm,
        "model": plain(wildcards.protocol, plan.models[wildcards.model]),
    }


def network_memory(config: Mapping[str, Any], n_participants: int, wildcards: Any) -> int:
    """Memory in MiB to ask for a network's job."""
    classifier = config["classifier"]
    arm, model = classifier["arms"][wildcards.arm], classifier["models"][wildcards.model]
    volumes = arm["input"] == "volumes"
    order = arm.get("order") or orders_of(config["group_ica"])[0]
    channels = arm["volumes"] if volumes else order
    shape = network_shape(classifier["voxel_size"] or config["functional"]["voxel_size"], model.get("crop", "none"))
    # Volumes stay on disk; of maps there may be copies on the classifier's grid.
    held = 0 if volumes else n_participants
    return memory_mb(model["preset"], shape, channels, model["batch_size"], held, model.get("members", 1))


def kernel_memory(n_participants: int, n_components: int, least: int) -> int:
    """Memory in MiB for a job that holds the inner products of all maps twice; `least` for the rest of what it holds."""
    return max(least, round(2.2 * 8 * (n_participants * n_components) ** 2 / 2**20))


def refits(arm: Mapping[str, Any]) -> bool:
    """Whether an arm's channels are maps refitted on the selected components alone."""
    return arm["input"] == "components" and bool(arm.get("select")) and arm["maps"] == "refit"


def selects(arm: Mapping[str, Any]) -> bool:
    """Whether an arm's channels are selected components."""
    return arm["input"] == "components" and bool(arm.get("select"))


def chooses_on(protocol: Mapping[str, Any], model: Mapping[str, Any], folds: str) -> bool:
    """Whether a network's epoch or, where they are searched, its hyper-parameters are chosen on `folds`."""
    return protocol["epoch"] == folds or (bool(model.get("search")) and protocol["hyperparameters"] == folds)


def network_files(plan: Plan, batches: Sequence[str], wildcards: Any) -> dict[str, Any]:
    """Input files of `classifier_network`: no label table but those the protocol allows.

    Folders of maps and volumes are one for each of `batches`, in that order.
    """
    protocol, arm, fold = plan.protocols[wildcards.protocol], plan.arms[wildcards.arm], wildcards.fold
    model = plan.models[wildcards.model]
    watches = chooses_on(protocol, model, "reported_folds")
    files: dict[str, Any] = {
        "mask": "results/quality/group_mask.nii.gz",
        "folds": "results/folds/folds.tsv",
        "labels": f"results/folds/labels/{fold}.tsv",
        "watched_labels": ["results/folds/labels/all.tsv"] if watches else [],
        "inherited": _inherited_files(plan, wildcards),
        "selection": [],
    }
    if arm["input"] == "volumes":
        files["maps"] = [f"results/classifier/volumes/{batch}" for batch in batches]
        return files
    order, cohort = plan.order_of(wildcards.arm), plan.cohort(wildcards.protocol, fold)
    chosen = "asc"
    if arm.get("select"):
        labels = plan.selection_labels(wildcards.protocol, fold)
        files["selection"] = [f"results/components/{cohort}/order-{order}/labels-{labels}/components.tsv"]
        if refits(arm):
            chosen = f"ssc_labels-{labels}_p-{arm['p']}"
    files["maps"] = [f"results/dual_regression/{cohort}/order-{order}/{chosen}/{batch}" for batch in batches]
    if chooses_on(protocol, model, "inner_folds") and selects(arm) and protocol["selection"] == "training":
        files |= _selection_files(cohort, order)
        if refits(arm):
            files |= _refit_files(cohort, order, batches)
    return files


def linear_files(plan: Plan, batches: Sequence[str], wildcards: Any) -> dict[str, Any]:
    """Input files of `classifier_linear`: kernels of each cohort it needs, tables of each fold it looks at.

    Lists are in the order of `linear_cohorts` or, for `selection`, of `linear_folds`; folders of maps follow `batches`
    within each cohort.
    """
    protocol, arm, fold = plan.protocols[wildcards.protocol], plan.arms[wildcards.arm], wildcards.fold
    order = plan.order_of(wildcards.arm)
    cohorts = linear_cohorts(plan, wildcards)
    files: dict[str, Any] = {
        "folds": "results/folds/folds.tsv",
        "labels": f"results/folds/labels/{fold}.tsv",
        "watched_labels": ["results/folds/labels/all.tsv"] if protocol["hyperparameters"] == "reported_folds" else [],
        "gram": [f"results/classifier/kernels/{cohort}/order-{order}/gram.npy" for cohort in cohorts],
        "sums": [f"results/classifier/kernels/{cohort}/order-{order}/sums.npy" for cohort in cohorts],
        "records": [f"results/classifier/kernels/{cohort}/order-{order}/gram.json" for cohort in cohorts],
        "selection": [],
    }
    if arm.get("select"):
        files["selection"] = [
            f"results/components/{plan.cohort(wildcards.protocol, view)}/order-{order}"
            f"/labels-{plan.selection_labels(wildcards.protocol, view)}/components.tsv"
            for view in linear_folds(plan, wildcards)
        ]
        if protocol["selection"] == "training" and protocol["hyperparameters"] == "inner_folds":
            files |= _selection_files(plan.cohort(wildcards.protocol, fold), order)
        if refits(arm):
            parts = [_refit_files(cohort, order, batches) for cohort in cohorts]
            files["components"] = [path for part in parts for path in part["components"]]
            files["all_maps"] = [path for part in parts for path in part["all_maps"]]
    return files


def linear_folds(plan: Plan, wildcards: Any) -> list[str]:
    """The folds a linear model's job looks at: its own first, then those its penalty is chosen on."""
    if plan.protocols[wildcards.protocol]["hyperparameters"] == "inner_folds":
        return [wildcards.fold]
    return [wildcards.fold, *(fold for fold in reported_folds(plan, wildcards.fold) if fold != wildcards.fold)]


def linear_cohorts(plan: Plan, wildcards: Any) -> list[str]:
    """The cohorts of those folds, each once."""
    return list(dict.fromkeys(plan.cohort(wildcards.protocol, fold) for fold in linear_folds(plan, wildcards)))


def linear_views(plan: Plan, wildcards: Any) -> dict[str, str]:
    """The cohort of each fold a linear model's job looks at, its own first."""
    return {fold: plan.cohort(wildcards.protocol, fold) for fold in linear_folds(plan, wildcards)}


def measured_models(plan: Plan) -> list[tuple[str, str]]:
    """(arm, model) of the linear models on the study's maps, which predict the change of pain itself too; none without `clean`."""
    return [
        (arm, model)
        for arm, settings in plan.arms.items()
        for model in settings["models"]
        if CLEAN in plan.protocols and settings["input"] == "components" and plan.models[model]["kind"] == "linear"
        if plan.order_of(arm) == plan.orders[0]
    ]


def measured_files(plan: Plan, batches: Sequence[str], fold: str) -> dict[str, Any]:
    """Input files of `classifier_measured`: of the fold's own cohort, and the outcomes of its training participants."""
    order = plan.orders[0]
    kernel = f"results/classifier/kernels/{fold}/order-{order}"
    used = [plan.arms[arm] for arm, _ in measured_models(plan)]
    return {
        "folds": "results/folds/folds.tsv",
        "labels": f"results/folds/outcomes/{fold}.tsv",
        "gram": [f"{kernel}/gram.npy"],
        "sums": [f"{kernel}/sums.npy"],
        "records": [f"{kernel}/gram.json"],
        **(_selection_files(fold, order) if any(map(selects, used)) else {"amplitudes": [], "matches": []}),
        **(_refit_files(fold, order, batches) if any(map(refits, used)) else {"components": [], "all_maps": []}),
    }


def _inherited_files(plan: Plan, wildcards: Any) -> list[str]:
    source = inherited_from(plan, wildcards)
    if source is None:
        return []
    return [f"results/classifier/{source[0]}/{source[1]}/{wildcards.model}/{wildcards.fold}/model.json"]


def inherited_from(plan: Plan, wildcards: Any) -> tuple[str, str] | None:
    """Protocol and arm of the model whose hyper-parameters an arm of volumes takes over, where its protocol says so."""
    protocol, model = plan.protocols[wildcards.protocol], plan.models[wildcards.model]
    source = source_arm(wildcards.arm, wildcards.model, plan.arms)
    if protocol.get("inherited") != "other_arms" or not model.get("search") or source is None:
        return None
    # On the rung of this leak alone the other arm is the clean protocol's: nothing else differs.
    return (CLEAN if leak_of(wildcards.protocol) == "inherited" else wildcards.protocol), source


def _selection_files(cohort: str, order: int) -> dict[str, list[str]]:
    return {
        "amplitudes": [f"results/components/{cohort}/order-{order}/amplitudes.tsv"],
        "matches": [f"results/components/{cohort}/order-{order}/matches.tsv"],
    }


def _refit_files(cohort: str, order: int, batches: Sequence[str]) -> dict[str, list[str]]:
    return {
        "components": [f"results/group_ica/{cohort}/order-{order}/components.npy"],
        "all_maps": [f"results/dual_regression/{cohort}/order-{order}/asc/{batch}" for batch in batches],
    }
