# BOLD: slice timing, realignment, unwarping, coregistration, one resampling to MNI, smoothing: one job a scan; then
# denoising, one job a batch. Scans that were preprocessed elsewhere (dataset.derivatives) are adopted in the place of all that comes before denoising.


rule functional_preprocess:
    input:
        bold=of_scan("bold"),
        field_map=field_map_files,
        anatomical=expand("results/anatomical/{anat}", anat=of_scan("anat")),
    output:
        directory("results/functional/{scan}"),
    log:
        "results/logs/functional_preprocess/{scan}.log",
    benchmark:
        "results/benchmarks/functional_preprocess/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(PREPROCESSED_HERE),
    container:
        CONTAINERS[kind_of(config["functional"]["engine"])]
    threads: 1
    resources:
        mem_mb=memory(4000),
    params:
        anat=of_scan("anat"),
        repetition_time=of_scan("repetition_time"),
        slice_times=of_scan("slice_timing"),
        phase_encoding_direction=of_scan("phase_encoding_direction"),
        total_readout_time=of_scan("total_readout_time"),
        field_map=of_scan("fieldmap"),
        settings={
            key: config["functional"][key]
            for key in ("engine", "voxel_size", "slice_timing", "unwarp", "smoothing_fwhm")
        },
        engine_settings=config["engines"].get(config["functional"]["engine"]),
        code=code_of("functional.preprocess"),
    script:
        "../scripts/functional_preprocess.py"


rule functional_adopt:
    input:
        bold=of_scan("bold"),
        beside=if_any("mask", "confounds"),
    output:
        directory("results/functional/{scan}"),
    log:
        "results/logs/functional_adopt/{scan}.log",
    benchmark:
        "results/benchmarks/functional_adopt/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(ADOPTED),
    container:
        CONTAINERS[kind_of(config["functional"]["engine"])]
    threads: 1
    resources:
        mem_mb=memory(6000),
    params:
        mask=of_scan("mask"),
        given_confounds=of_scan("confounds"),
        space=of_scan("space"),
        repetition_time=of_scan("repetition_time"),
        settings={key: config["functional"][key] for key in ("engine", "voxel_size", "smoothing_fwhm")}
        | {"origin": DATASET.origin},
        engine_settings=config["engines"].get(config["functional"]["engine"]),
        code=code_of("functional.derivatives"),
    script:
        "../scripts/functional_adopt.py"


rule functional_denoise:
    input:
        of_batch("results/functional/{scan}"),
    output:
        directory("results/functional/denoised/{batch}"),
    log:
        "results/logs/functional_denoise/{batch}.log",
    benchmark:
        "results/benchmarks/functional_denoise/{batch}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        repetition_times=lambda w: {scan: SCANS[scan]["repetition_time"] for scan in SCAN_BATCHES[w.batch]},
        settings=config["functional"]["denoising"],
        code=code_of("functional.denoising"),
    script:
        "../scripts/functional_denoise.py"


# The results of anatomical and functional as one BIDS derivatives dataset. It holds links to the images and not the
# images: other rules read them where they are, under names without what a space or a session may change.
rule functional_export:
    input:
        scans="results/dataset/scans.tsv",
        scan_folders=expand("results/functional/{scan}", scan=SCANS),
        denoised=expand("results/functional/denoised/{batch}", batch=BATCHES),
        anatomical=expand("results/anatomical/{anat}", anat=ANATS),
    output:
        directory("results/derivatives"),
    log:
        "results/logs/functional_export.log",
    benchmark:
        "results/benchmarks/functional_export.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(1000),
    params:
        sources={key: config["dataset"][key] for key in ("bids_dir", "derivatives")},
        batches=SCAN_BATCHES,
        voxel_size=config["functional"]["voxel_size"],
        code=code_of("functional.export"),
    script:
        "../scripts/functional_export.py"
