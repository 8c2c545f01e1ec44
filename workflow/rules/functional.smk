# BOLD: slice timing, realignment, unwarping, coregistration, one resampling to MNI, smoothing; then denoising. Scans that
# were preprocessed elsewhere (dataset.derivatives) are adopted in the place of all that comes before denoising.


rule functional_preprocess:
    input:
        bold=of_scan("bold"),
        field_map=field_map_files,
        T1w=expand("results/anatomical/{anat}/{anat}_desc-preproc_T1w.nii.gz", anat=of_scan("anat")),
        brain_mask=expand("results/anatomical/{anat}/{anat}_desc-brain_mask.nii.gz", anat=of_scan("anat")),
        affine=expand("results/anatomical/{anat}/{anat}_from-T1w_to-MNI152_affine.mat", anat=of_scan("anat")),
        warp=expand("results/anatomical/{anat}/{anat}_from-T1w_to-MNI152_warp.nii.gz", anat=of_scan("anat")),
        GM_MNI=expand("results/anatomical/{anat}/{anat}_space-MNI152_label-GM_probseg.nii.gz", anat=of_scan("anat")),
        WM_MNI=expand("results/anatomical/{anat}/{anat}_space-MNI152_label-WM_probseg.nii.gz", anat=of_scan("anat")),
        CSF_MNI=expand("results/anatomical/{anat}/{anat}_space-MNI152_label-CSF_probseg.nii.gz", anat=of_scan("anat")),
        record=expand("results/anatomical/{anat}/{anat}.json", anat=of_scan("anat")),
    output:
        image="results/functional/{scan}/{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        mask="results/functional/{scan}/{scan}_space-MNI152_desc-brain_mask.nii.gz",
        confounds="results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv",
        confounds_facts="results/functional/{scan}/{scan}_desc-confounds_timeseries.json",
        record="results/functional/{scan}/{scan}.json",
    log:
        "results/logs/functional_preprocess/{scan}.log",
    benchmark:
        "results/benchmarks/functional_preprocess/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(PREPROCESSED_HERE),
    container:
        CONTAINERS["python"]
    threads: 1
    resources:
        mem_mb=memory(4000),
    params:
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
        image="results/functional/{scan}/{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        mask="results/functional/{scan}/{scan}_space-MNI152_desc-brain_mask.nii.gz",
        confounds="results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv",
        confounds_facts="results/functional/{scan}/{scan}_desc-confounds_timeseries.json",
        record="results/functional/{scan}/{scan}.json",
    log:
        "results/logs/functional_adopt/{scan}.log",
    benchmark:
        "results/benchmarks/functional_adopt/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(ADOPTED),
    container:
        CONTAINERS["python"]
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
        image="results/functional/{scan}/{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        confounds="results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv",
        record="results/functional/{scan}/{scan}.json",
    output:
        image="results/functional/{scan}/{scan}_space-MNI152_desc-denoised_bold.nii.gz",
        record="results/functional/{scan}/{scan}_desc-denoised.json",
        design="results/functional/{scan}/{scan}_desc-denoising_timeseries.tsv",
        design_facts="results/functional/{scan}/{scan}_desc-denoising_timeseries.json",
    log:
        "results/logs/functional_denoise/{scan}.log",
    benchmark:
        "results/benchmarks/functional_denoise/{scan}.tsv"
    container:
        CONTAINERS["python"]
    resources:
        mem_mb=memory(4000),
    params:
        repetition_time=of_scan("repetition_time"),
        settings=config["functional"]["denoising"],
        code=code_of("functional.denoising"),
    script:
        "../scripts/functional_denoise.py"


# The results of anatomical and functional as one BIDS derivatives dataset. It holds links to the images and not the
# images: other rules read them where they are, under names without what a space or a session may change.
rule functional_export:
    input:
        scans="results/dataset/scans.tsv",
        records=expand("results/functional/{scan}/{scan}{ending}.json", scan=SCANS, ending=("", "_desc-denoised")),
        anatomical=expand("results/anatomical/{anat}/{anat}.json", anat=ANATS),
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
        voxel_size=config["functional"]["voxel_size"],
        code=code_of("functional.export"),
    script:
        "../scripts/functional_export.py"
