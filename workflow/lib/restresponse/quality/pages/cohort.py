"""The page of all scans: every measure of each, how the measures are spread, and which scans stand apart.

Standing apart is a remark: no scan is left out for how the others are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.files import read_json, read_table
from restresponse.identifiers import Identifiers
from restresponse.images import read_mask
from restresponse.quality.inclusion import limits_of
from restresponse.quality.pages.averages import draw_averages, read_averages
from restresponse.quality.pages.words import LIMIT_OF, WORDS, render, shown

if TYPE_CHECKING:
    import pandas

APART = 3.0  # robust z beyond which a scan stands apart
_FEWEST = 5  # scans below which a spread says nothing
_FEW_NOTED = 8  # scans up to which their notes are unfolded
_WIDTH, _HEIGHT = 230, 150
_USED, _UNUSED, _INK = "#0072B2", "#D55E00", "#1d2530"


def robust_z(values: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations, NaN where a value is missing.

    The deviation is 1.4826 times the median absolute deviation; where more than half of the values are the same, 1.2533
    times the mean absolute deviation. With fewer than five values, or no spread, every z is 0.

    References
    ----------
    Iglewicz & Hoaglin (1993), How to Detect and Handle Outliers.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    found = np.where(known, 0.0, np.nan)
    if known.sum() < _FEWEST:
        return found
    distance = values - np.median(values[known])
    deviation = 1.4826 * np.median(np.abs(distance[known])) or 1.2533 * np.abs(distance[known]).mean()
    if deviation > 1e-12 * max(1.0, float(np.abs(values[known]).max())):
        found[known] = distance[known] / deviation
    return found


def write_cohort_pages(
    measures: Mapping[str, str | Path],
    pages: Mapping[str, str],
    inclusion: str | Path,
    index: str | Path,
    scans: str | Path,
    *,
    batches: Sequence[str | Path],
    group_mask: str | Path,
    settings: Mapping[str, Any],
    minimum_dof: int,
    report: Mapping[str, Any],
    folders: Sequence[str | None] = (),
) -> None:
    """Write the page of all scans, twice: one that names them where the config allows it, and one to work with that always does.

    Parameters
    ----------
    measures : JSON file of `measure_scan` of each scan
    pages : where each scan's page lies, seen from this page
    inclusion : the inclusion table
    index : HTML to write; without `report.identifiers` its scans have the numbers of the report and no links
    scans : HTML to write that names every scan and links to its page
    batches : folders of the scans' pages, with the sums of each (`averages.Sums`)
    group_mask : the template's brain on the grid of the scans
    settings, minimum_dof : the config's section `quality` and the least degrees of freedom where it names none
    report : the config's section `report`
    folders : of the datasets, whose paths the index does not tell either
    """
    found = {content["scan"]: content for content in map(read_json, measures.values())}
    table = read_table(inclusion, text_columns=("scan", "participant_id", "reason"))
    people = set(table["participant_id"])
    index_names = Identifiers(report["identifiers"], people, folders)
    drawn = draw_averages(read_averages(batches), read_mask(group_mask)[1])
    used = table.loc[table["included"].astype(str).str.lower() == "true", "participant_id"].nunique()
    # an average of a few people, however often each was scanned, would be a picture of persons, on the page that names none
    pictures = {True: drawn, False: [one for one in drawn if min(used, one.count) >= _FEWEST]}
    for page, identifiers in ((index, index_names), (scans, Identifiers(True, people))):
        numbers = {} if index_names.shown or not identifiers.shown else index_names.names(_displacements(table, found))
        content = _content(found, pages, table, limits_of(settings, minimum_dof), identifiers, numbers)
        content |= {"title": identifiers.without(report["title"]), "averages": pictures[identifiers.shown]}
        render("cohort.html.j2", page, content, identifiers.check)


def _content(
    found: Mapping[str, Mapping[str, Any]],
    pages: Mapping[str, str],
    table: pandas.DataFrame,
    limits: Mapping[str, Any],
    identifiers: Identifiers,
    numbers: Mapping[str, str],
) -> dict[str, Any]:
    names = identifiers.names(_displacements(table, found))
    used = dict(zip(table["scan"], table["included"].astype(str).str.lower() == "true", strict=True))
    reasons = dict(zip(table["scan"], table["reason"], strict=True))
    scans = [scan for scan in names if scan in found]
    values = {
        name: np.array([_number(found[scan].get(name)) for scan in scans], np.float64)
        for name in WORDS
        if any(found[scan].get(name) is not None for scan in scans)
    }
    scores = {name: robust_z(column) for name, column in values.items()}
    places = {scan: place for place, scan in enumerate(scans)}
    linked = {scan: pages[scan] for scan in scans} if identifiers.shown else {}
    rows = [
        {
            "scan": names[scan],
            "number": numbers.get(scan),
            "measured": scan in places,
            "page": linked.get(scan),
            "used": used[scan],
            "reason": identifiers.without(reasons[scan]) if isinstance(reasons[scan], str) else "",
            "cells": [
                _cell(name, values[name][places[scan]], scores[name][places[scan]], limits)
                for name in values
                if scan in places
            ],
        }
        for scan in names
    ]
    drawings = [
        {
            "svg": strip(
                linked, scans, values[name], scores[name], used, _limit(name, limits), WORDS[name].digits, names
            ),
            **_heading(name),
        }
        for name in values
        if name not in ("n_volumes", "dof_bandpass", "mean_dvars")
    ]
    return {
        "n_scans": len(table),
        "n_used": sum(used.values()),
        "columns": [_heading(name) | {"limit": _limit_words(name, limits)} for name in values],
        "rows": rows,
        "drawings": drawings,
        "remarks": [
            remark | {"scan": names[remark["scan"]], "page": linked.get(remark["scan"])}
            for remark in remarks(scans, values, scores)
        ],
        "noted": [
            {"scan": names[scan], "page": linked.get(scan), "notes": identifiers.without(found[scan]["notes"])}
            for scan in scans
            if found[scan].get("notes")
        ],
        "few": _FEW_NOTED,
        "apart": f"{APART:g}",
        "fewest": _FEWEST,
        "unused": [row for row in rows if not row["used"]],
        "identifiers": identifiers.shown,
        "numbered": bool(numbers),
    }


def _displacements(table: pandas.DataFrame, found: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    return {scan: found.get(scan, {}).get("mean_framewise_displacement") for scan in table["scan"]}


def remarks(
    scans: Sequence[str], values: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]
) -> list[dict[str, str]]:
    """One sentence for each scan and measure that stands apart, the farthest first."""
    found = []
    for name, column in scores.items():
        for place in np.flatnonzero(np.abs(np.nan_to_num(column)) > APART):
            side = "high" if column[place] > 0 else "low"
            words = WORDS[name]
            unit = f" {words.unit}" if words.unit in ("mm", "ml") else ""
            text = f"{words.words} is {side}: {shown(values[name][place], words.digits)}{unit}, the median is "
            text += f"{shown(np.nanmedian(values[name]), words.digits)}{unit} (robust z {column[place]:+.1f})"
            found.append((-abs(column[place]), {"scan": scans[place], "text": text}))
    return [remark for _, remark in sorted(found, key=lambda pair: (pair[0], pair[1]["scan"]))]


def strip(
    pages: Mapping[str, str],
    scans: Sequence[str],
    values: np.ndarray,
    scores: np.ndarray,
    used: Mapping[str, bool],
    limit: float | None,
    digits: int,
    names: Mapping[str, str] | None = None,
) -> str:
    """One measure of all scans as SVG: a dot each, box of the quartiles with the median, the limit dashed.

    Dots are links to the scans' pages, where there are any; those that stand apart are ringed and named, by `names` where given.
    """
    known = np.isfinite(values)
    if not known.any():
        return ""
    low, high = float(values[known].min()), float(values[known].max())
    near = limit is not None and low - 2 * (high - low) <= limit <= high + 2 * (high - low)
    if limit is not None and near:
        low, high = min(low, limit), max(high, limit)
    margin = 0.06 * (high - low) or max(abs(high) * 0.05, 0.5)
    low, high = low - margin, high + margin
    top, bottom, left = 8, _HEIGHT - 8, 46

    def place(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    quarters = np.percentile(values[known], [25, 50, 75])
    middle = left + 52
    parts = [
        f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{bottom}"/>',
        f'<rect class="box" x="{middle - 36}" width="72" y="{place(quarters[2]):.1f}" height="{max(place(quarters[0]) - place(quarters[2]), 0.5):.1f}"/>',
        f'<line class="median" x1="{middle - 36}" x2="{middle + 36}" y1="{place(quarters[1]):.1f}" y2="{place(quarters[1]):.1f}"/>',
    ]
    heights: list[float] = []
    for value in (quarters[1], values[known].min(), values[known].max()):
        if all(abs(place(value) - other) > 10 for other in heights):
            heights.append(place(value))
            parts.append(
                f'<text class="tick" x="{left - 4}" y="{heights[-1] + 3:.1f}">{shown(value, digits) if digits else format(value, ".4g")}</text>'
            )
    if limit is not None and not near:
        side, y = ("below", _HEIGHT - 0.5) if limit < low else ("above", top)
        parts.append(f'<text class="limit-word" x="{_WIDTH - 4}" y="{y:.1f}">limit {limit:g}, far {side}</text>')
    elif limit is not None:
        y = place(limit)
        parts.append(f'<line class="limit" x1="{left}" x2="{_WIDTH - 4}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="limit-word" x="{_WIDTH - 4}" y="{y - 3:.1f}">limit {limit:g}</text>')
    shifts = _spread(np.array([place(value) for value in values[known]]))
    named: list[float] = []
    for scan, value, score, shift in zip(np.asarray(scans)[known], values[known], scores[known], shifts, strict=True):
        x, y, name = middle + shift, place(value), escape(str((names or {}).get(str(scan), scan)))
        colour = _USED if used.get(str(scan)) else _UNUSED
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{name}: {shown(value, digits)}</title></circle>'
        if abs(score) > APART:
            dot += f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
            if all(abs(y - other) > 9 for other in named):
                named.append(y)
                dot += f'<text class="name" x="{x + 9:.1f}" y="{y + 3:.1f}">{name.split("_task-")[0]}</text>'
        link = pages.get(str(scan))
        parts.append(f'<a href="{escape(link)}">{dot}</a>' if link else dot)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _spread(heights: np.ndarray) -> np.ndarray:
    """Sideways shifts that keep dots of the same height apart, in the order given."""
    shifts = np.zeros(len(heights))
    for index in range(len(heights)):
        taken = {float(shifts[other]) for other in range(index) if abs(heights[other] - heights[index]) < 5}
        candidates = (sign * step * 6.0 for step in range(7) for sign in (1, -1))
        shifts[index] = next((shift for shift in candidates if shift not in taken), 0.0)
    return shifts


def _cell(name: str, value: float, score: float, limits: Mapping[str, Any]) -> dict[str, Any]:
    limit = _limit(name, limits)
    beyond = False
    if limit is not None and np.isfinite(value):
        beyond = value > limit if LIMIT_OF[name][1] == "above" else value < limit
    return {
        "text": shown(value, WORDS[name].digits),
        "sort": f"{value:.10g}" if np.isfinite(value) else "",
        "beyond": bool(beyond),
        "apart": bool(abs(np.nan_to_num(score)) > APART),
    }


def _heading(name: str) -> dict[str, str]:
    words = WORDS[name]
    return {"words": words.words, "short": words.short, "unit": words.unit, "tells": words.tells}


def _limit(name: str, limits: Mapping[str, Any]) -> float | None:
    return limits.get(LIMIT_OF[name][0]) if name in LIMIT_OF else None


def _limit_words(name: str, limits: Mapping[str, Any]) -> str:
    limit = _limit(name, limits)
    return "" if limit is None else f"{'≤' if LIMIT_OF[name][1] == 'above' else '≥'} {limit:g}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
