"""The page of the components: pictures that show what is there, one file that loads nothing, escaped, nobody named."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated_cohort import ORDER, PARTICIPANTS, VOXEL_SIZE, scan_of
from fabricated_results import edit_sidecar
from PIL import Image

from restresponse.files import read_table, write_table
from restresponse.grid import brain_mask, grid
from restresponse.report import component_pictures as pictures
from restresponse.report.components_page import (
    ComponentsRun,
    components_content,
    summary_sentences,
    write_components_page,
)
from restresponse.report.trust_figures import curve_figure

PAGE = Path("results/report/components_order-4.html")


@pytest.fixture
def run(tree):
    """The page's job on a copy of the results, with the template that the components were matched to."""
    config = tree.config | {"report": {"title": "A study", "identifiers": False}}
    scans = {batch: [scan_of(name) for name in members] for batch, members in tree.batches.items()}
    return ComponentsRun(Path("results"), ORDER, config, tree.batches, scans, ["asc", "ssc", "rsp"])


def pixels(slices: pictures.Slices) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(slices.image.split(",")[1]))), float)


@pytest.mark.parametrize("flipped", [False, True])
def test_slices_go_through_the_peak_in_warm_colours_with_the_templates_outline_around_it(flipped):
    """A ball of 15 mm at (28, -20, 20) mm: coloured in each slice, inside the outline of a template of the same place."""
    shape, affine = grid(4)
    mask = brain_mask(4)
    if flipped:
        mask, affine = (
            mask[::-1],
            affine @ np.array([[-1, 0, 0, shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        )
    places = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(places - [28, -20, 20], axis=1)
    found = pictures.Slicer(mask, affine).draw(
        np.where(distance < 15, 9 - 0.1 * distance, 0), np.exp(-((distance / 18) ** 2))
    )
    assert np.abs(np.array(found.place) - [28, -20, 20]).max() <= 4
    image = pixels(found)
    assert image.shape == (found.height, found.width, 3)
    warm = image[..., 0] - image[..., 2] > 60
    # Right is right: in the axial slice, the last third, the ball lies right of the middle.
    across = np.flatnonzero(warm.any(axis=0))
    assert len(found.outlines) == 3
    assert (np.diff(across) > 1).sum() == 2  # three slices, one ball in each
    axial = across[across > across[np.flatnonzero(np.diff(across) > 1)[1]]]
    assert axial.mean() > found.width - 0.5 * image.shape[1] / 3
    blue = pixels(pictures.Slicer(mask, affine).draw(np.where(distance < 15, -9.0, 0)))
    assert (blue[..., 2] - blue[..., 0] > 40).sum() > 50


def test_a_component_without_a_network_has_no_outline():
    mask = brain_mask(VOXEL_SIZE)
    found = pictures.Slicer(mask, grid(VOXEL_SIZE)[1]).draw(np.random.default_rng(0).standard_normal(mask.sum()))
    assert found.outlines == []


def test_a_spectrum_peaks_where_the_time_course_swings_whatever_the_sampling():
    frequencies = np.linspace(0, 0.2, 81)[1:]
    for repetition_time, n in ((2.6, 160), (0.8, 500)):
        times = np.arange(n) * repetition_time
        courses = np.column_stack([np.sin(2 * np.pi * 0.05 * times), 5 + np.sin(2 * np.pi * 0.12 * times)])
        found = pictures.power(courses, repetition_time, frequencies)
        assert frequencies[found.argmax(axis=1)] == pytest.approx([0.05, 0.12], abs=0.0026)
        assert found.sum(axis=1) == pytest.approx([1, 1])
    assert (pictures.power(np.ones((50, 1)), 2.0, frequencies) == 0).all()


def test_a_strip_has_a_dot_a_participant_and_the_mean_of_each_group():
    values, response = np.array([1.0, 2.0, 3.0, 10.0, 10.0]), np.array([1, 1, 1, 0, 0])
    svg = pictures.strip_drawing(values, response).svg
    dots = [(float(x), float(y)) for x, y in re.findall(r'circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert len(dots) == 5 and len(set(dots)) == 5  # equal values do not hide one another
    means = [float(x) for x in re.findall(r'<path d="M([\d.]+)', svg)]
    assert means == pytest.approx([5 + 140 * 1 / 9, 145], abs=0.1)
    assert "nan" not in pictures.strip_drawing(np.ones(4), np.array([1, 1, 0, 0])).svg


def test_the_page_is_one_small_file_that_loads_nothing_and_is_the_same_again(run):
    write_components_page(run, PAGE)
    source = PAGE.read_text(encoding="utf-8")
    loaded = re.findall(r'<(?:img|image|script|iframe)[^>]*?(?:src|href)="([^"]*)"', source)
    assert len(loaded) == ORDER and all(value.startswith("data:image/jpeg") for value in loaded)
    assert not re.search(r"<script|(?:src|href)\s*=\s*[\"'](?:https?:)?//|@import|url\(", source)
    assert 'href="index.html"' in source
    assert len(source) < 400_000
    assert source.count('<tr id="component-') == ORDER and source.count("<circle") == 2 * 12 * ORDER
    write_components_page(run, "again.html")
    assert Path("again.html").read_text(encoding="utf-8") == source
    assert not [name for name in PARTICIPANTS if name in source]


def test_names_of_networks_and_the_title_are_escaped_and_lose_participants(run):
    path = f"results/components/all/order-{ORDER}/labels-all/components.tsv"
    table = read_table(path, text_columns=("network", "best_three", "direction", "time_course_direction"))
    write_table(path, table.assign(network="<script>alert(1)</script> of sub-03"))
    titled = run.config | {"report": {"title": "<b>study</b>", "identifiers": False}}
    write_components_page(dataclasses.replace(run, config=titled), PAGE)
    source = PAGE.read_text(encoding="utf-8")
    assert "<script>" not in source and "&lt;script&gt;" in source and "&lt;b&gt;study" in source
    assert "sub-03" not in source


def test_what_a_row_says_is_what_the_tables_hold(run):
    shown = components_content(run)
    (folder,) = [f"results/components/all/order-{ORDER}/labels-all"]
    table = read_table(f"{folder}/components.tsv", text_columns=("network", "best_three", "direction"))
    assert [row["component"] for row in shown["rows"]] == [1, 2, 3, 4]
    for row, own in zip(shown["rows"], table.itertuples(), strict=True):
        assert row["p"] == own.p and row["time_course_p_maxt"] == own.time_course_p_maxt
        assert ("0.1" in row["selected"] + row["alone"]) == bool(own[table.columns.get_loc("selected_p-0.1") + 1])
        assert row["mean_r"] <= 1 and 0 < row["middle"] < shown["spectrum"]["top"]
    assert (shown["n_responders"], shown["n_nonresponders"], shown["n_fitted"]) == (7, 5, 13)
    assert [row["p"] for row in shown["curve"]["rows"]] == ["0.05", "0.1", "0.2", "0.3"]
    assert [row["chance"] for row in shown["curve"]["rows"]] == pytest.approx([0.2, 0.4, 0.8, 1.2])
    assert all(cell["expected_by_chance"] == row["chance"] for row in shown["curve"]["rows"] for cell in row["cells"])
    unstable = components_content(dataclasses.replace(run, stable=False))  # another order has no table over folds
    assert unstable["folds"] == 0
    write_components_page(dataclasses.replace(run, stable=False), PAGE)


def test_a_map_and_a_time_course_that_go_opposite_ways_are_marked(run):
    path = f"results/components/all/order-{ORDER}/labels-all/components.tsv"
    table = read_table(path, text_columns=("network", "best_three", "direction", "time_course_direction"))
    write_table(path, table.assign(t=3.0, p=0.01, time_course_t=[-2.0, 2.0, -2.0, 2.0], time_course_p=0.2))
    assert [row["apart"] for row in components_content(run)["rows"]] == [True, False, True, False]


def test_a_component_that_is_taken_alone_because_none_passed_is_not_called_selected(run):
    path = f"results/components/all/order-{ORDER}/labels-all/components"
    edit_sidecar(f"{path}.json", fallback={"0.05": True, "0.1": True, "0.2": False, "0.3": False})
    table = read_table(f"{path}.tsv", text_columns=("network", "best_three", "direction", "time_course_direction"))
    for p in (0.05, 0.1, 0.2, 0.3):
        table[f"selected_p-{p}"] = table["component"] == 3
    write_table(f"{path}.tsv", table)
    shown = components_content(run)
    assert [(row["alone"], row["selected"]) for row in shown["rows"]][2] == (["0.05", "0.1"], ["0.2", "0.3"])
    assert not any(row["alone"] for row in shown["rows"] if row["component"] != 3)
    assert [row["fallback"] for row in shown["curve"]["rows"]] == [True, True, False, False]


def test_the_sentences_count_what_passes_and_say_what_chance_gives():
    table = pd.DataFrame(
        {
            "component": [1, 2, 3],
            "network": ["Visual", None, None],
            "stability": [0.9, 0.5, 0.95],
            "mean_r": [0.9, 0.6, 0.85],
            "p_fdr": [0.01, 0.2, 0.9],
            "p_maxt": [0.2, 0.3, 0.9],
            "p_maxt_voxels": [0.01, 0.04, 0.9],
            "p_maxt_all": [0.2, 0.2, 0.9],
            "selected_p-0.1": [True, False, False],
        }
    )
    facts = {"fallback": {"0.1": False}, "expected_by_chance": {"0.1": 0.3}}
    first, second, third = summary_sentences(table, ["0.1"], facts, 500, stable=True)
    assert first.startswith("1 of 3 components bear") and "ICASSO below 0.8): 2." in first and "0.8): 2." in first
    assert second.startswith("At p < 0.1, 1 of 3") and "0.3 would by chance; 1 after FDR and 0 after max-T" in second
    assert third.startswith("Voxel by voxel, 2 components have") and third.endswith("none over all components' voxels.")
    alone = summary_sentences(table, ["0.1"], facts | {"fallback": {"0.1": True}}, 0, stable=False)
    assert len(alone) == 2 and "At p < 0.1, 0 of 3" in alone[1]


def test_the_curves_figure_is_left_out_where_no_linear_model_has_a_selection():
    columns = ["protocol", "arm", "model", "p", "auc", "low", "high", "n_selected", "least_selected", "most_selected"]
    rows = pd.DataFrame([("clean", "ssc", "linear", p, 0.6, 0.3, 0.8, 3, 1, 4) for p in (0.05, 0.1)], columns=columns)
    assert curve_figure(rows.assign(expected_by_chance=1.0)).startswith("data:image/png")
    assert curve_figure(rows.iloc[:0].assign(expected_by_chance=1.0)) is None
