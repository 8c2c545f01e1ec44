"""What lies in the folders of the preprocessing stages, by the names that their functions use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

ANATOMICAL = {
    "T1w": "desc-preproc_T1w.nii.gz",
    "brain_mask": "desc-brain_mask.nii.gz",
    "GM": "label-GM_probseg.nii.gz",
    "WM": "label-WM_probseg.nii.gz",
    "CSF": "label-CSF_probseg.nii.gz",
    "affine": "from-T1w_to-MNI152_affine.mat",
    "warp": "from-T1w_to-MNI152_warp.nii.gz",
    "T1w_MNI": "space-MNI152_desc-preproc_T1w.nii.gz",
    "GM_MNI": "space-MNI152_label-GM_probseg.nii.gz",
    "WM_MNI": "space-MNI152_label-WM_probseg.nii.gz",
    "CSF_MNI": "space-MNI152_label-CSF_probseg.nii.gz",
    "record": ".json",
}
FUNCTIONAL = {
    "image": "space-MNI152_desc-preproc_bold.nii.gz",
    "mask": "space-MNI152_desc-brain_mask.nii.gz",
    "confounds": "desc-confounds_timeseries.tsv",
    "confounds_facts": "desc-confounds_timeseries.json",
    "record": ".json",
}
DENOISED = {
    "image": "space-MNI152_desc-denoised_bold.nii.gz",
    "record": "desc-denoised.json",
    "design": "desc-denoising_timeseries.tsv",
    "design_facts": "desc-denoising_timeseries.json",
}


def anatomical_files(folder: str | Path, anat: str) -> dict[str, str]:
    """The files of a T1w image in its folder, by the names of `anatomical.normalise_anatomical`."""
    return _named(ANATOMICAL, folder, anat)


def functional_files(folder: str | Path, scan: str) -> dict[str, str]:
    """The files of a preprocessed scan in its folder, by the names of `functional.preprocess.preprocess_scan`."""
    return _named(FUNCTIONAL, folder, scan)


def denoised_files(folder: str | Path, scan: str) -> dict[str, str]:
    """The files of a denoised scan in the folder of its batch, by the names of `functional.denoising.denoise_scan`."""
    return _named(DENOISED, folder, scan)


def denoised_images(folder: str | Path, scans: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The denoised image of each scan by participant, in the folder of their batch."""
    return {
        participant: {scan: denoised_files(folder, scan)["image"] for scan in names}
        for participant, names in scans.items()
    }


def preprocessed_images(folders: Sequence[str | Path], scans: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The preprocessed image of each scan by participant; `folders` has one for each scan, in their order."""
    ordered = [scan for names in scans.values() for scan in names]
    folder_of = dict(zip(ordered, folders, strict=True))
    return {
        participant: {scan: functional_files(folder_of[scan], scan)["image"] for scan in names}
        for participant, names in scans.items()
    }


def _named(endings: Mapping[str, str], folder: str | Path, stem: str) -> dict[str, str]:
    return {
        name: f"{folder}/{stem}{ending if ending.startswith('.') else f'_{ending}'}" for name, ending in endings.items()
    }
