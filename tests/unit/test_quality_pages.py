"""Pictures lie where their masks do; the page of all scans shows every measure of every scan and names none unless allowed."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from outlined_page import outline_of

from restresponse.files import read_json, read_table, write_json, write_table
from restresponse.quality.group_mask import write_group_mask
from restresponse.quality.inclusion import decide_inclusion
from restresponse.quality.pages.cohort import remarks, robust_z, strip, write_cohort_pages
from restresponse.quality.pages.montage import OUTLINE_UNIT, Montage, svg_path
from restresponse.quality.pages.traces import carpet, draw, panels_of
from running import ROOT

SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["quality"]
SIZE = 6


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


def test_notes_on_images_are_listed_with_their_scan_where_there_are_any_and_name_nobody(cohort):
    assert "Notes on images" not in outline_of(cohort / "index.html").text
    odd = [
        "the header of the T1w sub-02_T1w.nii.gz does not say how the <image> lies: convert it again",
        "the sform and the qform in the header of the BOLD sub-02_task-rest_bold.nii.gz place it up to 5.0 mm apart",
    ]
    path = cohort / "sub-02_task-rest.json"
    write_json(path, read_json(path) | {"notes": odd})
    write_pages(cohort, identifiers=True)
    outline, source = outline_of(cohort / "index.html"), (cohort / "index.html").read_text()
    assert "1 of 12 scans have notes" in outline.text
    assert f"sub-02_task-rest: {'.'.join(odd)}." in outline.text and "<image>" not in source
    assert 'id="notes"' in source  # where the report's link leads
    write_pages(cohort, identifiers=False)
    text = outline_of(cohort / "index.html").text
    assert "sub-" not in text and "the header of the T1w (a participant).nii.gz does not say" in text
    assert re.search(r"scan 2: the header", text)
    assert ".".join(odd) in outline_of(cohort / "scans.html").text


def test_every_scan_is_listed_with_a_link_but_the_one_that_was_never_read(cohort):
    outline = outline_of(cohort / "index.html")
    assert outline.loaded == ["data:,"]
    linked = {link for link in outline.links if "sub-" in link}
    assert linked == {f"pages/batch-01/sub-{number:02d}_task-rest.html" for number in range(1, 12)}
    assert "sub-12_task-rest" in outline.text and "set aside" in outline.text
    assert "9 of 12 scans are used." in outline.text
    assert "the image is <truncated>" in outline.text and "<truncated>" not in (cohort / "index.html").read_text()


@pytest.mark.parametrize("page", ["index.html", "scans.html"])
def test_the_table_has_each_scans_residual_degrees_of_freedom(cohort, page):
    path = cohort / "sub-07_task-rest.json"
    write_json(path, read_json(path) | {"dof_residual": 37})
    write_pages(cohort, identifiers=True)
    outline = outline_of(cohort / page)
    heading, *rows = (row for row in outline.rows if row)
    column = next(place for place, text in enumerate(heading) if text.startswith("residual dof"))
    assert heading[column] == "residual dof\u2265 40"
    left = {row[0]: row[column] for row in rows}
    usual = {f"sub-{number:02d}_task-rest": "50" for number in range(1, 12)}
    assert left == usual | {"sub-07_task-rest": "37", "sub-05_task-rest": "n/a", "sub-12_task-rest": "n/a"}
    assert any(figure.caption.startswith("residual degrees of freedom") for figure in outline.figures)


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
