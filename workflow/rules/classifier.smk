# Per protocol, arm, model and fold: choose, train, predict. What a protocol may see is which files its rules are given.
from restresponse.classifier.baselines import baseline_files, edges_memory
from restresponse.classifier.explanation import explanation_files, explanation_memory
from restresponse.classifier.protocols import (
    config_row,
    kernel_memory,
    linear_files,
    linear_views,
    measured_files,
    measured_models,
    most_volumes,
    network_files,
    network_memory,
)


rule classifier_kernel:
    input:
        mask="results/quality/group_mask.nii.gz",
        maps=expand("results/dual_regression/{{cohort}}/order-{{order}}/asc/{batch}", batch=BATCHES),
    output:
        gram="results/classifier/kernels/{cohort}/order-{order}/gram.npy",
        sums="results/classifier/kernels/{cohort}/order-{order}/sums.npy",
        record="results/classifier/kernels/{cohort}/order-{order}/gram.json",
    log:
        "results/logs/classifier_kernel/{cohort}_{order}.log",
    benchmark:
        "results/benchmarks/classifier_kernel/{cohort}_{order}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(lambda w: kernel_memory(len(PARTICIPANTS), int(w.order), least=4000)),
    params:
        batches=BATCHES,
        voxel_size=config["classifier"]["voxel_size"],
        code=code_of("classifier.kernel"),
    script:
        "../scripts/classifier_kernel.py"


rule classifier_volumes:
    input:
        preprocessed=of_batch("results/functional/{scan}"),
        inclusion="results/quality/inclusion.tsv",
        mask="results/quality/group_mask.nii.gz",
    output:
        directory("results/classifier/volumes/{batch}"),
    log:
        "results/logs/classifier_volumes/{batch}.log",
    benchmark:
        "results/benchmarks/classifier_volumes/{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        scans=scans_of_batch,
        settings={"n_volumes": most_volumes(PLAN), "voxel_size": config["classifier"]["voxel_size"]},
        code=code_of("classifier.volumes"),
    script:
        "../scripts/classifier_volumes.py"


rule classifier_network:
    input:
        unpack(lambda w: network_files(PLAN, list(BATCHES), w)),
    output:
        predictions="results/classifier/{protocol}/{arm}/{model}/{fold}/predictions.tsv",
        history="results/classifier/{protocol}/{arm}/{model}/{fold}/history.tsv",
        network="results/classifier/{protocol}/{arm}/{model}/{fold}/model.keras",
        sidecar="results/classifier/{protocol}/{arm}/{model}/{fold}/model.json",
    log:
        "results/logs/classifier_network/{protocol}_{arm}_{model}_{fold}.log",
    benchmark:
        "results/benchmarks/classifier_network/{protocol}_{arm}_{model}_{fold}.tsv"
    wildcard_constraints:
        model=one_of(NETWORKS),
    container:
        CONTAINERS["gpu" if config["classifier"]["gpu"] else "python"]
    resources:
        mem_mb=memory(lambda w: network_memory(config, len(PARTICIPANTS), w)),
        gpu=config["classifier"]["gpu"] or None,
    params:
        row=lambda w: config_row(PLAN, w),
        settings={
            "batches": BATCHES,
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "voxel_size": config["classifier"]["voxel_size"],
            "gpu": config["classifier"]["gpu"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
        },
        code=code_of("classifier.network_fold"),
    script:
        "../scripts/classifier_network.py"


rule classifier_linear:
    input:
        unpack(lambda w: linear_files(PLAN, list(BATCHES), w)),
    output:
        predictions="results/classifier/{protocol}/{arm}/{model}/{fold}/predictions.tsv",
        coefficients="results/classifier/{protocol}/{arm}/{model}/{fold}/model.npz",
        sidecar="results/classifier/{protocol}/{arm}/{model}/{fold}/model.json",
    log:
        "results/logs/classifier_linear/{protocol}_{arm}_{model}_{fold}.log",
    benchmark:
        "results/benchmarks/classifier_linear/{protocol}_{arm}_{model}_{fold}.tsv"
    wildcard_constraints:
        model=one_of(LINEARS),
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(lambda w: kernel_memory(len(PARTICIPANTS), PLAN.order_of(w.arm), least=1500)),
    params:
        row=lambda w: config_row(PLAN, w),
        settings={
            "batches": BATCHES,
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
        },
        views=lambda w: linear_views(PLAN, w),
        code=code_of("classifier.linear_fold"),
    script:
        "../scripts/classifier_linear.py"


rule classifier_connectivity:
    input:
        preprocessed=of_batch("results/functional/{scan}"),
        denoised="results/functional/denoised/{batch}",
        quality="results/quality/scans/{batch}",
        inclusion="results/quality/inclusion.tsv",
        mask="results/quality/group_mask.nii.gz",
    output:
        directory("results/classifier/connectivity/{batch}"),
    log:
        "results/logs/classifier_connectivity/{batch}.log",
    benchmark:
        "results/benchmarks/classifier_connectivity/{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        scans=scans_of_batch,
        code=code_of("classifier.connectivity"),
    script:
        "../scripts/classifier_connectivity.py"


rule classifier_baselines:
    input:
        unpack(lambda w: baseline_files(list(BATCHES), ORDERS[0], w.fold)),
    output:
        predictions="results/classifier/baselines/{fold}/predictions.tsv",
        sidecar="results/classifier/baselines/{fold}/model.json",
    log:
        "results/logs/classifier_baselines/{fold}.log",
    benchmark:
        "results/benchmarks/classifier_baselines/{fold}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(edges_memory(len(PARTICIPANTS))),
    params:
        batches=BATCHES,
        code=code_of("classifier.baselines"),
    script:
        "../scripts/classifier_baselines.py"


rule classifier_measured:
    input:
        unpack(lambda w: measured_files(PLAN, list(BATCHES), w.fold)),
    output:
        predictions="results/classifier/measured/{fold}/predictions.tsv",
        permuted="results/classifier/measured/{fold}/permuted.npy",
        sidecar="results/classifier/measured/{fold}/model.json",
    log:
        "results/logs/classifier_measured/{fold}.log",
    benchmark:
        "results/benchmarks/classifier_measured/{fold}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(kernel_memory(len(PARTICIPANTS), ORDERS[0], least=1500)),
    params:
        settings={
            "batches": BATCHES,
            "models": measured_models(PLAN),
            "arms": PLAN.arms,
            "settings_of": PLAN.models,
            "thresholds": config["metrics"]["thresholds"],
            "n_permutations": config["metrics"]["permutations"],
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
        },
        code=code_of("classifier.measured_fold"),
    script:
        "../scripts/classifier_measured.py"


rule classifier_explain:
    input:
        unpack(lambda w: explanation_files(PLAN, list(BATCHES), w)),
        template=[path for path in (config["components"]["template"],) if path],
        template_labels=[path for path in (config["components"]["template_labels"],) if path],
    output:
        table="results/classifier/{protocol}/{arm}/{model}/{fold}/explanation.tsv",
        attribution="results/classifier/{protocol}/{arm}/{model}/{fold}/explanation.npy",
        sidecar="results/classifier/{protocol}/{arm}/{model}/{fold}/explanation.json",
    log:
        "results/logs/classifier_explain/{protocol}_{arm}_{model}_{fold}.log",
    benchmark:
        "results/benchmarks/classifier_explain/{protocol}_{arm}_{model}_{fold}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(lambda w: explanation_memory(PLAN, config, w)),
    params:
        row=lambda w: config_row(PLAN, w),
        settings={
            "batches": BATCHES,
            "seed": config["seed"],
            "voxel_size": config["classifier"]["voxel_size"],
        },
        code=code_of("classifier.explanation"),
    script:
        "../scripts/classifier_explain.py"
