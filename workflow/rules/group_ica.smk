# Reduction of each participant, cached inner products of the reduced maps, and the ICA of any cohort.


rule group_ica_reduce:
    input:
        bold=lambda w: [
            f"results/functional/{scan}/{scan}_space-MNI152_desc-denoised_bold.nii.gz"
            for scan in SCANS_OF[w.participant]
        ],
        mask="results/quality/group_mask.nii.gz",
        inclusion="results/quality/inclusion.tsv",
    output:
        reduced="results/group_ica/participants/{participant}_reduced.npy",
        sidecar="results/group_ica/participants/{participant}_reduced.json",
    log:
        "results/logs/group_ica_reduce/{participant}.log",
    benchmark:
        "results/benchmarks/group_ica_reduce/{participant}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        scans=lambda w: SCANS_OF[w.participant],
        n_dimensions=config["group_ica"]["reduction"],
        code=code_of("group_ica.reduction"),
    script:
        "../scripts/group_ica_reduce.py"


rule group_ica_gram:
    input:
        first=lambda w: expand("results/group_ica/participants/{p}_reduced.npy", p=TILES[w.tile_a]),
        second=lambda w: expand("results/group_ica/participants/{p}_reduced.npy", p=TILES[w.tile_b]),
    output:
        "results/group_ica/gram/{tile_a}_{tile_b}.npy",
    log:
        "results/logs/group_ica_gram/{tile_a}_{tile_b}.log",
    benchmark:
        "results/benchmarks/group_ica_gram/{tile_a}_{tile_b}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        code=code_of("group_ica.group_pca"),
    script:
        "../scripts/group_ica_gram.py"


rule group_ica_components:
    input:
        reduced=expand("results/group_ica/participants/{participant}_reduced.npy", participant=PARTICIPANTS),
        tiles=[f"results/group_ica/gram/{a}_{b}.npy" for a in TILES for b in TILES if a <= b],
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
        mem_mb=memory(4000),
    params:
        participants=PARTICIPANTS,
        tiles=[(a, b) for a in TILES for b in TILES if a <= b],
        members=TILES,
        settings={key: config["group_ica"][key] for key in ("restarts", "subsample", "tolerance", "max_iterations")},
        seed=config["seed"],
        code=code_of("group_ica.cohort"),
    script:
        "../scripts/group_ica_components.py"
