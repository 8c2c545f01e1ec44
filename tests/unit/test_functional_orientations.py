"""A head comes out the same however its files order their axes: a BIDS folder's T1w, BOLD, slice times and phase encoding to MNI space."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_tree import default_settings
from nibabel import orientations
from preprocessed_phantom import PARTICIPANT, anatomical_outputs, functional_outputs

from restresponse import grid
from restresponse.anatomical import normalise_anatomical
from restresponse.dataset import read_dataset
from restresponse.engines.masks import correlation, dice
from restresponse.files import read_json, read_table, write_json
from restresponse.functional.confounds import MOTION
from restresponse.functional.preprocess import preprocess_scan
from restresponse.phantom.cohort import make_cohort
from restresponse.phantom.settings import CohortSettings

VOXEL_SIZE = 5
ENGINE = {"engine": "embedded", "voxel_size": VOXEL_SIZE}
SETTINGS = {
    "participants": 1,
    "responders": 1,
    "volumes": 10,
    "t1w_voxel_size": 3.0,
    "bold_voxel_size": (5.0, 5.0, 5.0),
}
SETTINGS |= {"distortion": 6.0, "field_map": "phasediff", "seed": 8}
ODD = "sub-02"  # both images mirrored (left-handed); slices from the top, phase encoding along i, against j- as it was scanned
T1W_AXES, BOLD_AXES = "PIL", "PRI"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A head scanned once and stored twice, each time as a participant of a BIDS folder, and what became of both."""
    folder = tmp_path_factory.mktemp("orientations")
    bids = folder / "bids"
    make_cohort(bids, CohortSettings(**SETTINGS))
    _store_again(bids)
    for row in read_dataset(bids, default_settings(), "fieldmap").scans:
        own = folder / row["participant_id"]
        normalise_anatomical(
            row["t1w"], anatomical_outputs(own), bias_correction=True, segmentation_iterations=5, **ENGINE
        )
        encoding = {name: row[name] for name in ("phase_encoding_direction", "total_readout_time")}
        preprocess_scan(
            row["bold"], anatomical_outputs(own), functional_outputs(own), slice_timing=True, smoothing_fwhm=5, unwarp="fieldmap",
            repetition_time=row["repetition_time"], slice_times=row["slice_timing"], field_map=row["fieldmap"], **encoding, **ENGINE,
        )  # fmt: skip
        record = read_json(functional_outputs(own)["record"])
        assert record["status"] == "done", record["reason"]
    return folder


def _store_again(bids: Path) -> None:
    """The participant once more, with T1w and BOLD in other orders and sidecars that say so; the field map as it was."""
    shutil.copytree(bids / PARTICIPANT, bids / ODD)
    for path in [path for path in (bids / ODD).rglob("*") if path.is_file()]:
        path.rename(path.with_name(path.name.replace(PARTICIPANT, ODD)))
    for path in (bids / ODD / "fmap").glob("*.json"):
        path.write_text(path.read_text().replace(PARTICIPANT, ODD))
    table = bids / "participants.tsv"
    table.write_text(table.read_text() + table.read_text().splitlines()[1].replace(PARTICIPANT, ODD) + "\n")
    _reorder(bids / ODD / "anat" / f"{ODD}_T1w.nii.gz", T1W_AXES)
    stem = bids / ODD / "func" / f"{ODD}_task-rest_bold"
    went = _reorder(stem.with_suffix(".nii.gz"), BOLD_AXES)
    content = read_json(stem.with_suffix(".json"))
    axis, sign = went["ijk".index(content["PhaseEncodingDirection"][0])]
    backwards = content["PhaseEncodingDirection"].endswith("-") == (sign > 0)
    content["PhaseEncodingDirection"] = "ijk"[axis] + ("-" if backwards else "")
    content["SliceEncodingDirection"] = "ijk"[went[2][0]] + ("-" if went[2][1] < 0 else "")
    assert (content["PhaseEncodingDirection"], content["SliceEncodingDirection"]) == ("i", "k-")
    write_json(stem.with_suffix(".json"), content)


def _reorder(path: Path, axes: str) -> np.ndarray:
    """Store an image with its axes in another order; for each old axis the new one, and -1 where it was turned round."""
    image = nib.load(path)
    went = orientations.ornt_transform(nib.io_orientation(image.affine), orientations.axcodes2ornt(tuple(axes)))
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header).as_reoriented(went).to_filename(path)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == axes
    return went.astype(int)


def _both(results: Path, outputs, name: str) -> list[nib.Nifti1Image]:
    return [nib.load(outputs(results / participant)[name]) for participant in (PARTICIPANT, ODD)]


@pytest.mark.parametrize("name", ["T1w", "brain_mask", "GM", "WM", "CSF"])
def test_the_t1w_is_worked_on_in_ras_order(results, name):
    """Voxel for voxel that of the file in RAS order, for a bias field or a segmentation would otherwise start elsewhere."""
    plain, odd = _both(results, anatomical_outputs, name)
    assert nib.aff2axcodes(odd.affine) == ("R", "A", "S")
    np.testing.assert_allclose(odd.affine, plain.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(odd.dataobj), np.asarray(plain.dataobj))


@pytest.mark.parametrize("name", ["T1w_MNI", "GM_MNI"])
def test_the_t1w_comes_to_the_same_place(results, name):
    plain, odd = (np.asarray(image.dataobj, np.float32) for image in _both(results, anatomical_outputs, name))
    assert correlation(plain, odd, grid.brain_mask(VOXEL_SIZE)) > 0.999


def test_the_scan_comes_to_the_same_place_with_the_same_signal(results):
    masks = [np.asarray(image.dataobj) > 0 for image in _both(results, functional_outputs, "mask")]
    assert dice(*masks) > 0.97
    inside = masks[0] & masks[1] & grid.brain_mask(VOXEL_SIZE)
    plain, odd = (np.asarray(image.dataobj, np.float32) for image in _both(results, functional_outputs, "image"))
    assert correlation(plain.mean(axis=3), odd.mean(axis=3), inside) > 0.99
    changes = [series - series.mean(axis=3, keepdims=True) for series in (plain, odd)]
    for volume in range(plain.shape[3]):  # slice times from the wrong end: 0.81 to 0.98
        assert correlation(changes[0][..., volume], changes[1][..., volume], inside) > 0.99


def test_the_head_moved_the_same_way(results):
    tables = (
        read_table(functional_outputs(results / name)["confounds"], text_columns=()) for name in (PARTICIPANT, ODD)
    )
    plain, odd = (table[list(MOTION)].to_numpy(float) for table in tables)
    difference = (odd - odd.mean(axis=0)) - (plain - plain.mean(axis=0))
    assert np.abs(difference[:, :3]).max() < 0.01
    assert np.rad2deg(np.abs(difference[:, 3:]).max()) < 0.02
    assert np.ptp(plain[:, :3], axis=0).max() > 0.1  # there was something to find
