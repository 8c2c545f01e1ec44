# Reduction of each participant (a batch of them a job), the group PCA of any cohort, and its ICA. Up to exact_limit
# participants the PCA is an eigendecomposition of cached inner products; above, each cohort has a tree of merges and passes.
from restresponse.group_ica.layout import Layout, beside

LAYOUT = Layout.of(BATCHES, config["group_ica"])


rule group_ica_reduce:
    input:
        denoised="results/functional/denoised/{batch}",
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
        mem_mb=memory(4000),
    params:
        scans=scans_of_batch,
        n_dimensions=config["group_ica"]["reduction"],
        normalisation=config["group_ica"]["normalisation"],
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
        mem_mb=memory(2000),
    params:
        rows=lambda w: BATCHES[w.batch_a],
        columns=lambda w: BATCHES[w.batch_b],
        code=code_of("group_ica.group_pca"),
    script:
        "../scripts/group_ica_gram.py"


rule group_ica_merge:
    input:
        maps=lambda w: LAYOUT.merged_by(w.node, w.cohort),
        sidecars=lambda w: beside(LAYOUT.nodes_below(w.node, w.cohort)),
        folds=folds_unless_all,
    output:
        node=temp("results/group_ica/{cohort}/merged/{node}.npy"),
        sidecar=temp("results/group_ica/{cohort}/merged/{node}.json"),  # told again in that of pass 0
    log:
        "results/logs/group_ica_merge/{cohort}_{node}.log",
    benchmark:
        "results/benchmarks/group_ica_merge/{cohort}_{node}.tsv"
    wildcard_constraints:
        node=one_of([*LAYOUT.parts, *LAYOUT.nodes]),
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        batches=lambda w: LAYOUT.batches_of(w.node),
        n_dimensions=config["group_ica"]["merge_dimensions"],
        code=code_of("group_ica.merge"),
    script:
        "../scripts/group_ica_merge.py"


rule group_ica_start:
    input:
        nodes=lambda w: LAYOUT.top_files(w.cohort),
        sidecars=lambda w: beside(LAYOUT.top_files(w.cohort)),
    output:
        block="results/group_ica/{cohort}/pass-0/next.npy",
        sidecar="results/group_ica/{cohort}/pass-0/next.json",
    log:
        "results/logs/group_ica_start/{cohort}.log",
    benchmark:
        "results/benchmarks/group_ica_start/{cohort}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        n_dimensions=config["group_ica"]["merge_dimensions"],
        code=code_of("group_ica.merge"),
    script:
        "../scripts/group_ica_start.py"


rule group_ica_multiply:
    input:
        reduced=lambda w: LAYOUT.folders_of(w.part),
        block=lambda w: LAYOUT.block_files(w.cohort, int(w.number))[-1],
        folds=folds_unless_all,
    output:
        part=temp("results/group_ica/{cohort}/pass-{number}/{part}.npy"),
        sidecar=temp("results/group_ica/{cohort}/pass-{number}/{part}.json"),
    log:
        "results/logs/group_ica_multiply/{cohort}_{number}_{part}.log",
    benchmark:
        "results/benchmarks/group_ica_multiply/{cohort}_{number}_{part}.tsv"
    wildcard_constraints:
        number=one_of(range(1, LAYOUT.passes + 1)),
        part=one_of(LAYOUT.parts),
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        batches=lambda w: LAYOUT.batches_of(w.part),
        code=code_of("group_ica.passes"),
    script:
        "../scripts/group_ica_multiply.py"


rule group_ica_finish:
    input:
        parts=lambda w: LAYOUT.part_files(w.cohort, int(w.number)),
        sidecars=lambda w: beside(LAYOUT.part_files(w.cohort, int(w.number))),
        blocks=lambda w: LAYOUT.block_files(w.cohort, int(w.number)),
    output:
        product="results/group_ica/{cohort}/pass-{number}/product.npy",
        block="results/group_ica/{cohort}/pass-{number}/next.npy",
        sidecar="results/group_ica/{cohort}/pass-{number}/next.json",
    log:
        "results/logs/group_ica_finish/{cohort}_{number}.log",
    benchmark:
        "results/benchmarks/group_ica_finish/{cohort}_{number}.tsv"
    wildcard_constraints:
        number=one_of(range(1, LAYOUT.passes + 1)),
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(2000),
    params:
        code=code_of("group_ica.passes"),
    script:
        "../scripts/group_ica_finish.py"


rule group_ica_components:
    input:
        reduced=lambda w: LAYOUT.inputs("reduced", w.cohort),
        tiles=lambda w: LAYOUT.inputs("tiles", w.cohort),
        blocks=lambda w: LAYOUT.inputs("blocks", w.cohort),
        products=lambda w: LAYOUT.inputs("products", w.cohort),
        facts=lambda w: LAYOUT.inputs("facts", w.cohort),
        mask="results/quality/group_mask.nii.gz",
        folds=folds_unless_all,
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
        batches=BATCHES if LAYOUT.exact else {},
        tiles=LAYOUT.tiles,
        settings={
            key: config["group_ica"][key]
            for key in ("algorithm", "restarts", "subsample", "tolerance", "max_iterations")
        },
        seed=config["seed"],
        code=code_of("group_ica.cohort"),
    script:
        "../scripts/group_ica_components.py"
