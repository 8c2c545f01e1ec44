# Self-contained pages from the run's tables, records and sidecars: the report, and one of each order's components.


rule report_components:
    input:
        expand(
            "results/group_ica/all/order-{{order}}/components.{ending}",
            ending=("npy", "tsv", "json"),
        ),
        "results/components/all/order-{order}/networks.tsv",
        expand("results/components/all/order-{{order}}/labels-all/components.{ending}", ending=("tsv", "json")),
        expand("results/dual_regression/all/order-{{order}}/asc/{batch}", batch=BATCHES),
        expand(
            "results/metrics/group_maps/order-{{order}}/{file}",
            file=("voxelwise.tsv", "groups.tsv", "group_maps.json"),
        ),
        "results/metrics/selection.tsv",
        "results/metrics/component_stability.tsv",
        "results/quality/group_mask.nii.gz",
        expand("results/quality/scans/{batch}", batch=BATCHES),
        "results/dataset/scans.tsv",
        [path for path in (config["components"]["template"], config["components"]["template_labels"]) if path],
    output:
        "results/report/components_order-{order}.html",
    log:
        "results/logs/report_components/{order}.log",
    benchmark:
        "results/benchmarks/report_components/{order}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1500),
    params:
        settings=lambda w: {
            "order": int(w.order),
            "config": config,
            "batches": BATCHES,
            "scan_batches": SCAN_BATCHES,
            "arms": [arm for arm in PLAN.arms if PLAN.order_of(arm) == int(w.order)],
            "stable": int(w.order) == ORDERS[0],
        },
        code=code_of("report.components_page"),
    script:
        "../scripts/report_components.py"


rule report_page:
    input:
        expand(
            "results/metrics/{table}.tsv",
            table=(
                "predictions",
                "metrics",
                "optimism",
                "audit",
                "timing",
                "cohort_table",
                "motion",
                "component_stability",
                "selection",
                "null",
                "permutations",
                "comparisons",
                "calibration",
                "reliability",
                "decision_curve",
                "variance",
                "power",
                "change",
                "change_predictions",
                "thresholds",
            ),
        ),
        "results/metrics/certificate.json",
        ["results/metrics/explanation", "results/metrics/left_out.tsv"] if config["metrics"]["explanation"] else [],
        "results/dataset/participants.tsv",
        "results/quality/inclusion.tsv",
        "results/quality/group_mask.nii.gz",
        "results/folds/folds.tsv",
        expand("results/anatomical/{anat}", anat=ANATS),
        expand("results/functional/{scan}", scan=SCANS),
        expand("results/functional/denoised/{batch}", batch=BATCHES),
        expand("results/quality/scans/{batch}", batch=BATCHES),
        ancient(["results/quality/index.html", *expand("results/quality/pages/{batch}", batch=BATCHES)]),  # linked, not read
        ancient(expand("results/report/components_order-{order}.html", order=ORDERS)),  # linked, not read
        expand("results/group_ica/participants/{batch}", batch=BATCHES),
        "results/metrics/orders.tsv" if len(ORDERS) > 1 else [],
        expand(
            "results/group_ica/all/order-{order}/components.{ending}", order=ORDERS[0], ending=("npy", "tsv", "json")
        ),
        expand(
            "results/components/all/order-{order}/labels-all/components.{ending}",
            order=ORDERS[0],
            ending=("tsv", "json"),
        ),
        ["results/classifier/{}/{}/{}/{}/model.json".format(*key) for key in CLASSIFICATIONS],
    output:
        "results/report/index.html",
    log:
        "results/logs/report_page.log",
    benchmark:
        "results/benchmarks/report_page.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1500),
    params:
        settings={
            "config": config,
            "scan_batches": SCAN_BATCHES,
            "anatomicals": list(ANATS),
            "batches": BATCHES,
            "classifications": CLASSIFICATIONS,
            "order": ORDERS[0],
            "minimum_dof": LEAST_DOF,
        },
        code=code_of("report"),
    script:
        "../scripts/report_page.py"
