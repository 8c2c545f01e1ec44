# Each participant's time courses and maps of a cohort's components: of all of them, and of the selected ones alone. One
# job a batch of participants.


rule dual_regression_maps:
    input:
        denoised="results/functional/denoised/{batch}",
        measures="results/quality/scans/{batch}",
        mask="results/quality/group_mask.nii.gz",
        inclusion="results/quality/inclusion.tsv",
        components="results/group_ica/{cohort}/order-{order}/components.npy",
        component_facts="results/group_ica/{cohort}/order-{order}/components.json",
    output:
        directory("results/dual_regression/{cohort}/order-{order}/asc/{batch}"),
    log:
        "results/logs/dual_regression_maps/{cohort}_{order}_{batch}.log",
    benchmark:
        "results/benchmarks/dual_regression_maps/{cohort}_{order}_{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        scans=scans_of_batch,
        settings=config["dual_regression"] | {key: config["group_ica"][key] for key in ("normalisation", "reduction")},
        code=code_of("dual_regression"),
    script:
        "../scripts/dual_regression_maps.py"


rule dual_regression_selected:
    input:
        all_maps="results/dual_regression/{cohort}/order-{order}/asc/{batch}",
        components="results/group_ica/{cohort}/order-{order}/components.npy",
        selection="results/components/{cohort}/order-{order}/labels-{labels}/components.tsv",
        selection_facts="results/components/{cohort}/order-{order}/labels-{labels}/components.json",
    output:
        directory("results/dual_regression/{cohort}/order-{order}/ssc_labels-{labels}_p-{p}/{batch}"),
    log:
        "results/logs/dual_regression_selected/{cohort}_{order}_{labels}_{p}_{batch}.log",
    benchmark:
        "results/benchmarks/dual_regression_selected/{cohort}_{order}_{labels}_{p}_{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        participants=lambda w: BATCHES[w.batch],
        normalise=config["dual_regression"]["normalise_time_courses"],
        code=code_of("dual_regression"),
    script:
        "../scripts/dual_regression_selected.py"
