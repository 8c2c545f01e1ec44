# T1w: brain mask, bias correction, normalisation to MNI152, tissue segmentation. One job an image.


rule anatomical_normalise:
    input:
        t1w=t1w_of,
    output:
        directory("results/anatomical/{anat}"),
    log:
        "results/logs/anatomical_normalise/{anat}.log",
    benchmark:
        "results/benchmarks/anatomical_normalise/{anat}.tsv"
    container:
        CONTAINERS[kind_of(config["anatomical"]["engine"])]
    threads: 1
    resources:
        mem_mb=memory(3000),
    params:
        settings=config["anatomical"],
        engine_settings=config["engines"].get(config["anatomical"]["engine"]),
        voxel_size=config["functional"]["voxel_size"],
        code=code_of("anatomical"),
    script:
        "../scripts/anatomical_normalise.py"
