# BOLD: slice timing, realignment, coregistration, one resampling to MNI, smoothing; then denoising.


rule functional_denoise:
    input:
        image="results/functional/{scan}/{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        confounds="results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv",
        record="results/functional/{scan}/{scan}.json",
    output:
        image="results/functional/{scan}/{scan}_space-MNI152_desc-denoised_bold.nii.gz",
        record="results/functional/{scan}/{scan}_desc-denoised.json",
    log:
        "results/logs/functional_denoise/{scan}.log",
    benchmark:
        "results/benchmarks/functional_denoise/{scan}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=4000,
    params:
        repetition_time=of_scan("repetition_time"),
        settings=config["functional"]["denoising"],
        code=code_of("functional.denoising"),
    script:
        "../scripts/functional_denoise.py"
