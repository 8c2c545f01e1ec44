"""The averages of all scans are those of the scans, however they are batched, and a picture of few persons is shown to none."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import yaml
from PIL import Image

from restresponse import grid
from restresponse.files import read_json, write_image, write_json, write_table
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import decide_inclusion
from restresponse.quality.pages.averages import Sums, draw_averages, maps_of_scan, read_averages
from restresponse.quality.pages.cohort import write_cohort_pages
from restresponse.quality.pages.scan import write_scan_pages
from running import ROOT

SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["quality"]
SIZE, N_SCANS = 6, 20


@pytest.fixture
def scans(tmp_path):
    """Function that makes files of scans: each moved to the right by its shift in voxels, each of a scale of its own."""
    import pandas as pd

    brain, affine = grid.brain_mask(SIZE), grid.grid(SIZE)[1]
    write_group_mask(tmp_path / "mask.nii.gz", SIZE)
    write_image(tmp_path / "own.nii.gz", brain, affine)
    write_image(tmp_path / "T1w.nii.gz", 700 * grid.template_image("T1w", SIZE), affine)
    write_json(tmp_path / "record.json", {"status": "done"})
    write_json(tmp_path / "denoised.json", {"status": "done"})
    write_table(tmp_path / "confounds.tsv", pd.DataFrame({"framewise_displacement": np.full(N_SCANS, 0.1)}))

    def make(shifts, **measures):
        files = {}
        for number, shift in enumerate(shifts, start=1):
            name, random = f"sub-{number:02d}_task-rest", np.random.default_rng(number)
            shape = np.roll(grid.template_image("T1w", SIZE), shift, axis=0)[..., None] * brain[..., None]
            noise = 1 + 0.01 * random.standard_normal((*brain.shape, N_SCANS))
            write_image(tmp_path / f"{name}.nii.gz", (100 * number * shape * noise).astype(np.float32), affine)
            found = {"scan": name, "participant_id": name[:6], "failed": None, "n_volumes": N_SCANS, "tsnr": 100.0}
            found |= {"mean_framewise_displacement": 0.1, "coverage": 1.0, "overlap": 0.95, "dof_residual": 99}
            write_json(tmp_path / f"{name}.json", found | measures.get(name[:6].replace("-", ""), {}))
            files[name] = {"measures": tmp_path / f"{name}.json", "image": tmp_path / f"{name}.nii.gz"} | {
                "own_mask": tmp_path / "own.nii.gz", "confounds": tmp_path / "confounds.tsv", "record": tmp_path / "record.json",
                "denoised_record": tmp_path / "denoised.json", "group_mask": tmp_path / "mask.nii.gz",
                "T1w": tmp_path / "T1w.nii.gz",
            }  # fmt: skip
        return files

    return make


def pages_of(files, folder):
    write_scan_pages(files, folder, settings=SETTINGS, minimum_dof=40)
    return folder


def test_two_batches_average_as_one_and_a_scan_that_is_not_used_is_in_none(scans, tmp_path):
    files = scans([0, 1, 5], sub03={"mean_framewise_displacement": 2.0})
    names = list(files)
    whole = read_averages([pages_of(files, tmp_path / "whole")])
    first = pages_of({name: files[name] for name in names[:1]}, tmp_path / "first")
    second = pages_of({name: files[name] for name in names[1:2]}, tmp_path / "second")
    unused = pages_of({name: files[name] for name in names[2:]}, tmp_path / "unused")
    parts, used = read_averages([first, second, unused]), read_averages([first, second])
    assert set(whole) == {"T1w", "EPI", "tSNR", "lost"}
    assert {name: count for name, (_, count) in whole.items()} == dict.fromkeys(whole, 2)
    for name, (values, _) in whole.items():
        np.testing.assert_allclose(parts[name][0], values, atol=1e-5)
        np.testing.assert_array_equal(used[name][0], parts[name][0])


def summed(shifts):
    """Sums over scans of the template, each of a scale of its own and moved to the right by its shift in voxels."""
    brain, template, sums = grid.brain_mask(SIZE), grid.template_image("T1w", SIZE), Sums()
    for number, shift in enumerate(shifts, start=1):
        mean = 100 * number * np.roll(template, shift, axis=0) * brain
        sums.add(maps_of_scan(mean, 0.01 * mean, mean > 0, 700 * template, brain))
    return sums


def test_scans_in_one_place_average_to_themselves_whatever_their_scale_and_shifted_ones_blur():
    brain, template = grid.brain_mask(SIZE), grid.template_image("T1w", SIZE)
    alike, apart = (summed(shifts).averages()["EPI"][0] for shifts in ([0, 0, 0], [-2, 0, 2]))
    assert np.corrcoef(alike[brain], template[brain])[0, 1] > 0.999
    assert np.median(alike[brain]) == pytest.approx(1, abs=0.02)
    assert np.corrcoef(apart[brain], template[brain])[0, 1] < 0.9


def test_lost_signal_is_counted_by_scan_and_an_unknown_mean_leaves_its_maps_out():
    brain = np.ones((4, 4, 4), bool)
    half = brain.copy()
    half[:2] = False
    sums = Sums()
    sums.add(maps_of_scan(np.ones(brain.shape), np.ones(brain.shape), half, None, brain))
    sums.add(maps_of_scan(np.zeros(brain.shape), None, brain, None, brain))
    found = sums.averages()
    assert set(found) == {"lost", "EPI", "tSNR"} and found["lost"][1] == 2 and found["EPI"][1] == 1
    np.testing.assert_array_equal(found["lost"][0], np.where(half, 0.0, 0.5))


def test_the_pictures_are_of_the_same_bytes_when_drawn_again_and_show_where_signal_is_lost():
    averages = summed([0, 0]).averages()
    affine = grid.grid(SIZE)[1]
    pictures = draw_averages(averages, affine)
    assert [one.words for one in pictures] == [
        "T1w image, mean of 2 scans", "BOLD, mean of 2 scans", "Temporal SNR, mean of 2 scans", "Signal lost, share of 2 scans",
    ]  # fmt: skip
    assert pictures == draw_averages(averages, affine)
    lost = grid.brain_mask(SIZE) * (np.arange(grid.grid(SIZE)[0][0]) < 12)[:, None, None]
    [holes] = draw_averages({"lost": (lost.astype(float), 4)}, affine)
    share = 100 * (1 - lost.sum() / grid.brain_mask(SIZE).sum())
    assert holes.tells.startswith(f"{share:.1f} % of the template's brain")
    assert _coloured(holes) > 20 * _coloured(pictures[3]) and _coloured(holes) > 0.01


def _coloured(picture) -> float:
    image = Image.open(io.BytesIO(base64.b64decode(picture.image.split(",")[1])))
    red, _, blue = np.moveaxis(np.asarray(image.convert("RGB"), int), 2, 0)
    return float((red - blue > 100).mean()) + 1e-9


@pytest.mark.parametrize(("count", "people"), [(4, 4), (5, 5), (5, 2)])
def test_a_page_that_names_nobody_shows_no_average_of_fewer_than_five_participants(scans, tmp_path, count, people):
    files = scans([0] * count)
    for number, own in enumerate(files.values()):
        write_json(own["measures"], read_json(own["measures"]) | {"participant_id": f"sub-{number % people + 1:02d}"})
    batch = tmp_path / "pages"
    batch.mkdir()
    summed([0] * count).write(batch)
    measures = {name: own["measures"] for name, own in files.items()}
    decide_inclusion(measures.values(), tmp_path / "inclusion.tsv", settings=SETTINGS, minimum_dof=40)
    write_cohort_pages(
        measures, {name: f"pages/{name}.html" for name in files},
        *(tmp_path / name for name in ("inclusion.tsv", "index.html", "scans.html")),
        batches=[batch], group_mask=tmp_path / "mask.nii.gz", settings=SETTINGS, minimum_dof=40,
        report={"title": "A study", "identifiers": False},
    )  # fmt: skip
    heading = "What the used scans have in common"
    assert (heading in (tmp_path / "index.html").read_text()) == (people >= 5)
    assert heading in (tmp_path / "scans.html").read_text()
    assert read_json(batch / "averages.json")["EPI"] == count
