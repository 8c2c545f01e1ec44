# T1w: brain mask, bias correction, normalisation to MNI152, tissue segmentation. One job an image.


rule anatomical_normalise:
    input:
        t1w=t1w_of,
    output:
        T1w="results/anatomical/{anat}/{anat}_desc-preproc_T1w.nii.gz",
        brain_mask="results/anatomical/{anat}/{anat}_desc-brain_mask.nii.gz",
        GM="results/anatomical/{anat}/{anat}_label-GM_probseg.nii.gz",
        WM="results/anatomical/{anat}/{anat}_label-WM_probseg.nii.gz",
        CSF="results/anatomical/{anat}/{anat}_label-CSF_probseg.nii.gz",
        affine="results/anatomical/{anat}/{anat}_from-T1w_to-MNI152_affine.mat",
        warp="results/anatomical/{anat}/{anat}_from-T1w_to-MNI152_warp.nii.gz",
        T1w_MNI="results/anatomical/{anat}/{anat}_space-MNI152_desc-preproc_T1w.nii.gz",
        GM_MNI="results/anatomical/{anat}/{anat}_space-MNI152_label-GM_probseg.nii.gz",
        WM_MNI="results/anatomical/{anat}/{anat}_space-MNI152_label-WM_probseg.nii.gz",
        CSF_MNI="results/anatomical/{anat}/{anat}_space-MNI152_label-CSF_probseg.nii.gz",
        record="results/anatomical/{anat}/{anat}.json",
    log:
        "results/logs/anatomical_normalise/{anat}.log",
    benchmark:
        "results/benchmarks/anatomical_normalise/{anat}.tsv"
    container:
        CONTAINERS["python"]
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
