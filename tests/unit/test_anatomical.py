"""The T1w image comes to the template, its tissues are found, and bad images are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from preprocessed_phantom import ANATOMICAL, PARTICIPANT, anatomical_outputs, phantom  # noqa: F401
from scipy import ndimage

from restresponse import grid
from restresponse.anatomical import fit_to_template, normalise_anatomical
from restresponse.engines import EngineFailure, engine, masks, warps
from restresponse.engines.array_interfaces import write
from restresponse.files import read_json
from restresponse.phantom.anatomy import sampled, tissue_template
from restresponse.phantom.truth import read_truth


def test_grey_matter_lies_on_the_templates(phantom):  # noqa: F811
    outputs = anatomical_outputs(phantom / "results")
    record = read_json(outputs["record"])
    assert record["status"] == "done" and record["reason"] is None
    shape, affine = grid.grid(ANATOMICAL["voxel_size"])
    image = nib.load(outputs["GM_MNI"])
    assert image.shape == shape
    np.testing.assert_allclose(image.affine, affine)
    grey = np.asarray(image.dataobj) > 0.5
    assert masks.dice(grey, grid.template_image("GM", ANATOMICAL["voxel_size"]) > 0.5) > 0.8
    assert record["quality"]["grey_matter_dice"] > 0.8
    assert record["quality"]["template_dice"] > 0.93
    assert record["quality"]["template_correlation"] > 0.9


def test_normalisation_recovers_the_planted_warp(phantom):  # noqa: F811
    outputs, truth = anatomical_outputs(phantom / "results"), read_truth(phantom / "bids_truth", PARTICIPANT)
    coarse, fine = grid.grid(8), grid.grid(2)
    brain = grid.brain_mask(8)
    points = warps.world_of(np.argwhere(brain).astype(float), coarse[1])
    field = warps.field_of(np.asarray(nib.load(outputs["warp"]).dataobj))
    found = warps.world_of(points + warps.sample(field, fine[1], points), np.loadtxt(outputs["affine"]))
    error = np.linalg.norm(found - truth.mni_to_t1w(points.T).T, axis=1)
    assert error.mean() < 1.0
    assert np.percentile(error, 95) < 2.5


def test_tissues_are_the_planted_ones(phantom):  # noqa: F811
    outputs, truth = anatomical_outputs(phantom / "results"), read_truth(phantom / "bids_truth", PARTICIPANT)
    image = nib.load(outputs["brain_mask"])
    maps, _ = sampled(truth.warp, tissue_template(), image.shape, image.affine)
    planted = dict(zip(("GM", "WM", "CSF"), np.moveaxis(maps, -1, 0) > 0.5, strict=False))
    brain, mask = maps[..., :3].sum(axis=-1) > 0.5, np.asarray(image.dataobj) > 0
    assert masks.dice(mask, brain) > 0.97
    shares = {name: np.asarray(nib.load(outputs[name]).dataobj) for name in planted}
    assert masks.dice(shares["GM"] > 0.5, planted["GM"]) > 0.91
    assert masks.dice(shares["WM"] > 0.5, planted["WM"]) > 0.91
    assert masks.dice(shares["CSF"] > 0.5, planted["CSF"]) > 0.75
    total = sum(shares.values())
    assert total.min() >= 0 and total.max() < 1.001
    deep = mask & ndimage.binary_erosion(brain, iterations=3)  # fluid beyond the template's brain is of no tissue
    assert (np.abs(total[deep] - 1) < 1e-3).mean() > 0.999


def test_record_says_what_was_done_with_which_tool(phantom):  # noqa: F811
    record = read_json(anatomical_outputs(phantom / "results")["record"])
    steps = [step["step"] for step in record["steps"]]
    assert steps == ["brain extraction", "bias correction", "normalisation", "segmentation"]
    assert all(step["tool"] and step["version"] and step["seconds"] is not None for step in record["steps"])
    assert record["methods"] == [step["method"] for step in record["steps"]]
    assert record["engine"] == "embedded"
    assert not list((phantom / "results").glob(".work-*"))


def test_a_normalisation_that_shows_no_template_is_refused_whatever_the_masks_say():
    """A neck taken for brain scales to the template's size: the masks agree, the images do not."""
    head, grey = grid.template_image("T1w", 2), grid.template_image("GM", 2)
    brain = grid.template_image("brain", 2) >= 0.5
    fit = fit_to_template(head, grey, brain, 1500.0)
    assert fit == {
        "brain_volume": 1500.0,
        "template_dice": 1.0,
        "template_correlation": pytest.approx(1),
        "grey_matter_dice": 1.0,
    }
    with pytest.raises(EngineFailure, match=r"correlates with the template by -1.00.*holds 2,900 ml"):
        fit_to_template(np.where(brain, 1 - head, 0), grey, brain, 2900.0)
    with pytest.raises(EngineFailure, match="overlaps the template's by a Dice of"):
        fit_to_template(head, grey, np.roll(brain, 60, axis=1), 1500.0)


def test_registration_is_repeatable_to_the_bit(tmp_path):
    """Twice the same deformable and rigid registration, for greedy is not so without a seed."""
    contents = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        works = engine("embedded", folder)
        template = grid.template_image("T1w", 4)
        affine = grid.grid(4)[1]
        moved = affine.copy()
        moved[:3, 3] += [3, -2, 4]
        t1w = write(works.folder / "T1w.nii", 1000 * template, moved)
        mask = write(works.folder / "mask.nii", (template > 0.2).astype(np.uint8), moved)
        np.savetxt(folder / "head.mat", np.eye(4))
        warp = works.normalise(t1w, mask).warp
        rigid = works.coregister(
            t1w,
            mask,
            write(works.folder / "other.nii", 900 * template, affine),
            write(works.folder / "om.nii", template, affine),
        )
        contents.append((Path(warp).read_bytes(), Path(rigid).read_text()))
        np.testing.assert_allclose(np.loadtxt(rigid)[:3, 3], [3, -2, 4], atol=0.3)
    assert contents[0] == contents[1]


def _bad_images(folder: Path) -> dict[str, tuple[Path, str]]:
    generator = np.random.default_rng(0)
    whole = (100 * generator.random((20, 20, 20))).astype(np.float32)
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    cases = {
        "constant": (np.full((20, 20, 20), 7, np.float32), "constant"),
        "nan": (np.full((20, 20, 20), np.nan, np.float32), "NaN everywhere"),
        "four_dimensional": (np.stack([whole] * 5, axis=-1), "expected 3 dimensions"),
    }
    template = grid.template_image("T1w", 4)
    cases["not_t1_weighted"] = (1000 * np.where(template > 0.2, 1.3 - template, 0), "not a T1-weighted head")
    paths = {}
    for name, (data, words) in cases.items():
        image = nib.Nifti1Image(data, grid.grid(4)[1] if name == "not_t1_weighted" else affine)
        image.set_qform(image.affine + np.eye(4, k=3) * 5, code=1)  # 5 mm to the right of the sform
        image.to_filename(folder / f"{name}.nii.gz")
        paths[name] = (folder / f"{name}.nii.gz", words)
    nib.Nifti1Image(whole, affine).to_filename(folder / "whole.nii.gz")
    nib.Nifti1Image(whole, affine + 0.5 * np.eye(4, k=1) * [1, 1, 0, 0]).to_filename(folder / "sheared.nii.gz")
    paths["sheared"] = (folder / "sheared.nii.gz", "sheared: the axes of its voxels are up to 3.6 degrees off")
    content = (folder / "whole.nii.gz").read_bytes()
    (folder / "truncated.nii.gz").write_bytes(content[: len(content) // 2])
    paths["truncated"] = (folder / "truncated.nii.gz", "cannot be read to its end")
    (folder / "text.nii.gz").write_bytes(gzip.compress(b"no image"))
    paths["text"] = (folder / "text.nii.gz", "cannot be read to its end")
    (folder / "empty.nii.gz").write_bytes(b"")
    paths["empty"] = (folder / "empty.nii.gz", "cannot be read to its end")
    return paths


@pytest.mark.parametrize(
    "case", ["constant", "nan", "four_dimensional", "truncated", "text", "empty", "sheared", "not_t1_weighted"]
)
def test_a_bad_t1w_is_recorded_and_leaves_empty_files(tmp_path, case):
    path, words = _bad_images(tmp_path)[case]
    outputs = anatomical_outputs(tmp_path / "out")
    normalise_anatomical(path, outputs, **ANATOMICAL)
    record = read_json(outputs["record"])
    assert record["status"] == "failed"
    assert words in record["reason"]
    notes = " ".join(record.get("notes", []))
    assert ("the header of the T1w not_t1_weighted.nii.gz place it up to 5.0 mm apart" in notes) == (
        case == "not_t1_weighted"
    )
    assert all(file.stat().st_size == 0 for name, file in outputs.items() if name != "record")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(file.name for file in outputs.values())
