# Reduction of each participant (a batch of them a job), cached inner products of the reduced maps, and the ICA of any cohort.


rule group_ica_reduce:
    input:
        bold=of_batch("results/functional/{scan}/{scan}_space-MNI152_desc-denoised_bold.nii.gz"),
        mask="results/quality/group_mask.nii.gz",
        inclusion="results/quality/inclusion.tsv",
    output:
        directory("results/group_ica/participants/{batch}"),
    log:
        "results/logs/group_ica_reduce/{batch}.log",
    benchmark:
        "results/benchmarks/group_ica_reduce/{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=4000,
    params:
        scans=scans_of_batch,
        n_dimensions=config["group_ica"]["reduction"],
        code=code_of("group_ica.reduction"),
    script:
        "../scripts/group_ica_reduce.py"


rule group_ica_gram:
    input:
        first="results/group_ica/participants/{batch_a}",
        second="results/group_ica/participants/{batch_b}",
    output:
        "results/group_ica/gram/{batch_a}_{batch_b}.npy",
    log:
        "results/logs/group_ica_gram/{batch_a}_{batch_b}.log",
    benchmark:
        "results/benchmarks/group_ica_gram/{batch_a}_{batch_b}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=2000,
    params:
        rows=lambda w: BATCHES[w.batch_a],
        columns=lambda w: BATCHES[w.batch_b],
        code=code_of("group_ica.group_pca"),
    script:
        "../scripts/group_ica_gram.py"


rule group_ica_components:
    input:
        reduced=expand("results/group_ica/participants/{batch}", batch=BATCHES),
        tiles=[f"results/group_ica/gram/{a}_{b}.npy" for a, b in TILES],
        mask="results/quality/group_mask.nii.gz",
        folds=lambda w: [] if w.cohort == "all" else "results/folds/folds.tsv",
    output:
        components="results/group_ica/{cohort}/order-{order}/components.npy",
        image="results/group_ica/{cohort}/order-{order}/components.nii.gz",
        table="results/group_ica/{cohort}/order-{order}/components.tsv",
        sidecar="results/group_ica/{cohort}/order-{order}/components.json",
    log:
        "results/logs/group_ica_components/{cohort}_{order}.log",
    benchmark:
        "results/benchmarks/group_ica_components/{cohort}_{order}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=4000,
    params:
        batches=BATCHES,
        tiles=TILES,
        settings={key: config["group_ica"][key] for key in ("restarts", "subsample", "tolerance", "max_iterations")},
        seed=config["seed"],
        code=code_of("group_ica.cohort"),
    script:
        "../scripts/group_ica_components.py"
