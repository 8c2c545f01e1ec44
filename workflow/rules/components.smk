# What each component is and how much of it each participant has (no labels); which differ by group (labels).


rule components_measure:
    input:
        components="results/group_ica/{cohort}/order-{order}/components.npy",
        component_facts="results/group_ica/{cohort}/order-{order}/components.json",
        mask="results/quality/group_mask.nii.gz",
        maps=expand("results/dual_regression/{{cohort}}/order-{{order}}/asc/{batch}", batch=BATCHES),
        template=[path for path in (config["components"]["template"],) if path],
        template_labels=[path for path in (config["components"]["template_labels"],) if path],
    output:
        amplitudes="results/components/{cohort}/order-{order}/amplitudes.tsv",
        variability="results/components/{cohort}/order-{order}/variability.tsv",
        matches="results/components/{cohort}/order-{order}/matches.tsv",
        networks="results/components/{cohort}/order-{order}/networks.tsv",
        sidecar="results/components/{cohort}/order-{order}/measures.json",
    log:
        "results/logs/components_measure/{cohort}_{order}.log",
    benchmark:
        "results/benchmarks/components_measure/{cohort}_{order}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        batches=BATCHES,
        settings={
            key: config["components"][key] for key in ("threshold", "match_threshold", "template", "template_labels")
        },
        code=code_of("components"),
    script:
        "../scripts/components_measure.py"


rule components_select:
    input:
        amplitudes="results/components/{cohort}/order-{order}/amplitudes.tsv",
        variability="results/components/{cohort}/order-{order}/variability.tsv",
        matches="results/components/{cohort}/order-{order}/matches.tsv",
        measures_facts="results/components/{cohort}/order-{order}/measures.json",
        labels="results/folds/labels/{labels}.tsv",
    output:
        table="results/components/{cohort}/order-{order}/labels-{labels}/components.tsv",
        sidecar="results/components/{cohort}/order-{order}/labels-{labels}/components.json",
    log:
        "results/logs/components_select/{cohort}_{order}_{labels}.log",
    benchmark:
        "results/benchmarks/components_select/{cohort}_{order}_{labels}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        thresholds=PLAN.curve,
        require_match=config["components"]["require_match"],
        normalise=config["dual_regression"]["normalise_time_courses"],
        seed=config["seed"],
        code=code_of("components"),
    script:
        "../scripts/components_select.py"
