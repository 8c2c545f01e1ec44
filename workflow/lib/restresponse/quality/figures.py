"""Figures of one scan: where it lies in the template's space, and how it moved."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.files import writing

if TYPE_CHECKING:
    import pandas

TEMPLATE, OWN = "#e4572e", "#17becf"  # outlines of the template's brain and of the scan's own mask
_SLICES = 7  # along each axis
_CARPET = 2000  # voxels of the carpet at most


def draw_registration(path: str | Path, mean: np.ndarray, brain: np.ndarray, own: np.ndarray, *, title: str) -> None:
    """Draw a scan's mean volume on slices of the three axes, with the outlines of the template's brain and of its own mask.

    `mean`, `brain` and `own` are (n_x, n_y, n_z) on a grid whose axes point right, front and up.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(10.5, 5.2), facecolor="black")
    axes = figure.subplots(3, _SLICES)
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(brain | own))
    mean, brain, own = (np.pad(volume[box], 1) for volume in (mean, brain, own))  # a margin for the outlines
    top = float(np.percentile(mean[mean > 0], 99)) if (mean > 0).any() else 1.0
    for axis in range(3):
        filled = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
        places = np.linspace(filled[0], filled[-1], _SLICES + 2).round().astype(int)[1:-1]
        for panel, place in zip(axes[axis], places, strict=True):
            view = [np.take(volume, place, axis=axis).T for volume in (mean, brain, own)]
            panel.imshow(view[0], origin="lower", cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            for mask, colour in ((view[1], TEMPLATE), (view[2], OWN)):
                if mask.any() and not mask.all():
                    panel.contour(mask.astype(float), levels=[0.5], colors=colour, linewidths=0.8)
            panel.set_axis_off()
    figure.suptitle(title, color="white", fontsize=10, x=0.01, y=0.985, ha="left")
    handles = [Line2D([], [], color=TEMPLATE), Line2D([], [], color=OWN)]
    figure.legend(
        handles,
        ["template's brain", "scan's own mask"],
        loc="upper right",
        ncols=2,
        fontsize=8,
        frameon=False,
        labelcolor="white",
    )
    figure.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.01, wspace=0.03, hspace=0.03)
    _save(figure, path)


def draw_motion(
    path: str | Path, table: pandas.DataFrame, series: np.ndarray, outliers: Sequence[int], *, title: str
) -> None:
    """Draw the six motion parameters, framewise displacement with the outlier volumes, and the carpet of the voxels.

    `table` is the confounds table; `series` (n_voxels, n_scans) the brain's voxels in the grid's order, left to right.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.4), layout="constrained")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=[1, 1, 1, 2])
    volumes = np.arange(len(table))
    for panel, kind, unit, scale in ((panels[0], "trans", "mm", 1.0), (panels[1], "rot", "deg", 180 / np.pi)):
        for axis in "xyz":
            panel.plot(volumes, table[f"{kind}_{axis}"] * scale, linewidth=1, label=axis)
        panel.set_ylabel({"trans": "translation", "rot": "rotation"}[kind] + f"\n({unit})")
    panels[0].legend(ncols=3, fontsize=7, frameon=False, loc="upper left")
    panels[2].plot(volumes, table["framewise_displacement"], color="black", linewidth=1)
    for volume in outliers:
        panels[2].axvspan(volume - 0.5, volume + 0.5, color=TEMPLATE, alpha=0.4, linewidth=0)
    panels[2].set_ylim(bottom=0)
    panels[2].set_ylabel("framewise\ndisplacement\n(mm)")
    panels[3].imshow(_carpet(series), aspect="auto", cmap="gray", vmin=-2, vmax=2, interpolation="nearest")
    panels[3].set(ylabel="voxels\n(left to right)", yticks=[], xlabel="volume", xlim=(-0.5, len(table) - 0.5))
    count = f"{len(outliers)} outlier volume" + "s" * (len(outliers) != 1)
    figure.suptitle(f"{title}: {count}{' (shaded)' if len(outliers) else ''}", fontsize=10, x=0.01, ha="left")
    _save(figure, path)


def draw_failure(path: str | Path, *, title: str, reason: str) -> None:
    """Draw the reason why there is no figure of a scan."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.6))
    text = "\n".join([f"{title}: failed", *textwrap.wrap(reason, 110)])
    figure.text(0.02, 0.9, text, va="top", fontsize=8, color=TEMPLATE, parse_math=False)
    _save(figure, path)


def _carpet(series: np.ndarray) -> np.ndarray:
    chosen = np.asarray(series[:: max(1, len(series) // _CARPET)], np.float64)
    trend = np.linalg.qr(np.column_stack([np.ones(series.shape[1]), np.arange(series.shape[1])]))[0]
    chosen = chosen - (chosen @ trend) @ trend.T
    deviation = chosen.std(axis=1, keepdims=True)
    return np.divide(chosen, deviation, out=np.zeros_like(chosen), where=deviation > 0)


def _save(figure: Any, path: str | Path) -> None:
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png", metadata={"Software": None})
