# Outer folds by participant, and the label tables: what each later stage may know, and no more.


rule folds_assign:
    input:
        labels="results/dataset/labels.tsv",
        inclusion="results/quality/inclusion.tsv",
    output:
        folds="results/folds/folds.tsv",
        sidecar="results/folds/folds.json",
        labels=expand("results/folds/labels/{labels}.tsv", labels=COHORTS),
        outcomes=expand("results/folds/outcomes/{labels}.tsv", labels=COHORTS),
        outcomes_sidecars=expand("results/folds/outcomes/{labels}.json", labels=COHORTS),
        labels_sidecars=expand("results/folds/labels/{labels}.json", labels=COHORTS),
    log:
        "results/logs/folds_assign.log",
    benchmark:
        "results/benchmarks/folds_assign.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(500),
    params:
        settings=config["folds"],
        seed=config["seed"],
        code=code_of("folds"),
    script:
        "../scripts/folds_assign.py"
