# One self-contained page from the run's tables, records and sidecars.


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
                "null",
                "permutations",
                "comparisons",
                "calibration",
                "reliability",
                "decision_curve",
                "variance",
                "power",
            ),
        ),
        "results/metrics/certificate.json",
        ["results/metrics/explanation"] if config["metrics"]["explanation"] else [],
        "results/dataset/participants.tsv",
        "results/quality/inclusion.tsv",
        "results/quality/group_mask.nii.gz",
        "results/folds/folds.tsv",
        expand("results/anatomical/{anat}", anat=ANATS),
        expand("results/functional/{scan}", scan=SCANS),
        expand("results/functional/denoised/{batch}", batch=BATCHES),
        expand("results/quality/scans/{batch}", batch=BATCHES),
        ancient(["results/quality/index.html", *expand("results/quality/pages/{batch}", batch=BATCHES)]),  # linked, not read
        expand("results/group_ica/participants/{batch}", batch=BATCHES),
        expand("results/group_ica/all/order-{order}/components.{ending}", order=ORDERS, ending=("npy", "tsv", "json")),
        expand(
            "results/components/all/order-{order}/labels-all/components.{ending}", order=ORDERS, ending=("tsv", "json")
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
