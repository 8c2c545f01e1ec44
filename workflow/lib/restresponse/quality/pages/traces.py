"""Everything of a scan that runs in time, one under the other on one axis: motion, displacement, DVARS, signal, carpet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from restresponse.quality.pages.montage import data_uri, svg_path

if TYPE_CHECKING:
    import pandas

WIDTH = 1000  # units of the drawing
_LEFT, _RIGHT, _GAP = 112, 8, 14
_UNIT = 0.2  # of the numbers in a curve's path
_ROWS = {"GM": 200, "WM": 110, "CSF": 60, "brain": 300}  # voxels of the carpet at most
_TISSUES = {"GM": "grey matter", "WM": "white matter", "CSF": "CSF", "brain": "brain"}
COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe & Ito
_TISSUE_COLOURS = {"GM": "#009E73", "WM": "#E69F00", "CSF": "#56B4E9", "brain": "#8a8a8a"}


@dataclass(frozen=True)
class Panel:
    """One panel: its words, its lines (name to values), a limit drawn dashed, and whether 0 is its floor."""

    title: str
    unit: str
    lines: Mapping[str, np.ndarray]
    height: float = 52
    limit: float | None = None
    from_zero: bool = False
    colours: Sequence[str] = field(default=COLOURS)


def panels_of(table: pandas.DataFrame, displacement_limit: float | None) -> list[Panel]:
    """The panels for which a confounds table has columns."""
    found = []
    for kind, words, unit, scale in (("trans", "translation", "mm", 1.0), ("rot", "rotation", "degrees", 180 / np.pi)):
        lines = {
            axis: table[f"{kind}_{axis}"].to_numpy(np.float64) * scale for axis in "xyz" if f"{kind}_{axis}" in table
        }
        found += [Panel(words, unit, lines, height=64)] if lines else []
    singles = (
        ("framewise_displacement", "framewise displacement", "mm", displacement_limit, True),
        ("std_dvars", "DVARS, standardised", "1: quiet", None, False),
        ("dvars", "DVARS", "of 1000", None, False),
        ("global_signal", "global signal", "", None, False),
    )
    for name, words, unit, limit, from_zero in singles:
        if name == "dvars" and "std_dvars" in table:
            continue
        if name in table:
            values = table[name].to_numpy(np.float64)
            found.append(Panel(words, unit, {"": values}, limit=limit, from_zero=from_zero, colours=("#222222",)))
    return found


def carpet(series: np.ndarray, masks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """Rows of a carpet: voxels of each tissue from left to right, detrended, in standard deviations.

    Parameters
    ----------
    series : (n_x, n_y, n_z, n_scans) array in any linear scale
    masks : tissue -> (n_x, n_y, n_z) bool; of many voxels as many as a picture can show, evenly spaced

    Returns
    -------
    rows : (n_rows, n_scans) array
    blocks : tissue -> (rows shown, voxels there are), in order
    """
    blocks, parts = {}, []
    for tissue, mask in masks.items():
        places = np.argwhere(mask)
        if not len(places):
            continue
        count = min(len(places), _ROWS[tissue])
        x, y, z = places[np.linspace(0, len(places) - 1, count).round().astype(int)].T
        chosen = np.nan_to_num(np.asarray(series[x, y, z], np.float64))
        trend = np.linalg.qr(np.column_stack([np.ones(chosen.shape[1]), np.linspace(-1, 1, chosen.shape[1])]))[0]
        chosen = chosen - (chosen @ trend) @ trend.T
        spread = chosen.std(axis=1, keepdims=True)
        parts.append(np.divide(chosen, spread, out=np.zeros_like(chosen), where=spread > 1e-9))
        blocks[tissue] = (count, len(places))
    return (np.concatenate(parts) if parts else np.zeros((0, 0))), blocks


def draw(
    panels: Sequence[Panel],
    rows: np.ndarray,
    blocks: Mapping[str, tuple[int, int]],
    outliers: Sequence[int],
    n_volumes: int,
    repetition_time: float | None,
) -> str:
    """The drawing as SVG: panels, then the carpet, outlier volumes shaded through all, seconds below."""
    inner = WIDTH - _LEFT - _RIGHT
    step = inner / max(n_volumes, 1)
    parts: list[str] = []
    top = 4.0
    for panel in panels:
        parts.append(_panel(panel, top, step))
        top += panel.height + _GAP
    carpet_height = 250.0 if len(rows) else 0.0
    if len(rows):
        parts.append(_carpet(rows, blocks, top, inner, carpet_height))
    bottom = top + carpet_height if len(rows) else top - _GAP
    shades = "".join(
        f'<rect x="{_LEFT + volume * step:.1f}" y="0" width="{max(step, 1.5):.1f}" height="{bottom:.0f}"/>'
        for volume in outliers
    )
    parts.append(f'<g class="shade">{shades}</g>')
    parts.append(_axis(bottom, step, n_volumes, repetition_time))
    return f'<svg class="time" viewBox="0 0 {WIDTH} {bottom + 34:.0f}" role="img">' + "".join(parts) + "</svg>"


def _panel(panel: Panel, top: float, step: float) -> str:
    values = np.concatenate([np.asarray(line, np.float64) for line in panel.lines.values()])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    low = 0.0 if panel.from_zero else low
    shown_limit = panel.limit if panel.limit is not None and panel.limit < 2.5 * max(high, 1e-9) else None
    high = max(high, shown_limit or high)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    height = panel.height

    def place(value: float | np.ndarray) -> np.ndarray:
        return top + height - (np.asarray(value) - low) / (high - low) * height

    parts = [f'<rect class="frame" x="{_LEFT}" y="{top:.1f}" width="{WIDTH - _LEFT - _RIGHT}" height="{height:.1f}"/>']
    if low < 0 < high:
        parts.append(_line(float(place(0.0)), "zero"))
    if shown_limit is not None:
        parts.append(_line(float(place(shown_limit)), "limit"))
    for (name, line), colour in zip(panel.lines.items(), panel.colours, strict=False):
        parts += _curve(np.asarray(line, np.float64), place, step, colour)
        if name:
            offset = WIDTH - _RIGHT - 14 * (len(panel.lines) - list(panel.lines).index(name))
            parts.append(f'<text x="{offset}" y="{top + 11:.1f}" style="fill:{colour};font-weight:700">{name}</text>')
    words = [panel.title] if len(panel.title) < 12 else panel.title.rsplit(" ", 1)
    words += [f"({panel.unit})"] if panel.unit else []
    for number, text in enumerate(words):
        parts.append(f'<text x="2" y="{top + 13 + 13 * number:.1f}">{text}</text>')
    for value, shift in ((high, 9), (low, 0)):
        text = f"{value:.3g}"
        parts.append(f'<text class="tick" x="{_LEFT - 4}" y="{float(place(value)) + shift:.1f}">{text}</text>')
    return "".join(parts)


def _curve(line: np.ndarray, place, step: float, colour: str) -> list[str]:
    """Unbroken stretches of a line, each a path."""
    known = np.isfinite(line)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    parts = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        points = np.column_stack([_LEFT + (np.arange(first, last) + 0.5) * step, place(line[first:last])])
        path = svg_path(points, _UNIT)
        parts.append(f'<path class="curve" stroke="{colour}" transform="scale({_UNIT})" d="{path}"/>')
    return parts


def _line(height: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'


def _carpet(rows: np.ndarray, blocks: Mapping[str, tuple[int, int]], top: float, inner: float, height: float) -> str:
    from PIL import Image

    grey = np.rint(127.5 + 51 * np.clip(rows, -2.5, 2.5)).clip(0, 255).astype(np.uint8)
    uri = data_uri(Image.fromarray(grey), "JPEG", quality=72, optimize=True)
    parts = [
        f'<image class="carpet" x="{_LEFT}" y="{top:.1f}" width="{inner}" height="{height:.1f}" '
        f'preserveAspectRatio="none" href="{uri}"/>'
    ]
    start, scale = top, height / len(rows)
    for tissue, (count, there_are) in blocks.items():
        size = count * scale
        colour = _TISSUE_COLOURS[tissue]
        parts.append(
            f'<rect x="{_LEFT - 7}" y="{start:.1f}" width="6" height="{max(size - 1, 1):.1f}" fill="{colour}"/>'
            f'<text x="2" y="{start + 13:.1f}">{_TISSUES[tissue]}</text>'
            f'<text class="small" x="2" y="{start + 26:.1f}">{count} of {there_are:,}</text>'
        )
        start += size
    return "".join(parts)


def _axis(bottom: float, step: float, n_volumes: int, repetition_time: float | None) -> str:
    spacing = next(size for size in (5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if n_volumes / size <= 10)
    parts = []
    for volume in range(0, n_volumes, spacing):
        x = _LEFT + (volume + 0.5) * step
        parts.append(f'<line class="frame" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>')
        parts.append(f'<text class="under" x="{x:.1f}" y="{bottom + 16:.1f}">{volume}</text>')
        if repetition_time:
            parts.append(
                f'<text class="under small" x="{x:.1f}" y="{bottom + 29:.1f}">{volume * repetition_time:.0f} s</text>'
            )
    parts.append(f'<text x="2" y="{bottom + 16:.1f}">volume</text>')
    return "".join(parts)
