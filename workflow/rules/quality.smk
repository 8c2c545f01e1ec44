# Measures of each scan, the decision to use it, the mask that every cohort shares, and pages to look at.


rule quality_group_mask:
    output:
        mask="results/quality/group_mask.nii.gz",
    log:
        "results/logs/quality_group_mask.log",
    benchmark:
        "results/benchmarks/quality_group_mask.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        voxel_size=config["functional"]["voxel_size"],
        code=code_of("quality.group_mask"),
    script:
        "../scripts/quality_group_mask.py"


rule quality_measure:
    input:
        preprocessed=of_batch("results/functional/{scan}"),
        denoised="results/functional/denoised/{batch}",
        group_mask="results/quality/group_mask.nii.gz",
    output:
        directory("results/quality/scans/{batch}"),
    log:
        "results/logs/quality_measure/{batch}.log",
    benchmark:
        "results/benchmarks/quality_measure/{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        scans=scans_of_batch,
        code=code_of("quality.measures"),
    script:
        "../scripts/quality_measure.py"


rule quality_inclusion:
    input:
        measures=expand("results/quality/scans/{batch}", batch=BATCHES),
    output:
        inclusion="results/quality/inclusion.tsv",
    log:
        "results/logs/quality_inclusion.log",
    benchmark:
        "results/benchmarks/quality_inclusion.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(500),
    params:
        batches=SCAN_BATCHES,
        settings=config["quality"],
        minimum_dof=LEAST_DOF,
        set_aside=SET_ASIDE,
        code=code_of("quality.inclusion"),
    script:
        "../scripts/quality_inclusion.py"


rule quality_pages:
    input:
        measures="results/quality/scans/{batch}",
        preprocessed=of_batch("results/functional/{scan}"),
        denoised="results/functional/denoised/{batch}",
        group_mask="results/quality/group_mask.nii.gz",
        anatomical=lambda w: expand("results/anatomical/{anat}", anat=anatomicals_of_batch(w).values()),
    output:
        directory("results/quality/pages/{batch}"),
    log:
        "results/logs/quality_pages/{batch}.log",
    benchmark:
        "results/benchmarks/quality_pages/{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(3000),
    params:
        scans=lambda w: SCAN_BATCHES[w.batch],
        anatomicals=anatomicals_of_batch,
        # the decision is made here again from the same thresholds: a page does not wait for the other batches
        settings=config["quality"],
        minimum_dof=LEAST_DOF,
        code=code_of("quality.pages"),
    script:
        "../scripts/quality_pages.py"


rule quality_cohort:
    input:
        measures=expand("results/quality/scans/{batch}", batch=BATCHES),
        inclusion="results/quality/inclusion.tsv",
        pages=expand("results/quality/pages/{batch}", batch=BATCHES),
        group_mask="results/quality/group_mask.nii.gz",
    output:
        index="results/quality/index.html",
        scans="results/quality/scans.html",
    log:
        "results/logs/quality_cohort.log",
    benchmark:
        "results/benchmarks/quality_cohort.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1500),
    params:
        batches=SCAN_BATCHES,
        settings={
            "settings": config["quality"],
            "minimum_dof": LEAST_DOF,
            "report": config["report"],
            "folders": [config["dataset"]["bids_dir"], config["dataset"]["derivatives"]],
        },
        code=code_of("quality.pages"),
    script:
        "../scripts/quality_cohort.py"
