"""A scan's page shows what was measured and decided, loads nothing, and is there for every fate of a scan."""

from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from outlined_page import outline_of, pixels

from restresponse import grid
from restresponse.engines.reading import header_notes
from restresponse.files import read_json, read_table, write_image, write_json, write_table
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import decide_inclusion, reasons_against
from restresponse.quality.measures import measure_scan
from restresponse.quality.pages.scan import write_scan_page
from running import ROOT

SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["quality"]
SCAN, N_SCANS, SIZE = "sub-01_task-rest", 60, 6
MEASURED = ("preproc.nii.gz", "own.nii.gz", "confounds.tsv", "record.json", "denoised.json", "mask.nii.gz", "scan.json")
NAMES = ("image", "own_mask", "confounds", "record", "denoised_record", "group_mask", "measures")
ANATOMY = {name: f"{name}.nii.gz" for name in ("T1w", "GM", "WM", "CSF")} | {"anatomical_record": "anat.json"}


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The page of a used scan, made once."""
    return page_of(write_files(tmp_path_factory.mktemp("shown")))


def write_files(folder):
    """A scan of 60 volumes on the template, its T1w, tissue maps, confounds and records."""
    random = np.random.default_rng(0)
    brain, affine = grid.brain_mask(SIZE), grid.grid(SIZE)[1]
    noise = random.standard_normal((*brain.shape, N_SCANS))
    write_image(folder / "preproc.nii.gz", ((1000 + 10 * noise) * brain[..., None]).astype(np.float32), affine)
    write_image(folder / "own.nii.gz", brain, affine)
    write_group_mask(folder / "mask.nii.gz", SIZE)
    maps = {name: grid.template_image(name, SIZE) for name in ("T1w", "GM", "WM")}
    maps["CSF"] = np.clip(brain - maps["GM"] - maps["WM"], 0, 1).astype(np.float32)
    for name, values in maps.items():
        write_image(folder / f"{name}.nii.gz", values, affine)
    table = pd.DataFrame(
        {f"{kind}_{axis}": 0.01 * random.standard_normal(N_SCANS) for kind in ("trans", "rot") for axis in "xyz"}
    )
    table["framewise_displacement"] = np.r_[np.nan, np.full(N_SCANS - 1, 0.1)]
    table.loc[40, "framewise_displacement"] = 1.5
    table["std_dvars"] = np.r_[np.nan, np.ones(N_SCANS - 1)]
    table["global_signal"] = 1000 + random.standard_normal(N_SCANS)
    write_table(folder / "confounds.tsv", table)
    step = {
        "step": "unwarping",
        "tool": "greedy",
        "version": "1.4",
        "parameters": {"axis": "j", "shifts": list(range(9))},
    }
    steps = [{**step, "seconds": 2.0, "method": "Distortion was corrected along the phase-encoding axis."}]
    write_json(folder / "record.json", {"status": "done", "repetition_time": 2.6, "steps": steps})
    write_json(folder / "anat.json", {"status": "done", "steps": [], "quality": {"template_dice": 0.97}})
    costs = {
        "mean": 1,
        "bandpass": 33,
        "motion": 6,
        "white_matter": 3,
        "csf": 3,
        "linear_trend": 1,
        "outlier_volumes": 1,
    }
    content = {"status": "done", "reason": None, "settings": {"outlier_displacement": 0.9}, "n_volumes": N_SCANS}
    content |= {"dof_bandpass": 26, "dof_residual": 12, "dof_cost": costs, "n_outliers": 1, "outlier_volumes": [40]}
    write_json(folder / "denoised.json", content | {"methods": ["Denoising took out what it took out."]})
    return folder


def page_of(folder, minimum_dof=10, without=(), **changes):
    measure(folder)
    return page_of_measures(folder, minimum_dof, without, **changes)


def measure(folder, pictures=True):
    """Measure the scan; without `pictures` its image is then emptied, so that its pages are made in no time."""
    measure_scan(*(folder / name for name in MEASURED), scan=SCAN, participant="sub-01")
    if not pictures:
        (folder / "preproc.nii.gz").write_bytes(b"")


def page_of_measures(folder, minimum_dof=10, without=(), **changes):
    chosen = {name: folder / path for name, path in zip(NAMES, MEASURED, strict=True)}
    chosen |= {name: folder / path for name, path in ANATOMY.items() if name not in without}
    write_scan_page(chosen, folder / f"{SCAN}.html", settings=SETTINGS | changes, minimum_dof=minimum_dof)
    return outline_of(folder / f"{SCAN}.html")


# ---------------------------------------------------------------- the fates of a scan


def test_the_page_is_one_small_file_that_loads_nothing_and_is_the_same_when_made_again(files):
    outline = page_of(files)
    source = (files / f"{SCAN}.html").read_bytes()
    assert len(outline.loaded) > 4 and all(value.startswith("data:") for value in outline.loaded)
    assert outline.links == ["../../scans.html"]
    assert not re.search(rb"https?://|@import|url\(", source)
    assert len(source) < 450_000
    page_of(files)
    assert (files / f"{SCAN}.html").read_bytes() == source


def test_a_used_scan_says_so_with_what_was_censored_and_how_it_was_unwarped(shown):
    text = shown.text
    assert "Used." in text and "Not used" not in text
    assert "1 of 60 volumes was censored in denoising (counted from 0): 40." in text
    assert "Distortion was corrected along the phase-encoding axis." in text
    assert "9 values, 0 to 8" in text  # long parameters are put shortly
    assert "T1w: brain mask with the template's (Dice)" in text


def test_a_used_scan_of_which_not_everything_is_known_says_what_was_not_judged(files):
    measure(files, pictures=False)
    assert "Every measure keeps its limit." in page_of_measures(files).text
    unknown = {"mean_framewise_displacement": None, "unknown": {"mean_framewise_displacement": "no motion came"}}
    write_json(files / "scan.json", read_json(files / "scan.json") | unknown)
    text = page_of_measures(files).text
    assert "Used. Every measure that is known keeps its limit." in text
    assert "Mean framewise displacement is not known (no motion came) and was not judged" in text


def test_the_decision_is_the_inclusion_tables_word_for_word(files):
    measure(files, pictures=False)
    for changes in (
        {},
        {"maximum_mean_displacement": 0.05},
        {"minimum_overlap": 1.0, "maximum_mean_displacement": 0.1},
    ):
        text = page_of_measures(files, 30, **changes).text
        decide_inclusion([files / "scan.json"], files / "inclusion.tsv", settings=SETTINGS | changes, minimum_dof=30)
        reasons = read_table(files / "inclusion.tsv", text_columns=("reason",))["reason"][0].split("; ")
        assert len(reasons) == 1 + (len(changes) > 0)  # 12 degrees of freedom are below 30 each time
        assert "Not used" in text and all(reason in text for reason in reasons)
    assert reasons_against(read_json(files / "scan.json"), SETTINGS | {"minimum_dof": 12}) == []


def test_the_cost_of_every_part_and_what_is_left_are_listed(shown):
    text = re.sub(r"\s+", " ", shown.text)
    for part, cost in (
        ("band-pass filter", 33),
        ("motion parameters", 6),
        ("outlier volumes", 1),
        ("left of 60 (at least 10 wanted)", 12),
    ):
        assert re.search(rf"{re.escape(part)}\s*{cost}\b", text), part


def test_outliers_are_shaded_at_their_volume_across_everything(shown):
    source = shown.source
    (shade,) = re.findall(r'<g class="shade"><rect x="([\d.]+)" y="0" width="([\d.]+)"', source)
    step = (1000 - 112 - 8) / N_SCANS
    assert float(shade[0]) == pytest.approx(112 + 40 * step, abs=0.06) and float(shade[1]) == pytest.approx(
        step, abs=0.06
    )
    assert source.count('class="curve"') == 9  # six of motion, displacement, DVARS, global signal


def test_a_failed_scan_has_a_page_with_its_reason_and_no_pictures(files):
    reason = "the image is truncated: <3> of 30 volumes"
    write_json(files / "record.json", {"status": "failed", "reason": reason, "steps": []})
    write_json(files / "denoised.json", {"status": "failed", "reason": reason})
    for name in ("preproc.nii.gz", "own.nii.gz", "confounds.tsv", "T1w.nii.gz", "GM.nii.gz", "WM.nii.gz", "CSF.nii.gz"):
        (files / name).write_bytes(b"")
    outline = page_of(files)
    assert "Not used: it failed." in outline.text and reason in outline.text
    assert outline.loaded == ["data:,"] and "n/a" in outline.text
    assert "<3>" not in (files / f"{SCAN}.html").read_text()


def test_a_scan_that_denoising_left_nothing_of_is_shown_all_the_same(files):
    record = read_json(files / "denoised.json") | {
        "status": "failed",
        "reason": "no degree of freedom is left",
        "dof_residual": 0,
    }
    write_json(files / "denoised.json", record)
    outline = page_of(files)
    assert "no degree of freedom is left" in outline.text and len(outline.loaded) > 4


def test_a_scan_without_a_t1w_or_motion_is_shown_without_them(files):
    write_table(files / "confounds.tsv", read_table(files / "confounds.tsv")[["framewise_displacement"]])
    outline = page_of(files, without=tuple(ANATOMY))
    source = (files / f"{SCAN}.html").read_text()
    assert "EPI and template" in outline.text and "EPI and T1w" not in outline.text
    assert source.count('class="curve"') == 1 and "grey matter" not in outline.text


# ---------------------------------------------------------------- what the page of a scan must show


def test_a_series_without_its_mean_is_shown_by_what_varies_and_all_of_it(files):
    """Rounding of a mean that was taken out is no signal: half of the brain would be lost by chance."""
    brain, affine = grid.brain_mask(SIZE), grid.grid(SIZE)[1]
    noise = np.random.default_rng(3).standard_normal((*brain.shape, N_SCANS)) * brain[..., None]
    centred = (
        noise - noise.mean(axis=3, keepdims=True) + 1e-3 * np.random.default_rng(4).standard_normal((*brain.shape, 1))
    )
    write_image(files / "preproc.nii.gz", centred.astype(np.float32), affine)
    reason = {"unknown": {"tsnr": "its mean was taken out"}}
    write_json(files / "record.json", read_json(files / "record.json") | reason)
    outline = page_of(files, without=("T1w",))
    assert not any("signal-to-noise" in figure.caption for figure in outline.figures)
    assert any(
        "standard deviation in time (its mean was taken out before)" in figure.caption for figure in outline.figures
    )
    voxels = [int(count.replace(",", "")) for count in re.findall(r">\d+ of ([\d,]+)</text>", outline.source)]
    there = sum((grid.template_image(name, SIZE) > 0.5).sum() for name in ("GM", "WM"))
    assert len(voxels) == 3 and sum(voxels) > 0.9 * there


def still(outline, words):
    """The one still picture whose words begin so, its caption."""
    (image,) = (one for one in outline.named("img") if one["alt"].startswith(words))
    (caption,) = (figure.caption for figure in outline.figures if figure.caption.startswith(words))
    return pixels(image["src"]), caption


def near(drawn, colour):
    """Where a picture (n_up, n_across, 3) has about a colour, a JPEG's lines being blurred."""
    return np.abs(drawn - np.array(colour)).max(axis=2) < 60


def test_the_map_of_tsnr_is_shown_in_its_colours_with_its_scale(shown):
    drawn, caption = still(shown, "Temporal signal-to-noise ratio")
    top = int(re.search(r"(\d+) is its 98th percentile", caption)[1])
    assert 110 < top < 140  # planted: 1000 with noise of 10
    coloured = drawn[..., 0] > drawn[..., 2] + 40
    assert 0.3 < coloured[:, : int(0.9 * drawn.shape[1])].mean() < 0.7
    assert drawn[:3, :3].max() < 20  # black outside the brain
    bar = drawn[:, int(0.96 * drawn.shape[1])].sum(axis=1)  # the bar: brightest above
    bar = bar[int(0.1 * len(bar)) : int(0.9 * len(bar))]
    assert bar[0] > 500 and bar[-1] < 150 and np.all(np.diff(bar[::20]) < 0)


def test_where_signal_is_lost_the_map_of_tsnr_leaves_the_template_in_grey_and_left_is_left(files):
    image = nib.load(files / "preproc.nii.gz")
    series = np.asarray(image.dataobj, np.float32)
    series[: series.shape[0] // 2] = 0  # left, in an image whose axes point right
    write_image(files / "preproc.nii.gz", series, image.affine)
    drawn, caption = still(page_of(files, without=("T1w",)), "Temporal signal-to-noise ratio")
    assert "Grey: no signal." in caption
    upper = drawn[: len(drawn) // 3, : int(0.93 * drawn.shape[1])]  # the axial slices, seven beside one another
    colourful = np.ptp(upper, axis=2) > 40
    grey = (upper.min(axis=2) > 60) & ~colourful
    for part, hidden in zip(np.array_split(colourful, 7, axis=1), np.array_split(grey, 7, axis=1), strict=True):
        left, right = np.array_split(part, 2, axis=1)
        assert right.mean() > 0.1 and left.mean() < 0.1 * right.mean()
        assert hidden[:, : left.shape[1]].mean() > 0.1


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_scan_without_signal_or_of_no_numbers_has_its_page_all_the_same(files, value):
    image = nib.load(files / "preproc.nii.gz")
    write_image(files / "preproc.nii.gz", np.full(image.shape, value, np.float32), image.affine)
    write_image(files / "T1w.nii.gz", np.zeros(image.shape[:3], np.float32), image.affine)
    write_image(files / "CSF.nii.gz", np.full(image.shape[:3], np.nan, np.float32), image.affine)
    drawn, caption = still(page_of(files), "Temporal signal-to-noise ratio")
    assert "there is none: no signal" in caption
    assert drawn.std() > 20 and np.ptp(drawn, axis=2).max() < 40  # the template alone


def test_the_t1w_is_shown_with_the_outlines_of_its_tissues(shown):
    import matplotlib.pyplot as plt

    drawn, caption = still(shown, "T1w image")
    assert caption.startswith(
        "T1w image with the outlines of its tissues. Yellow: white matter (probability 0.5), blue: CSF (0.5)"
    )
    for colour in ((255, 210, 63), (106, 183, 255), (255, 122, 89)):
        assert near(drawn, colour).sum() > 800, colour
    grey = np.ptp(drawn, axis=2) < 20
    assert drawn[grey].std() > 50
    assert plt.get_fignums() == []  # a batch of many scans leaves no figure behind


@pytest.mark.parametrize(("control", "below", "above"), [("t1w", "epi", "t1w"), ("template", "t1w", "template")])
def test_two_images_of_the_registration_flicker_at_a_control(shown, control, below, above):
    assert shown.named("input", type="radio", name="base", id=f"flick-{control}")
    assert shown.named("label") and shown.named("label", **{"for": f"flick-{control}"})
    viewer = shown.figures[0].uses
    for image in (below, above):
        assert f"#i-{image}" in viewer and shown.named("use", kind=f"base b-{image}", href=f"#i-{image}")
        assert "display: inline" in shown.rule(f"#flick-{control}:checked ~ svg .b-{image}")
    assert viewer.index(f"#i-{below}") < viewer.index(f"#i-{above}")  # the upper one comes and goes
    assert "animation: flick" in shown.rule(f"#flick-{control}:checked ~ svg .b-{above}")
    assert "@keyframes flick" in shown.source


@pytest.mark.parametrize("tissue", ["gm", "wm", "csf"])
def test_the_outline_of_each_tissue_can_be_laid_over_the_scan(shown, tissue):
    (path,) = shown.named("path", id=f"p-{tissue}")
    assert path["d"].count("M") > 20 and len(path["d"]) > 5000
    assert shown.named("use", kind=f"outline o-{tissue}", href=f"#p-{tissue}")
    assert f"#p-{tissue}" in shown.figures[0].uses
    assert shown.named("input", type="checkbox", id=f"line-{tissue}")
    assert shown.named("label", **{"for": f"line-{tissue}"})
    assert "display: inline" in shown.rule(f"#line-{tissue}:checked ~ svg .o-{tissue}")
    assert "stroke" in shown.rule(f".o-{tissue}")


def test_the_carpet_has_a_row_for_each_voxel_shown_and_a_column_for_each_volume(shown):
    (image,) = shown.named("image", kind="carpet")
    (drawing,) = re.findall(r'<svg class="time".*?</svg>', shown.source, re.DOTALL)
    blocks = re.findall(r">([\w ]+)</text><text class=\"small\"[^>]*>(\d+) of [\d,]+<", drawing)
    assert [name for name, _ in blocks] == ["grey matter", "white matter", "CSF"]
    carpet = pixels(image["href"])
    assert carpet.shape == (sum(int(count) for _, count in blocks), N_SCANS)
    assert carpet.mean() == pytest.approx(127, abs=4) and carpet.std() == pytest.approx(51, abs=8)  # 51: one deviation
    assert 'class="carpet"' in drawing


@pytest.mark.parametrize("failed", [False, True])
def test_what_is_odd_in_the_headers_of_the_scan_and_of_its_t1w_is_said_with_the_name_of_the_file(files, failed):
    turned, moved = np.diag([-1.0, -1, 1, 1]), np.eye(4)
    moved[0, 3] = 7
    for name, qform, record in (("T1w", moved, "anat.json"), ("bold", turned, "record.json")):
        path = files / f"sub-01_{name}.nii.gz"
        image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
        image.set_sform(np.eye(4), code=1)
        image.set_qform(qform, code=1)
        notes = header_notes(image, path, name)
        write_json(files / record, read_json(files / record) | {"notes": notes})
    if failed:
        write_json(files / "record.json", read_json(files / "record.json") | {"status": "failed", "reason": "no head"})
    measure(files, pictures=False)
    outline = page_of_measures(files)
    verdict = re.search(r'<div class="verdict.*?</div>', outline.source, re.DOTALL)[0]
    assert ("Not used: it failed." in verdict) == failed
    assert verdict.count("To be looked at:") == 2
    assert "the header of the T1w sub-01_T1w.nii.gz place it up to 7.0 mm apart; the sform was used" in verdict
    assert "the header of the bold sub-01_bold.nii.gz differ by a rotation of 180 degrees" in verdict
    assert "left and right may be exchanged; the sform was used" in verdict


def test_a_scan_whose_headers_agree_has_nothing_to_be_looked_at(shown):
    assert "To be looked at" not in shown.text
