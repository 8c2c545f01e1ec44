"""From a folder of preprocessed images to the report: the same reductions, and no word of what is not known."""

import shutil

import numpy as np
import pytest
import yaml
from kept_series import kept_series, left_behind

from restresponse.files import read_array, read_json, read_table
from running import TINY, run_snakemake

pytestmark = pytest.mark.slow
SPACE = "space-MNI152NLin2009aSym_res-6"


@pytest.fixture(scope="module")
def adopted(tiny_study, tmp_path_factory):
    """The tiny study's derivatives as they are taken elsewhere: no links, no raw data, one scan without its confounds."""
    folder = tmp_path_factory.mktemp("adopted")
    shutil.copytree(tiny_study / "results/derivatives", folder / "preprocessed")
    shutil.copy(tiny_study / "bids/participants.tsv", folder / "preprocessed")
    for path in (folder / "preprocessed/sub-08/func").glob("*desc-confounds*"):
        path.unlink()
    (folder / f"preprocessed/sub-07/func/sub-07_task-rest_{SPACE}_desc-brain_mask.nii.gz").unlink()
    settings = yaml.safe_load(TINY.read_text())
    settings["dataset"] = {"bids_dir": None, "derivatives": "preprocessed"}
    settings["functional"]["smoothing_fwhm"] = 0  # they are smoothed
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    run_snakemake(folder, config=folder / "study.yaml")
    return folder


def test_the_scans_are_taken_as_they_are(adopted, tiny_study):
    assert not (adopted / "results/anatomical").exists()
    scan = "sub-01_task-rest"
    before, after = (
        np.asarray(
            read_image(study / f"results/functional/denoised/batch-01/{scan}_space-MNI152_desc-denoised_bold.nii.gz")
        )
        for study in (tiny_study, adopted)
    )
    assert np.abs(before - after).max() < 0.01 * before.std()  # 16 bits, rounded twice
    inclusion = read_table(adopted / "results/quality/inclusion.tsv", text_columns=("scan", "reason")).set_index("scan")
    assert inclusion["included"].all()
    assert "no head motion came with the images" in inclusion.loc["sub-08_task-rest", "reason"]
    assert inclusion["reason"].notna().sum() == 1
    assert (
        read_json(adopted / "results/functional/sub-07_task-rest/sub-07_task-rest.json")["quality"]["mask_dice"] > 0.7
    )


def test_two_compressed_series_of_each_scan_are_kept_and_no_working_folder(adopted, tiny_study):
    both = {"MNI152_desc-denoised_bold.nii.gz", "MNI152_desc-preproc_bold.nii.gz"}
    for study in (tiny_study, adopted):
        kept = kept_series(study / "results")
        assert len(kept) == 8 and all(len(endings) == 2 and set(endings) == both for endings in kept.values()), kept
        assert left_behind(study / "results") == []


def test_group_ica_goes_on_as_from_raw_images(adopted, tiny_study):
    """Seven reductions are those of the tiny study bit for bit; the eighth scan was denoised without its motion."""
    same = []
    for number in range(1, 9):
        path = f"results/group_ica/participants/batch-{(number - 1) // 3 + 1:02d}/sub-{number:02d}_reduced.npy"
        same.append(np.array_equal(*(read_array(study / path) for study in (tiny_study, adopted))))
    assert same == [True] * 7 + [False]
    fitted = read_json(adopted / "results/group_ica/all/order-4/components.json")
    assert fitted["fitted_on"] == [f"sub-{number:02d}" for number in range(1, 9)]
    assert min(fitted["stability"]) > 0.9


def test_the_report_says_where_the_images_come_from_and_what_is_not_known(adopted):
    page = (adopted / "results/report/index.html").read_text()
    assert "The images were preprocessed elsewhere (restresponse" in page
    assert "head motion is not known" in page
    assert "Head motion was estimated" not in page and "Slice timing was" not in page
    audit = read_table(adopted / "results/metrics/audit.tsv", text_columns=("verdict", "protocol"))
    assert (audit.loc[audit["protocol"] == "clean", "verdict"] == "clean").all()


def read_image(path):
    import nibabel as nib

    return nib.load(path).dataobj
