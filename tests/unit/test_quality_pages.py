"""A scan's page shows what was measured and decided, loads nothing, and is there for every fate of a scan."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml

from restresponse import grid
from restresponse.files import read_json, read_table, write_image, write_json, write_table
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import decide_inclusion, reasons_against
from restresponse.quality.measures import measure_scan
from restresponse.quality.pages.cohort import remarks, robust_z, strip, write_cohort_pages
from restresponse.quality.pages.montage import OUTLINE_UNIT, Montage, colours, svg_path
from restresponse.quality.pages.scan import write_scan_page
from restresponse.quality.pages.traces import carpet, draw, panels_of
from running import ROOT

SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["quality"]
SCAN, N_SCANS, SIZE = "sub-01_task-rest", 60, 6
MEASURED = ("preproc.nii.gz", "own.nii.gz", "confounds.tsv", "record.json", "denoised.json", "mask.nii.gz", "scan.json")
NAMES = ("image", "own_mask", "confounds", "record", "denoised_record", "group_mask", "measures")
ANATOMY = {name: f"{name}.nii.gz" for name in ("T1w", "GM", "WM", "CSF")} | {"anatomical_record": "anat.json"}


class Outline(HTMLParser):
    """Text of a page, and everything an element of it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.loaded, self.links = "", [], []

    def handle_starttag(self, tag, attrs):
        wanted = {"img": "src", "script": "src", "image": "href", "iframe": "src"}.get(tag)
        self.loaded += [value for name, value in attrs if name == wanted or (tag == "link" and name == "href")]
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data):
        self.text += data


def outline_of(path) -> Outline:
    outline = Outline()
    outline.feed(path.read_text(encoding="utf-8"))
    return outline


@pytest.fixture
def files(tmp_path):
    """A scan of 60 volumes on the template, its T1w, tissue maps, confounds and records."""
    random = np.random.default_rng(0)
    brain, affine = grid.brain_mask(SIZE), grid.grid(SIZE)[1]
    noise = random.standard_normal((*brain.shape, N_SCANS))
    write_image(tmp_path / "preproc.nii.gz", ((1000 + 10 * noise) * brain[..., None]).astype(np.float32), affine)
    write_image(tmp_path / "own.nii.gz", brain, affine)
    write_group_mask(tmp_path / "mask.nii.gz", SIZE)
    maps = {name: grid.template_image(name, SIZE) for name in ("T1w", "GM", "WM")}
    maps["CSF"] = np.clip(brain - maps["GM"] - maps["WM"], 0, 1).astype(np.float32)
    for name, values in maps.items():
        write_image(tmp_path / f"{name}.nii.gz", values, affine)
    table = pd.DataFrame(
        {f"{kind}_{axis}": 0.01 * random.standard_normal(N_SCANS) for kind in ("trans", "rot") for axis in "xyz"}
    )
    table["framewise_displacement"] = np.r_[np.nan, np.full(N_SCANS - 1, 0.1)]
    table.loc[40, "framewise_displacement"] = 1.5
    table["std_dvars"] = np.r_[np.nan, np.ones(N_SCANS - 1)]
    table["global_signal"] = 1000 + random.standard_normal(N_SCANS)
    write_table(tmp_path / "confounds.tsv", table)
    step = {
        "step": "unwarping",
        "tool": "greedy",
        "version": "1.4",
        "parameters": {"axis": "j", "shifts": list(range(9))},
    }
    steps = [{**step, "seconds": 2.0, "method": "Distortion was corrected along the phase-encoding axis."}]
    write_json(tmp_path / "record.json", {"status": "done", "repetition_time": 2.6, "steps": steps})
    write_json(tmp_path / "anat.json", {"status": "done", "steps": [], "quality": {"template_dice": 0.97}})
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
    write_json(tmp_path / "denoised.json", content | {"methods": ["Denoising took out what it took out."]})
    return tmp_path


def page_of(folder, minimum_dof=10, without=(), **changes):
    measure_scan(*(folder / name for name in MEASURED), scan=SCAN, participant="sub-01")
    chosen = {name: folder / path for name, path in zip(NAMES, MEASURED, strict=True)}
    chosen |= {name: folder / path for name, path in ANATOMY.items() if name not in without}
    write_scan_page(chosen, folder / f"{SCAN}.html", settings=SETTINGS | changes, minimum_dof=minimum_dof)
    return outline_of(folder / f"{SCAN}.html")


# ---------------------------------------------------------------- the page of one scan


def test_the_page_is_one_small_file_that_loads_nothing_and_is_the_same_when_made_again(files):
    outline = page_of(files)
    source = (files / f"{SCAN}.html").read_bytes()
    assert len(outline.loaded) > 4 and all(value.startswith("data:") for value in outline.loaded)
    assert outline.links == ["../../scans.html"]
    assert not re.search(rb"https?://|@import|url\(", source)
    assert len(source) < 400_000
    page_of(files)
    assert (files / f"{SCAN}.html").read_bytes() == source


def test_a_used_scan_says_so_with_what_was_censored_and_how_it_was_unwarped(files):
    text = page_of(files).text
    assert "Used." in text and "Not used" not in text
    assert "1 of 60 volume was censored in denoising (counted from 0): 40." in text
    assert "Distortion was corrected along the phase-encoding axis." in text
    assert "9 values, 0 to 8" in text  # long parameters are put shortly
    assert "T1w: brain mask with the template's (Dice)" in text


def test_the_decision_is_the_inclusion_tables_word_for_word(files):
    for changes in (
        {},
        {"maximum_mean_displacement": 0.05},
        {"minimum_overlap": 1.0, "maximum_mean_displacement": 0.1},
    ):
        text = page_of(files, 30, **changes).text
        decide_inclusion([files / "scan.json"], files / "inclusion.tsv", settings=SETTINGS | changes, minimum_dof=30)
        reasons = read_table(files / "inclusion.tsv", text_columns=("reason",))["reason"][0].split("; ")
        assert len(reasons) == 1 + (len(changes) > 0)  # 12 degrees of freedom are below 30 each time
        assert "Not used" in text and all(reason in text for reason in reasons)
    assert reasons_against(read_json(files / "scan.json"), SETTINGS | {"minimum_dof": 12}) == []


def test_the_cost_of_every_part_and_what_is_left_are_listed(files):
    text = re.sub(r"\s+", " ", page_of(files).text)
    for part, cost in (
        ("band-pass filter", 33),
        ("motion parameters", 6),
        ("outlier volumes", 1),
        ("left of 60 (at least 10 wanted)", 12),
    ):
        assert re.search(rf"{re.escape(part)}\s*{cost}\b", text), part


def test_outliers_are_shaded_at_their_volume_across_everything(files):
    page_of(files)
    source = (files / f"{SCAN}.html").read_text()
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


# ---------------------------------------------------------------- pictures


def test_an_outline_passes_where_the_mask_ends_on_every_slice_that_meets_it():
    volume = np.zeros((30, 36, 30), bool)
    volume[5:25, 8:30, 6:26] = True  # a box of 20 x 22 x 20 voxels of 4 mm
    montage = Montage(volume, np.diag([4.0, 4, 4, 1]))
    paths = montage.outline(volume).split("M")[1:]
    assert len(paths) == len(montage.cells) == 23
    for path, cell in zip(paths, montage.cells, strict=True):
        start, steps = path.split("l")
        numbers = np.array(re.findall(r"-?\d+", steps), int).reshape(-1, 2)
        points = (np.cumsum(np.vstack([np.array(start.split(), int), numbers]), axis=0)) * OUTLINE_UNIT
        across, up = ((20, 22, 20)[axis] * 4 / 1.6 for axis in range(3) if axis != cell.axis)
        assert np.ptp(points[:, 0]) == pytest.approx(across, abs=0.6) and np.ptp(points[:, 1]) == pytest.approx(
            up, abs=0.6
        )
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        assert middle == pytest.approx((cell.left + cell.width / 2, cell.top + cell.height / 2), abs=0.5)


def test_image_and_outline_lie_on_each_other_and_left_is_left():
    volume = np.zeros((30, 36, 30))
    volume[5:25, 8:30, 6:26] = 0.5
    volume[5:10, 24:30, 20:26] = 1.0  # left, front, up
    montage = Montage(volume > 0, np.diag([4.0, 4, 4, 1]))
    pixels = np.asarray(montage._canvas(np.rint(255 * volume).astype(np.uint8)), float)
    cell = [cell for cell in montage.cells if cell.axis == 2][-1]  # the highest axial slice
    view = pixels[round(cell.top) : round(cell.top + cell.height), round(cell.left) : round(cell.left + cell.width)]
    bright = np.argwhere(view > 200)
    assert (
        bright[:, 0].max() < view.shape[0] / 2 and bright[:, 1].max() < view.shape[1] / 2
    )  # front is up, left is left
    edge = np.flatnonzero(view[view.shape[0] // 2] > 60)
    assert (edge[0], edge[-1] + 1) == pytest.approx((3.0 / 1.6 * 4 / 3, view.shape[1] - 3.0 / 1.6 * 4 / 3), abs=2)


def test_a_path_keeps_its_ends_and_drops_what_lies_on_a_line():
    assert svg_path(np.array([[0, 0], [1, 1], [2, 2], [2, 5]]), 1.0) == "M0 0l2 2 0 3"
    assert svg_path(np.array([[1.0, 1], [1.02, 1.01]]), 0.5) == ""


def test_colours_grow_brighter_all_the_way():
    brightness = colours() @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(brightness) >= 0) and brightness[0] == 0 and brightness[-1] > 230


def test_the_carpet_shows_voxels_of_each_tissue_detrended_in_standard_deviations():
    random = np.random.default_rng(3)
    series = random.standard_normal((12, 12, 12, 50)) + np.linspace(0, 40, 50)
    gm = np.zeros((12, 12, 12), bool)
    gm[:4] = True
    csf = np.zeros_like(gm)
    csf[10, 5, :7] = True
    rows, blocks = carpet(series, {"GM": gm, "WM": np.zeros_like(gm), "CSF": csf})
    assert blocks == {"GM": (200, 576), "CSF": (7, 7)} and rows.shape == (207, 50)
    assert rows.std(axis=1) == pytest.approx(np.ones(207)) and np.abs(rows @ np.linspace(-1, 1, 50)).max() < 1e-9
    own = series[10, 5, 3] - np.polyval(np.polyfit(np.arange(50), series[10, 5, 3], 1), np.arange(50))
    assert rows[-4] == pytest.approx(own / own.std())


def test_a_trace_breaks_where_a_value_is_missing_and_nothing_at_all_is_no_error():
    table = pd.DataFrame({"framewise_displacement": [np.nan, 0.1, 0.2, np.nan, 0.3, 0.1]})
    drawing = draw(panels_of(table, 0.9), np.zeros((0, 0)), {}, [], 6, None)
    assert drawing.count('class="curve"') == 2 and 'class="limit"' not in drawing  # 0.9 is far above what is drawn
    assert draw([], np.zeros((0, 0)), {}, [], 6, 2.0).startswith("<svg")


# ---------------------------------------------------------------- the page of all scans


def test_robust_z_is_the_distance_in_normal_standard_deviations_whatever_the_outlier():
    values = np.r_[np.random.default_rng(4).normal(5, 2, 2000), 500.0, np.nan]
    found = robust_z(values)
    assert found[:2000].std() == pytest.approx(1, abs=0.05) and found[2000] > 200 and np.isnan(found[2001])
    assert robust_z(np.array([0.0, 0, 0, 0, 0, 4]))[5] > 3  # more than half the same
    assert not robust_z(np.array([1.0, 2, 3, 900])).any() and not robust_z(np.full(9, 0.1)).any()


@pytest.fixture
def cohort(tmp_path):
    """Eleven scans, one that moves more than the rest, one above the limit, one failed; one more is set aside."""
    for number in range(1, 12):
        scan = f"sub-{number:02d}_task-rest"
        values = {
            "mean_framewise_displacement": 0.1 + 0.002 * number,
            "coverage": 0.97,
            "overlap": 0.95,
            "dof_residual": 50,
        }
        content = {
            "scan": scan,
            "participant_id": scan[:6],
            "failed": None,
            **values,
            "n_volumes": 160,
            "tsnr": 100 + number,
        }
        write_json(tmp_path / f"{scan}.json", content)
    edit = lambda name, **changes: write_json(tmp_path / name, read_json(tmp_path / name) | changes)  # noqa: E731
    edit("sub-03_task-rest.json", mean_framewise_displacement=0.3)
    edit("sub-04_task-rest.json", mean_framewise_displacement=0.7)
    edit(
        "sub-05_task-rest.json",
        failed="the image is <truncated>",
        **dict.fromkeys(("mean_framewise_displacement", "coverage", "overlap", "dof_residual", "tsnr")),
    )
    paths = sorted(tmp_path.glob("sub-*.json"))
    aside = [("sub-12_task-rest", "sub-12")]
    write_group_mask(tmp_path / "mask.nii.gz", SIZE)
    decide_inclusion(paths, tmp_path / "inclusion.tsv", settings=SETTINGS, minimum_dof=40, set_aside=aside)
    write_pages(tmp_path, identifiers=True)
    return tmp_path


def write_pages(folder, identifiers):
    """Both pages of all scans."""
    measures = {path.stem: path for path in sorted(folder.glob("sub-*.json"))}
    write_cohort_pages(
        measures,
        {scan: f"pages/batch-01/{scan}.html" for scan in measures},
        *(folder / name for name in ("inclusion.tsv", "index.html", "scans.html")),
        batches=[],
        group_mask=folder / "mask.nii.gz",
        settings=SETTINGS,
        minimum_dof=40,
        report={"title": "A study", "identifiers": identifiers},
        folders=["/data/of Jane Doe/bids", None],
    )


def test_without_identifiers_the_index_names_and_links_no_scan_and_the_working_page_says_who_is_who(cohort):
    reason = "the BOLD /data/of Jane Doe/bids/sub-05/func/sub-05_task-rest_bold.nii.gz cannot be read to its end"
    path = cohort / "sub-05_task-rest.json"
    write_json(path, read_json(path) | {"failed": reason})
    table = read_table(cohort / "inclusion.tsv", text_columns=("scan", "participant_id", "reason"))
    table.loc[table["scan"] == "sub-05_task-rest", "reason"] = reason
    write_table(cohort / "inclusion.tsv", table)
    named = outline_of(cohort / "index.html")
    write_pages(cohort, identifiers=False)
    index, scans = (outline_of(cohort / name) for name in ("index.html", "scans.html"))
    source = (cohort / "index.html").read_text()
    assert "sub-" not in source and "Doe" not in source
    assert "the BOLD …/(a scan).nii.gz cannot be read to its end" in index.text
    assert set(index.links) == {"../report/index.html"}
    assert "This page names no scan" in index.text and "not to be passed on" in scans.text
    assert set(scans.links) == set(named.links)
    # scan 1 moved least; the one that was set aside was not measured and comes last
    assert re.search(r"sub-12_task-rest</td><td class=\"tight\">scan 12<", (cohort / "scans.html").read_text())
    most = re.search(r"sub-04_task-rest</a></td><td class=\"tight\">(scan \d+)<", (cohort / "scans.html").read_text())
    assert most[1] == "scan 10"  # 0.7 mm, the most of those measured
    row = re.search(r"scan 10</td><td>no</td>.*?</tr>", source, re.DOTALL)[0]
    assert "0.700" in row


def test_every_scan_is_listed_with_a_link_but_the_one_that_was_never_read(cohort):
    outline = outline_of(cohort / "index.html")
    assert outline.loaded == ["data:,"]
    linked = {link for link in outline.links if "sub-" in link}
    assert linked == {f"pages/batch-01/sub-{number:02d}_task-rest.html" for number in range(1, 12)}
    assert "sub-12_task-rest" in outline.text and "set aside" in outline.text
    assert "9 of 12 scans are used." in outline.text
    assert "the image is <truncated>" in outline.text and "<truncated>" not in (cohort / "index.html").read_text()


def test_a_scan_that_stands_apart_is_remarked_on_and_stays_in(cohort):
    outline = outline_of(cohort / "index.html")
    assert "sub-03_task-rest: mean framewise displacement is high: 0.300 mm" in re.sub(r"\s+", " ", outline.text)
    used = read_table(cohort / "inclusion.tsv", text_columns=("scan", "reason")).set_index("scan")["included"]
    assert used["sub-03_task-rest"] and not used["sub-04_task-rest"]
    source = (cohort / "index.html").read_text()
    assert source.count('class="num bad apart"') == 1 and source.count('class="num apart"') == 1


def test_a_dot_lies_at_its_value_and_a_far_limit_does_not_squeeze_the_rest():
    values = np.linspace(0.1, 0.2, 6)
    drawn = strip(
        {f"sub-{k}": f"{k}.html" for k in range(6)},
        [f"sub-{k}" for k in range(6)],
        values,
        robust_z(values),
        dict.fromkeys("x", True),
        0.5,
        2,
    )
    heights = np.array(re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)" r="3"', drawn), float)
    assert heights[0] - heights[-1] > 100 and np.diff(heights) == pytest.approx(
        np.full(5, np.diff(heights)[0]), abs=0.11
    )
    assert "limit 0.5, far above" in drawn
    assert 'class="limit"' in strip({"a": "a.html"}, ["a"] * 6, values, robust_z(values), {}, 0.25, 2)
    assert strip({}, ["a"], np.array([np.nan]), np.array([np.nan]), {}, 0.5, 2) == ""


def test_remarks_start_with_the_farthest():
    scans = [f"sub-{number}" for number in range(9)]
    values = {"coverage": np.r_[np.linspace(0.95, 0.96, 8), 0.90], "tsnr": np.r_[300.0, np.linspace(99, 101, 8)]}
    found = remarks(scans, values, {name: robust_z(column) for name, column in values.items()})
    assert [remark["scan"] for remark in found] == ["sub-0", "sub-8"] and "is low: 0.900" in found[1]["text"]
