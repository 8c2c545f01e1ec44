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
    log:
        "results/logs/quality_scan/{scan}.log",
    benchmark:
        "results/benchmarks/quality_scan/{scan}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
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
        mem_mb=memory(500),
    params:
        settings=config["quality"],
        minimum_dof=LEAST_DOF,
        set_aside=SET_ASIDE,
        code=code_of("quality.inclusion"),
    script:
        "../scripts/quality_inclusion.py"


rule quality_page:
    input:
        measures="results/quality/{scan}.json",
        image="results/functional/{scan}/{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        own_mask="results/functional/{scan}/{scan}_space-MNI152_desc-brain_mask.nii.gz",
        confounds="results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv",
        record="results/functional/{scan}/{scan}.json",
        denoised_record="results/functional/{scan}/{scan}_desc-denoised.json",
        group_mask="results/quality/group_mask.nii.gz",
        T1w=of_anatomical("results/anatomical/{anat}/{anat}_space-MNI152_desc-preproc_T1w.nii.gz"),
        GM=of_anatomical("results/anatomical/{anat}/{anat}_space-MNI152_label-GM_probseg.nii.gz"),
        WM=of_anatomical("results/anatomical/{anat}/{anat}_space-MNI152_label-WM_probseg.nii.gz"),
        CSF=of_anatomical("results/anatomical/{anat}/{anat}_space-MNI152_label-CSF_probseg.nii.gz"),
        anatomical_record=of_anatomical("results/anatomical/{anat}/{anat}.json"),
    output:
        "results/quality/{scan}.html",
    log:
        "results/logs/quality_page/{scan}.log",
    benchmark:
        "results/benchmarks/quality_page/{scan}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(3000),
    params:
        # the decision is made here again from the same thresholds: a page does not wait for the other scans
        settings=config["quality"],
        minimum_dof=LEAST_DOF,
        code=code_of("quality.pages"),
    script:
        "../scripts/quality_page.py"


rule quality_cohort:
    input:
        measures=expand("results/quality/{scan}.json", scan=SCANS),
        inclusion="results/quality/inclusion.tsv",
    output:
        "results/quality/index.html",
    log:
        "results/logs/quality_cohort.log",
    benchmark:
        "results/benchmarks/quality_cohort.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(500),
    params:
        settings=config["quality"],
        minimum_dof=LEAST_DOF,
        title=config["report"]["title"],
        code=code_of("quality.pages"),
    script:
        "../scripts/quality_cohort.py"
