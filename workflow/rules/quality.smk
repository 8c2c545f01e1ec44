# Measures of each scan, the decision to use it, and the mask that every cohort shares.


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
        mem_mb=1000,
    params:
        voxel_size=config["functional"]["voxel_size"],
        code=code_of("quality.group_mask"),
    script:
        "../scripts/quality_group_mask.py"


rule quality_scan:
    input:
        image="results/functional/{scan}/{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        own_mask="results/functional/{scan}/{scan}_space-MNI152_desc-brain_mask.nii.gz",
        confounds="results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv",
        record="results/functional/{scan}/{scan}.json",
        denoised_record="results/functional/{scan}/{scan}_desc-denoised.json",
        group_mask="results/quality/group_mask.nii.gz",
    output:
        measures="results/quality/{scan}.json",
        registration="results/quality/{scan}_registration.png",
        motion="results/quality/{scan}_motion.png",
    log:
        "results/logs/quality_scan/{scan}.log",
    benchmark:
        "results/benchmarks/quality_scan/{scan}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=4000,
    params:
        participant=of_scan("participant_id"),
        code=code_of("quality.measures"),
    script:
        "../scripts/quality_scan.py"


rule quality_inclusion:
    input:
        measures=expand("results/quality/{scan}.json", scan=SCANS),
    output:
        inclusion="results/quality/inclusion.tsv",
    log:
        "results/logs/quality_inclusion.log",
    benchmark:
        "results/benchmarks/quality_inclusion.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=500,
    params:
        settings=config["quality"],
        minimum_dof=max(ORDERS) + 10,
        set_aside=SET_ASIDE,
        code=code_of("quality.inclusion"),
    script:
        "../scripts/quality_inclusion.py"
