# Each participant's time courses and maps of a cohort's components: of all of them, and of the selected ones alone.


rule dual_regression_maps:
    input:
        bold=lambda w: [
            f"results/functional/{scan}/{scan}_space-MNI152_desc-denoised_bold.nii.gz"
            for scan in SCANS_OF[w.participant]
        ],
        records=lambda w: [f"results/functional/{scan}/{scan}_desc-denoised.json" for scan in SCANS_OF[w.participant]],
        mask="results/quality/group_mask.nii.gz",
        inclusion="results/quality/inclusion.tsv",
        components="results/group_ica/{cohort}/order-{order}/components.npy",
        component_facts="results/group_ica/{cohort}/order-{order}/components.json",
    output:
        maps="results/dual_regression/{cohort}/order-{order}/asc/{participant}_maps.npy",
        residual="results/dual_regression/{cohort}/order-{order}/asc/{participant}_residual.npy",
        time_courses="results/dual_regression/{cohort}/order-{order}/asc/{participant}_timecourses.tsv",
        sidecar="results/dual_regression/{cohort}/order-{order}/asc/{participant}_maps.json",
    log:
        "results/logs/dual_regression_maps/{cohort}_{order}_{participant}.log",
    benchmark:
        "results/benchmarks/dual_regression_maps/{cohort}_{order}_{participant}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        scans=lambda w: SCANS_OF[w.participant],
        normalise=config["dual_regression"]["normalise_time_courses"],
        code=code_of("dual_regression"),
    script:
        "../scripts/dual_regression_maps.py"


rule dual_regression_selected:
    input:
        all_maps="results/dual_regression/{cohort}/order-{order}/asc/{participant}_maps.npy",
        all_time_courses="results/dual_regression/{cohort}/order-{order}/asc/{participant}_timecourses.tsv",
        all_facts="results/dual_regression/{cohort}/order-{order}/asc/{participant}_maps.json",
        components="results/group_ica/{cohort}/order-{order}/components.npy",
        selection="results/components/{cohort}/order-{order}/labels-{labels}/components.tsv",
        selection_facts="results/components/{cohort}/order-{order}/labels-{labels}/components.json",
    output:
        maps="results/dual_regression/{cohort}/order-{order}/ssc_labels-{labels}_p-{p}/{participant}_maps.npy",
        time_courses="results/dual_regression/{cohort}/order-{order}/ssc_labels-{labels}_p-{p}/{participant}_timecourses.tsv",
        sidecar="results/dual_regression/{cohort}/order-{order}/ssc_labels-{labels}_p-{p}/{participant}_maps.json",
    log:
        "results/logs/dual_regression_selected/{cohort}_{order}_{labels}_{p}_{participant}.log",
    benchmark:
        "results/benchmarks/dual_regression_selected/{cohort}_{order}_{labels}_{p}_{participant}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        normalise=config["dual_regression"]["normalise_time_courses"],
        code=code_of("dual_regression"),
    script:
        "../scripts/dual_regression_selected.py"
