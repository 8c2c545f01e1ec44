# The BIDS folder as tables: scans, participants, and the labels that `folds` and `metrics` alone may read.
from restresponse.dataset import digest_of_rows


rule dataset_tables:
    input:
        participants=DATASET.participants_file,
    output:
        scans="results/dataset/scans.tsv",
        participants="results/dataset/participants.tsv",
    log:
        "results/logs/dataset_tables.log",
    benchmark:
        "results/benchmarks/dataset_tables.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={key: value for key, value in config["dataset"].items() if key != "outcome"},
        unwarp=config["functional"]["unwarp"],
        scans=digest_of_rows([*DATASET.scans, *DATASET.set_aside]),
        code=code_of("dataset.tables"),
    script:
        "../scripts/dataset_tables.py"


rule dataset_labels:
    input:
        participants="results/dataset/participants.tsv",
    output:
        "results/dataset/labels.tsv",
    log:
        "results/logs/dataset_labels.log",
    benchmark:
        "results/benchmarks/dataset_labels.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={"outcome": config["dataset"]["outcome"]},
        code=code_of("dataset.outcome"),
    script:
        "../scripts/dataset_labels.py"


rule dataset_characteristics:
    input:
        participants="results/dataset/participants.tsv",
    output:
        characteristics="results/dataset/characteristics.tsv",
    log:
        "results/logs/dataset_characteristics.log",
    benchmark:
        "results/benchmarks/dataset_characteristics.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        settings={"columns": config["metrics"]["baselines"], "outcome": config["dataset"]["outcome"]},
        code=code_of("dataset.characteristics"),
    script:
        "../scripts/dataset_characteristics.py"
