# Predictions beside the truth, scores with intervals, the optimism of each protocol, the leakage audit, tables.
from restresponse.classifier.explanation import explained
from restresponse.classifier.protocols import measured_models
from restresponse.metrics.chain import Classification, audited_files
from restresponse.metrics.curve import curve_cases, curve_inputs
from restresponse.metrics.left_out import left_out_cases
from restresponse.metrics.permutations import null_memory

MEASURED = FOLDS if config["metrics"]["continuous"] and measured_models(PLAN) else []  # folds that predict the change
AUDITED = audited_files(
    [
        Classification(
            *key,
            PLAN.protocols[key[0]],
            PLAN.arms[key[1]],
            PLAN.models[key[2]]["kind"],
            PLAN.order_of(key[1]),
            {},
            BATCHES,
        )
        for key in CLASSIFICATIONS
    ]
)
EXPLAINED = explained(PLAN, config["metrics"]["explanation"])
LEFT_OUT = left_out_cases(PLAN, list(BATCHES), EXPLAINED)

CURVES = curve_cases(PLAN, list(BATCHES))


rule metrics_predictions:
    input:
        files=["results/classifier/{}/{}/{}/{}/predictions.tsv".format(*key) for key in CLASSIFICATIONS],
        folds="results/folds/folds.tsv",
        labels="results/dataset/labels.tsv",
        training=expand("results/folds/labels/{fold}.tsv", fold=FOLDS),
        baselines=expand("results/classifier/baselines/{fold}/predictions.tsv", fold=FOLDS),
    output:
        "results/metrics/predictions.tsv",
    log:
        "results/logs/metrics_predictions.log",
    benchmark:
        "results/benchmarks/metrics_predictions.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        classifications=CLASSIFICATIONS,
        folds=FOLDS,
        code=code_of("metrics.collect"),
    script:
        "../scripts/metrics_predictions.py"


rule metrics_scores:
    input:
        predictions="results/metrics/predictions.tsv",
    output:
        metrics="results/metrics/metrics.tsv",
        optimism="results/metrics/optimism.tsv",
    log:
        "results/logs/metrics_scores.log",
    benchmark:
        "results/benchmarks/metrics_scores.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={
            "protocols": PLAN.protocols,
            "arms": PLAN.arms,
            "models": PLAN.models,
            "resamples": config["metrics"]["resamples"],
            "confidence": config["metrics"]["confidence"],
            "seed": config["seed"],
        },
        code=code_of("metrics.optimism"),
    script:
        "../scripts/metrics_scores.py"


rule metrics_further:
    input:
        predictions="results/metrics/predictions.tsv",
        null="results/metrics/null.tsv",
        permutations="results/metrics/permutations.tsv",
    output:
        comparisons="results/metrics/comparisons.tsv",
        calibration="results/metrics/calibration.tsv",
        reliability="results/metrics/reliability.tsv",
        decision_curve="results/metrics/decision_curve.tsv",
        variance="results/metrics/variance.tsv",
        power="results/metrics/power.tsv",
    log:
        "results/logs/metrics_further.log",
    benchmark:
        "results/benchmarks/metrics_further.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={
            "resamples": config["metrics"]["resamples"],
            "confidence": config["metrics"]["confidence"],
            "seed": config["seed"],
        },
        code=code_of("metrics.further"),
    script:
        "../scripts/metrics_further.py"


rule metrics_curve:
    input:
        curve_inputs(CURVES),
    output:
        "results/metrics/selection.tsv",
    log:
        "results/logs/metrics_curve.log",
    benchmark:
        "results/benchmarks/metrics_curve.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(
            max(
                (
                    null_memory(PLAN, len(PARTICIPANTS), config["classifier"]["inner_folds"], *case["key"][:2])
                    for case in CURVES
                ),
                default=1000,
            )
        ),
    params:
        settings={
            "cases": CURVES,
            "batches": BATCHES,
            "protocols": PLAN.protocols,
            "arms": PLAN.arms,
            "models": PLAN.models,
            "thresholds": PLAN.curve,
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
            "resamples": config["metrics"]["resamples"],
            "confidence": config["metrics"]["confidence"],
        },
        code=code_of("metrics.curve"),
    script:
        "../scripts/metrics_curve.py"


rule metrics_group_maps:
    input:
        maps=expand("results/dual_regression/all/order-{{order}}/asc/{batch}", batch=BATCHES),
        labels="results/folds/labels/all.tsv",
        mask="results/quality/group_mask.nii.gz",
        amplitudes="results/components/all/order-{order}/amplitudes.tsv",
        variability="results/components/all/order-{order}/variability.tsv",
    output:
        image="results/metrics/group_maps/order-{order}/t.nii.gz",
        p_image="results/metrics/group_maps/order-{order}/log10_p_maxt.nii.gz",
        voxelwise="results/metrics/group_maps/order-{order}/voxelwise.tsv",
        groups="results/metrics/group_maps/order-{order}/groups.tsv",
        sidecar="results/metrics/group_maps/order-{order}/group_maps.json",
    log:
        "results/logs/metrics_group_maps/{order}.log",
    benchmark:
        "results/benchmarks/metrics_group_maps/{order}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(3000),
    params:
        batches=BATCHES,
        settings={
            "permutations": config["metrics"]["voxel_permutations"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "seed": config["seed"],
        },
        code=code_of("metrics.group_maps"),
    script:
        "../scripts/metrics_group_maps.py"


rule metrics_audit:
    input:
        expand("results/{file}", file=AUDITED),
        expand("results/folds/labels/{labels}.tsv", labels=COHORTS),
        expand("results/group_ica/participants/{batch}", batch=BATCHES),
        LAYOUT.tile_files,
        [path for cohort in COHORTS for path in LAYOUT.kept_sidecars(cohort)],
        "results/folds/folds.tsv",
        "results/quality/inclusion.tsv",
        expand("results/classifier/baselines/{fold}/{file}", fold=FOLDS, file=("predictions.tsv", "model.json")),
        expand("results/classifier/measured/{fold}/{file}", fold=MEASURED, file=("predictions.tsv", "model.json")),
        expand("results/folds/outcomes/{labels}.tsv", labels=COHORTS),
        expand("results/classifier/kernels/{fold}/order-{order}/gram.json", fold=MEASURED, order=ORDERS),
        expand("results/classifier/connectivity/{batch}", batch=BATCHES),
        expand("results/components/{fold}/order-{order}/measures.json", fold=FOLDS, order=ORDERS[0]),
        expand("results/group_ica/{fold}/order-{order}/components.json", fold=FOLDS, order=ORDERS[0]),
    output:
        audit="results/metrics/audit.tsv",
        certificate="results/metrics/certificate.json",
    log:
        "results/logs/metrics_audit.log",
    benchmark:
        "results/benchmarks/metrics_audit.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={
            "classifications": CLASSIFICATIONS,
            "protocols": PLAN.protocols,
            "arms": PLAN.arms,
            "models": PLAN.models,
            "order": ORDERS[0],
            "batches": BATCHES,
            "group_ica": {key: config["group_ica"][key] for key in ("exact_limit", "passes")},
            "baselines": FOLDS,
            "measured": MEASURED,
        },
        code=code_of("metrics.audit"),
    script:
        "../scripts/metrics_audit.py"


rule metrics_tables:
    input:
        participants="results/dataset/participants.tsv",
        labels="results/folds/labels/all.tsv",
        inclusion="results/quality/inclusion.tsv",
        quality=expand("results/quality/scans/{batch}", batch=BATCHES),
        models=["results/classifier/{}/{}/{}/{}/model.json".format(*key) for key in CLASSIFICATIONS],
        reference=f"results/group_ica/all/order-{ORDERS[0]}/components.npy",
        networks=f"results/components/all/order-{ORDERS[0]}/matches.tsv",
        fold_components=expand("results/group_ica/{fold}/order-{order}/components.npy", fold=FOLDS, order=ORDERS[0]),
        fold_networks=expand("results/components/{fold}/order-{order}/matches.tsv", fold=FOLDS, order=ORDERS[0]),
    output:
        cohort_table="results/metrics/cohort_table.tsv",
        motion="results/metrics/motion.tsv",
        timing="results/metrics/timing.tsv",
        component_stability="results/metrics/component_stability.tsv",
    log:
        "results/logs/metrics_tables.log",
    benchmark:
        "results/benchmarks/metrics_tables.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={
            "scan_batches": SCAN_BATCHES,
            "classifications": CLASSIFICATIONS,
            "folds": FOLDS,
            "characteristics": config["metrics"]["characteristics"],
            "confidence": config["metrics"]["confidence"],
        },
        code=code_of("metrics.tables"),
    script:
        "../scripts/metrics_tables.py"


rule metrics_orders:
    input:
        components=expand("results/group_ica/all/order-{order}/components.tsv", order=ORDERS),
        matches=expand("results/components/all/order-{order}/matches.tsv", order=ORDERS),
        maps=expand("results/group_ica/all/order-{order}/components.npy", order=ORDERS),
        metrics="results/metrics/metrics.tsv",
    output:
        table="results/metrics/orders.tsv",
        alignment="results/metrics/order_alignment.tsv",
    log:
        "results/logs/metrics_orders.log",
    benchmark:
        "results/benchmarks/metrics_orders.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={
            "orders": ORDERS,
            "arms": {name: PLAN.order_of(name) for name, arm in PLAN.arms.items() if arm["input"] == "components"},
        },
        code=code_of("metrics.orders"),
    script:
        "../scripts/metrics_orders.py"


rule metrics_left_out:
    input:
        curve_inputs(LEFT_OUT),
        metrics="results/metrics/metrics.tsv",
        reference=f"results/group_ica/all/order-{ORDERS[0]}/components.npy",
        networks=f"results/components/all/order-{ORDERS[0]}/matches.tsv",
        fold_components=expand("results/group_ica/{fold}/order-{order}/components.npy", fold=FOLDS, order=ORDERS[0]),
    output:
        "results/metrics/left_out.tsv",
    log:
        "results/logs/metrics_left_out.log",
    benchmark:
        "results/benchmarks/metrics_left_out.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(
            max(
                (
                    null_memory(PLAN, len(PARTICIPANTS), config["classifier"]["inner_folds"], *case["key"][:2])
                    for case in LEFT_OUT
                ),
                default=1000,
            )
        ),
    params:
        folds=FOLDS,
        settings={
            "cases": LEFT_OUT,
            "batches": BATCHES,
            "protocols": PLAN.protocols,
            "arms": PLAN.arms,
            "models": PLAN.models,
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
            "resamples": config["metrics"]["resamples"],
            "confidence": config["metrics"]["confidence"],
        },
        code=code_of("metrics.left_out"),
    script:
        "../scripts/metrics_left_out.py"


rule metrics_explanation:
    input:
        metrics="results/metrics/metrics.tsv",
        predictions="results/metrics/predictions.tsv",
        tables=[
            "results/classifier/{}/{}/{}/{}/explanation.tsv".format(*key, fold) for key in EXPLAINED for fold in FOLDS
        ],
        attributions=[
            "results/classifier/{}/{}/{}/{}/explanation.npy".format(*key, fold) for key in EXPLAINED for fold in FOLDS
        ],
        sidecars=[
            "results/classifier/{}/{}/{}/{}/explanation.json".format(*key, fold) for key in EXPLAINED for fold in FOLDS
        ],
        reference=f"results/group_ica/all/order-{ORDERS[0]}/components.npy",
        networks=f"results/components/all/order-{ORDERS[0]}/matches.tsv",
        fold_components=expand("results/group_ica/{fold}/order-{order}/components.npy", fold=FOLDS, order=ORDERS[0]),
        mask="results/quality/group_mask.nii.gz",
    output:
        directory("results/metrics/explanation"),
    log:
        "results/logs/metrics_explanation.log",
    benchmark:
        "results/benchmarks/metrics_explanation.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        settings={
            "explained": EXPLAINED,
            "folds": FOLDS,
            "voxel_size": config["classifier"]["voxel_size"],
            "confidence": config["metrics"]["confidence"],
        },
        code=code_of("metrics.explanation"),
    script:
        "../scripts/metrics_explanation.py"
