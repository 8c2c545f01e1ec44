# The null: models again on permuted labels, and the percent fall of pain beside its permuted outcomes.
# `MEASURED`, the folds that predict that fall, is in metrics.smk.
from restresponse.classifier.protocols import config_row, measured_models, network_memory, reported_folds
from restresponse.metrics.network_null import (
    network_chunk_range,
    network_chunks,
    network_null_files,
    permuted_network_files,
    permuted_row,
)
from restresponse.metrics.permutations import chunk_names, chunk_range, null_files, permutation_files


rule metrics_null:
    input:
        unpack(lambda w: permutation_files(PLAN, list(BATCHES), w)),
    output:
        "results/metrics/null/{protocol}/{arm}/{model}/{chunk}.tsv",
    log:
        "results/logs/metrics_null/{protocol}_{arm}_{model}_{chunk}.log",
    benchmark:
        "results/benchmarks/metrics_null/{protocol}_{arm}_{model}_{chunk}.tsv"
    wildcard_constraints:
        model=one_of(LINEARS),
        chunk=one_of(chunk_names(config["metrics"]["permutations"])),
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(
            lambda w: null_memory(PLAN, len(PARTICIPANTS), config["classifier"]["inner_folds"], w.protocol, w.arm)
        ),
    params:
        row=lambda w: config_row(PLAN, w),
        cohorts=lambda w: {fold: PLAN.cohort(w.protocol, fold) for fold in reported_folds(PLAN, FOLDS[0])},
        permutations=lambda w: chunk_range(w.chunk, config["metrics"]["permutations"]),
        settings={
            "batches": BATCHES,
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
        },
        code=code_of("metrics.permutations"),
    script:
        "../scripts/metrics_null.py"


rule metrics_network_null:
    input:
        unpack(lambda w: permuted_network_files(PLAN, list(BATCHES), w)),
    output:
        "results/metrics/null/{protocol}/{arm}/{model}/{fold}/{chunk}.tsv",
    log:
        "results/logs/metrics_network_null/{protocol}_{arm}_{model}_{fold}_{chunk}.log",
    benchmark:
        "results/benchmarks/metrics_network_null/{protocol}_{arm}_{model}_{fold}_{chunk}.tsv"
    wildcard_constraints:
        model=one_of(NETWORKS),
        chunk=one_of(network_chunks(config["metrics"]["network_permutations"])),
    container:
        CONTAINERS["gpu" if config["classifier"]["gpu"] else "python"]
    resources:
        mem_mb=memory(lambda w: network_memory(config, len(PARTICIPANTS), w)),
        gpu=config["classifier"]["gpu"] or None,
    params:
        row=lambda w: permuted_row(PLAN, w),
        permutations=lambda w: network_chunk_range(w.chunk, config["metrics"]["network_permutations"]),
        settings={
            "batches": BATCHES,
            "seed": config["seed"],
            "n_inner_folds": config["classifier"]["inner_folds"],
            "voxel_size": config["classifier"]["voxel_size"],
            "gpu": config["classifier"]["gpu"],
            "normalise": config["dual_regression"]["normalise_time_courses"],
            "require_match": config["components"]["require_match"],
        },
        code=code_of("metrics.network_null"),
    script:
        "../scripts/metrics_network_null.py"


rule metrics_permutations:
    input:
        predictions="results/metrics/predictions.tsv",
        chunks=null_files(PLAN, config["metrics"]["permutations"]),
        networks=network_null_files(PLAN, config["metrics"]["network_permutations"]),
        folds="results/folds/folds.tsv",
        labels="results/folds/labels/all.tsv",
    output:
        null="results/metrics/null.tsv",
        permutations="results/metrics/permutations.tsv",
    log:
        "results/logs/metrics_permutations.log",
    benchmark:
        "results/benchmarks/metrics_permutations.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={"confidence": config["metrics"]["confidence"], "seed": config["seed"]},
        code=code_of("metrics.network_null"),
    script:
        "../scripts/metrics_permutations.py"


rule metrics_measured:
    input:
        folds="results/folds/folds.tsv",
        outcomes="results/folds/outcomes/all.tsv",
        predictions=expand("results/classifier/measured/{fold}/predictions.tsv", fold=MEASURED),
        permuted=expand("results/classifier/measured/{fold}/permuted.npy", fold=MEASURED),
    output:
        scores="results/metrics/change.tsv",
        sweep="results/metrics/thresholds.tsv",
        pairs="results/metrics/change_predictions.tsv",
    log:
        "results/logs/metrics_measured.log",
    benchmark:
        "results/benchmarks/metrics_measured.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        folds=MEASURED,
        settings={
            "models": measured_models(PLAN) if MEASURED else [],
            "thresholds": config["metrics"]["thresholds"],
            "resamples": config["metrics"]["resamples"],
            "confidence": config["metrics"]["confidence"],
            "n_permutations": config["metrics"]["permutations"],
            "seed": config["seed"],
        },
        code=code_of("metrics.measured"),
    script:
        "../scripts/metrics_measured.py"
