"""One bad scan does not stop the others, and what a fold is tested on never reaches its fit."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from restresponse.files import read_json, read_table, save_image
from running import TINY, run_snakemake

pytestmark = pytest.mark.slow
FOLD = "rep-1_fold-01"


def test_a_truncated_scan_is_recorded_left_out_and_listed_and_the_run_ends_with_the_others(study):
    """A ninth participant, whose BOLD image was cut off in copying, changes none of the others' predictions."""
    before = (study / "results/metrics/predictions.tsv").read_text()
    bids, scan = study / "bids", "sub-09_task-rest"
    for source in [path for path in (bids / "sub-02").rglob("*") if path.is_file()]:
        copy = bids / str(source.relative_to(bids)).replace("sub-02", "sub-09")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)
    table = bids / "participants.tsv"
    row = next(line for line in table.read_text().splitlines() if line.startswith("sub-02"))
    table.write_text(table.read_text().rstrip("\n") + "\n" + row.replace("sub-02", "sub-09") + "\n")
    raw = bids / "sub-09" / "func" / f"{scan}_bold.nii.gz"
    raw.write_bytes(raw.read_bytes()[: raw.stat().st_size // 2])

    run_snakemake(study, config=TINY)
    record = read_json(study / f"results/functional/{scan}/{scan}.json")
    assert record["status"] == "failed"
    assert "cannot be read to its end" in record["reason"]
    inclusion = read_table(study / "results/quality/inclusion.tsv", text_columns=("scan", "reason")).set_index("scan")
    assert not inclusion.loc[scan, "included"]
    assert record["reason"] in inclusion.loc[scan, "reason"]
    assert inclusion["included"].sum() == 8
    assert (study / "results/metrics/predictions.tsv").read_text() == before
    report, index, named = (
        study / f"results/{page}.html" for page in ("report/index", "quality/index", "quality/scans")
    )
    assert all("cannot be read to its end" in page.read_text() for page in (report, index, named))
    for number in range(1, 10):  # report.identifiers is false
        assert f"sub-{number:02d}" not in report.read_text() + index.read_text()
        assert f"sub-{number:02d}_task-rest" in named.read_text()
    for image in (study / f"results/functional/{scan}").glob("*.nii.gz"):
        assert image.stat().st_size == 0


def test_a_folds_fit_does_not_change_when_its_test_scans_become_noise(study):
    """Bit for bit: group components, selection and linear model; the scores of the test participants do change."""
    fits = [
        f"results/group_ica/{FOLD}/order-4/components.npy",
        f"results/components/{FOLD}/order-4/labels-{FOLD}/components.tsv",
        f"results/classifier/clean/asc/linear/{FOLD}/model.npz",
        f"results/classifier/clean/ssc/linear/{FOLD}/model.npz",
    ]
    before = {path: (study / path).read_bytes() for path in fits}
    scores = (study / f"results/classifier/clean/asc/linear/{FOLD}/predictions.tsv").read_text()
    everyone = (study / "results/group_ica/all/order-4/components.npy").read_bytes()
    folds = read_table(study / "results/folds/folds.tsv", text_columns=("fold", "participant_id"))
    rng = np.random.default_rng(0)
    for participant in folds.loc[folds["fold"] == FOLD, "participant_id"]:
        scan = f"{participant}_task-rest"
        [path] = study.glob(f"results/functional/denoised/*/{scan}_space-MNI152_desc-denoised_bold.nii.gz")
        image = nib.load(path)
        inside = np.asarray(image.dataobj).any(axis=-1, keepdims=True)
        noise = rng.standard_normal(image.shape).astype(np.float32) * inside
        save_image(path, nib.Nifti1Image(noise, image.affine, image.header))
    run_snakemake(study, *fits, "results/group_ica/all/order-4/components.npy", config=TINY)
    for path in fits:
        assert arrays_of(study / path) == arrays_of_bytes(before[path], path), path
    assert (study / f"results/classifier/clean/asc/linear/{FOLD}/predictions.tsv").read_text() != scores
    assert (study / "results/group_ica/all/order-4/components.npy").read_bytes() != everyone


def arrays_of(path):
    """The content of a file without what a container may stamp on it: names and bytes of the arrays of an .npz."""
    return arrays_of_bytes(path.read_bytes(), str(path))


def arrays_of_bytes(content, path):
    """As `arrays_of`, of a file's bytes."""
    if not path.endswith(".npz"):
        return content
    import io

    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files if name != "scores"}


def test_labels_that_are_missing_stop_what_needs_them_and_nothing_else(study):
    shutil.rmtree(study / "results" / "dataset")
    table = study / "bids" / "participants.tsv"
    table.write_text(table.read_text().replace("pain_post", "pain_later"))
    done = run_snakemake(study, "results/metrics/metrics.tsv", config=TINY, check=False)
    assert done.returncode != 0
    assert "pain_post" in done.stdout and "dataset_labels" in done.stdout
    run_snakemake(study, "results/group_ica/all/order-4/components.npy", config=TINY)
