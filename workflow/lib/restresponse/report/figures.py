"""The page's figures as PNG data URIs: colours that colour-blind readers tell apart (Okabe & Ito), axes with units, n."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.ladder import LEAKS, number_of
from restresponse.metrics.collect import CONSTANT
from restresponse.metrics.optimism import CLEAN

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY, INK = "#8a8a8a", "#222222"
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "D", "s", "^")


def data_uri(figure: Figure, dpi: int = 110) -> str:
    """A figure as a PNG data URI, without a date or a version in it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def quality_figure(scans: pandas.DataFrame, limits: Mapping[str, float | None]) -> str:
    """One dot a scan: framewise displacement, coverage, overlap and degrees of freedom, with the limits.

    `scans` has scan, included and the four measures; `limits` the threshold of each measure.
    """
    figure = blank(7.6, 2.9)
    panels = figure.subplots(1, 4)
    words = {
        "mean_framewise_displacement": "mean framewise\ndisplacement (mm)",
        "coverage": "coverage\n(share of the brain)",
        "overlap": "overlap with the\ntemplate (Dice)",
        "dof_residual": "residual degrees\nof freedom",
    }
    spread = np.linspace(-0.3, 0.3, max(len(scans), 2))[: len(scans)]
    used = scans["included"].to_numpy(bool)
    for panel, (name, label) in zip(panels, words.items(), strict=True):
        values = scans[name].to_numpy(np.float64)
        panel.scatter(spread[used], values[used], s=16, color=COLOURS[0], label="used")
        panel.scatter(spread[~used], values[~used], s=28, color=COLOURS[1], marker="x", label="not used")
        if limits.get(name) is not None:
            panel.axhline(limits[name], color=INK, linewidth=1, linestyle="--", label="limit")
        panel.set_ylabel(label, fontsize=8)
        panel.set(xticks=[], xlim=(-0.5, 0.5))
        panel.set_xlabel(f"n = {int(np.isfinite(values).sum())}", fontsize=8)
        panel.tick_params(labelsize=7)
        bare(panel)
        if name == "mean_framewise_displacement":
            panel.set_ylim(bottom=0)
        if name == "dof_residual":
            panel.yaxis.get_major_locator().set_params(integer=True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return data_uri(figure)


def component_figure(
    maps: np.ndarray, mask: np.ndarray, affine: np.ndarray, template: np.ndarray, titles: Sequence[str]
) -> str:
    """Three slices of each group map, through its peak, on the template.

    Parameters
    ----------
    maps : (n_components, n_voxels) unit RMS
    mask, template : (n_x, n_y, n_z)
    affine : (4, 4)
    titles : of the components
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns, foot = 3, 0.45
    width, height = 7.8, 1.05
    rows = -(-len(maps) // columns)
    total = height * rows + foot
    figure = Figure(figsize=(width, total))
    extents = [np.delete(np.array(mask.shape), axis) for axis in range(3)]
    scale = 0.86 * width / columns / sum(extent[0] for extent in extents)  # inches a voxel, three slices in a cell
    scale = min(scale, 0.8 * height / max(extent[1] for extent in extents))
    colours = {"cmap": "RdBu_r", "norm": Normalize(-6, 6)}
    for index, (values, title) in enumerate(zip(maps, titles, strict=True)):
        volume = np.zeros(mask.shape)
        volume[mask] = values
        peak = np.unravel_index(np.argmax(np.abs(volume)), volume.shape)
        left, bottom = index % columns * width / columns + 0.04, total - (index // columns + 1) * height
        figure.text(left / width, (bottom + height - 0.04) / total, title, fontsize=7, color=INK, va="top")
        for axis, extent in enumerate(extents):
            across, up = extent * scale
            panel = figure.add_axes((left / width, bottom / total, across / width, up / total))
            behind, over = (np.take(array, peak[axis], axis=axis).T for array in (template, volume))
            panel.imshow(behind, origin="lower", cmap="gray", interpolation="bilinear")
            panel.imshow(np.ma.masked_where(np.abs(over) < 2, over), origin="lower", interpolation="nearest", **colours)
            place = affine[axis, :3] @ peak + affine[axis, 3]
            panel.text(0.03, 0.03, f"{'xyz'[axis]} {place:.0f}", transform=panel.transAxes, fontsize=5, color="white")
            panel.set_axis_off()
            left += across
    bar = figure.colorbar(
        ScalarMappable(**colours), cax=figure.add_axes((0.02, 0.3 / total, 0.3, 0.07 / total)), orientation="horizontal"
    )
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    words = "z of the group map; |z| > 2 is shown. x, y, z: mm in MNI152"
    figure.text(0.34, 0.33 / total, words, fontsize=7, color=INK, va="center")
    return data_uri(figure, dpi=130)


def roc_figure(predictions: pandas.DataFrame, metrics: pandas.DataFrame) -> str:
    """One panel an arm: the pooled ROC curve of each protocol and model, with its pooled AUC."""
    from sklearn.metrics import roc_curve

    arms = list(dict.fromkeys(predictions["arm"]))
    protocols, models = (list(dict.fromkeys(predictions[name])) for name in ("protocol", "model"))
    models = [model for model in models if model != CONSTANT]
    pooled = metrics[(metrics["metric"] == "auc") & (metrics["scope"] == "pooled")]
    areas = pooled.set_index(["protocol", "arm", "model"])["value"]
    across = min(3, len(arms))
    entries = 1 + len(protocols) * len(models)
    figure = blank(2.7 * across, (2.85 + 0.21 * entries) * -(-len(arms) // across))
    panels = np.atleast_1d(figure.subplots(-(-len(arms) // across), across, squeeze=False)).ravel()
    for panel in panels[len(arms) :]:
        panel.set_axis_off()
    for panel, arm in zip(panels, arms, strict=False):
        part = predictions[predictions["arm"] == arm]
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="constant 0.50")
        for (protocol, model), rows in part.groupby(["protocol", "model"], sort=False):
            if model == CONSTANT or rows["response"].nunique() < 2:
                continue
            colour, line = COLOURS[models.index(model) % len(COLOURS)], _LINES[protocols.index(protocol) % len(_LINES)]
            label = f"{model}, {protocol} {areas.get((protocol, arm, model), np.nan):.2f}"
            for _, repeat in rows.groupby("repeat"):
                false, true, _ = roc_curve(repeat["response"], repeat["y_score"], drop_intermediate=False)
                panel.plot(false, true, color=colour, linestyle=line, linewidth=1.6, label=label)
                label = None
        people = part.drop_duplicates("participant_id")["response"]
        panel.set_title(f"{arm} (n = {int(people.sum())} + {int((people == 0).sum())})", fontsize=9, loc="left")
        panel.set(xlabel="1 − specificity", ylabel="recall", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        panel.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        panel.tick_params(labelsize=8)
        panel.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        bare(panel)
    return data_uri(figure)


def optimism_figure(metrics: pandas.DataFrame, optimism: pandas.DataFrame, protocols: Sequence[str]) -> str:
    """Left, the mean AUC of each protocol with its interval; right, its difference from clean, hollow where it must be 0."""
    chosen = metrics[(metrics["metric"] == "auc") & (metrics["scope"] == "mean")]
    pairs = list(dict.fromkeys(zip(chosen["arm"], chosen["model"], strict=True)))
    figure = blank(7.6, 0.95 + 0.46 * len(pairs))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
    gap = 0.5 / max(len(protocols), 1)
    for number, protocol in enumerate(protocols):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
        offset = (number - (len(protocols) - 1) / 2) * gap
        rows = {(row.arm, row.model): row for row in chosen[chosen["protocol"] == protocol].itertuples()}
        _dots(left, [rows.get(pair) for pair in pairs], "value", offset, style, label=protocol)
        if protocol != CLEAN:
            part = optimism[(optimism["protocol"] == protocol) & (optimism["scope"] == "mean")]
            gaps = {(row.arm, row.model): row for row in part.itertuples()}
            _dots(right, [gaps.get(pair) for pair in pairs], "difference", offset, style)
    left.axvline(0.5, color=GREY, linewidth=1)
    right.axvline(0, color=GREY, linewidth=1)
    left.set_yticks(range(len(pairs)), [f"{arm} · {model}" for arm, model in pairs], fontsize=8)
    left.set(ylim=(len(pairs) - 0.4, -0.6), xlim=(-0.02, 1.02))
    left.set_xlabel("mean of fold AUCs (0.5: guessing)", fontsize=8)
    right.set_xlabel("AUC less clean AUC (hollow: 0 by construction)", fontsize=8)
    for panel in (left, right):
        panel.tick_params(labelsize=8)
        bare(panel)
    figure.legend(loc="outside upper left", ncols=len(protocols), fontsize=8, frameon=False)
    return data_uri(figure)


def ladder_figure(ladders: Sequence[Mapping[str, Any]]) -> str:
    """One panel an arm and model: the difference from clean of each leak alone, and below it of those together.

    `ladders` are those of `report.ladder.rungs_of`; hollow where the leak cannot act.
    """
    across = min(3, len(ladders))
    down = -(-len(ladders) // across)
    height = max(len(LEAKS) + len(ladder["together"]) for ladder in ladders)
    figure = blank(7.6, (0.75 + 0.24 * height) * down)
    panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    for panel in panels[len(ladders) :]:
        panel.set_axis_off()
    for panel, ladder in zip(panels, ladders, strict=False):
        rows = [SimpleNamespace(**row) for row in (*ladder["rungs"].values(), *ladder["together"])]
        for row in rows:
            row.difference, row.low, row.high = (
                np.nan if value is None else value for value in (row.difference, row.low, row.high)
            )
        alone = len(ladder["rungs"])
        _dots(panel, rows[:alone], "difference", 0, {"color": COLOURS[0], "marker": _MARKERS[0]})
        _dots(panel, [None] * alone + rows[alone:], "difference", 0, {"color": COLOURS[1], "marker": _MARKERS[1]})
        names = [f"{number_of(leak)} {leak.replace('_', ' ')}" for leak in ladder["rungs"]]
        panel.set_yticks(range(len(rows)), [*names, *(row.protocol for row in rows[alone:])], fontsize=7)
        panel.set(ylim=(len(rows) - 0.4, -0.6))
        panel.axvline(0, color=GREY, linewidth=1)
        panel.set_title(f"{ladder['arm']} · {ladder['model']}", fontsize=8, loc="left")
        panel.tick_params(labelsize=7)
        bare(panel)
    for panel in panels[max(len(ladders) - across, 0) : len(ladders)]:
        panel.set_xlabel("AUC less clean AUC", fontsize=8)
        panel.tick_params(labelbottom=True)
    return data_uri(figure)


def _dots(
    panel: Any, rows: Sequence[Any], column: str, offset: float, style: Mapping[str, str], label: str | None = None
) -> None:
    for place, row in enumerate(rows):
        if row is None or not np.isfinite(getattr(row, column)):
            continue
        hollow = isinstance(getattr(row, "by_construction", None), str)
        height = place + offset
        if np.isfinite(row.low):
            panel.plot([row.low, row.high], [height, height], color=style["color"], linewidth=1.6)
        face = "white" if hollow else style["color"]
        panel.plot(
            getattr(row, column),
            height,
            linestyle="none",
            marker=style["marker"],
            markersize=5.5,
            markeredgecolor=style["color"],
            markerfacecolor=face,
            label=label,
        )
        label = None


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def bare(panel: Any) -> None:
    """Take the frame's upper and right side away."""
    panel.spines[["top", "right"]].set_visible(False)
