"""What the classifiers look at, in sentences, rows and a figure of each; withheld where there is nothing to explain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.attribution import ATTRIBUTION, COMPONENT, LEFT_OUT, NETWORK, OCCLUDED
from restresponse.files import read_table
from restresponse.metrics.explanation import FIRST, map_name
from restresponse.report.figures import COLOURS, GREY, INK, bare, data_uri

if TYPE_CHECKING:
    import pandas

_KEY = ("protocol", "arm", "model")
_TEXT = (*_KEY, "what", "name", "network", "measure", "withheld")
_TAKEN_OUT = {COMPONENT: LEFT_OUT, NETWORK: OCCLUDED}
_SHOWN = 10  # bars of a panel
_ALIKE = 0.5  # correlation at which the order of shuffled weights is that of the trained ones
_MUCH = 0.1  # share of what the trained ones add; below it an order is that of noise


def explanation_cases(results: Path, config: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """One case a classifier: its sentences, rows and figure, or the sentence why it is withheld; None where none was wanted."""
    if not config["metrics"]["explanation"]:
        return None
    folder = results / "metrics/explanation"
    networks, summary = (read_table(folder / f"{name}.tsv", text_columns=_TEXT) for name in ("networks", "summary"))
    left_out = read_table(results / "metrics/left_out.tsv", text_columns=_TEXT)
    cases = []
    for key, facts in summary.groupby(list(_KEY), sort=False):
        case: dict[str, Any] = {"arm": key[1], "model": key[2], "rows": [], "figure": None}
        reason = facts["withheld"].iloc[0]
        if isinstance(reason, str):
            cases.append(case | {"sentences": [reason]})
            continue
        own = networks[(networks[list(_KEY)] == list(key)).all(axis=1)]
        refitted = left_out[(left_out[list(_KEY)] == list(key)).all(axis=1)]
        case["sentences"] = sentences(own, facts) + refitted_sentences(refitted)
        case["rows"] = rows_of(own, refitted)
        case["figure"] = explanation_figure(own, folder / map_name(*key))
        cases.append(case)
    return cases


def words_of(row: Any) -> str:
    """A component or a network by name."""
    if row.what == NETWORK:
        return row.name
    return f"component {row.name} ({row.network if isinstance(row.network, str) else 'no network'})"


def sentences(networks: pandas.DataFrame, summary: pandas.DataFrame) -> list[str]:
    """What matters most, how stable that is over folds, and whether shuffled weights lose it."""
    found = []
    for what, measure in _TAKEN_OUT.items():
        part = networks[(networks["what"] == what) & (networks["measure"] == measure)]
        if part.empty:
            continue
        facts = summary[(summary["what"] == what) & (summary["measure"] == measure)].iloc[0]
        best = next(part.sort_values("rank").itertuples(index=False, name="Row"))
        put_back = "its map is put back to the mean of the training participants"
        if what == NETWORK:
            put_back = "its voxels are put back to the mean of the training participants"
        text = (
            f"Of all {what}s {words_of(best)} adds most: when {put_back}, the difference between the groups' mean log-odds falls "
            f"by {best.separation:.2f} of {facts['whole']:.2f} and the AUC of a fold by {best.auc_lost:.2f}. It is among the first "
            f"{FIRST} in {best.share_first:.0%} of {int(facts['n_folds'])} folds"
        )
        if np.isfinite(facts["rank_r"]):
            text += f"; the order agrees between folds with a mean rank correlation of {facts['rank_r']:.2f}"
        found.append(f"{text}. With the model's weights shuffled it adds {best.randomised:.2f}.")
        if facts["randomised_r"] >= _ALIKE and best.randomised >= _MUCH * best.separation:
            found.append(
                f"Caution: the same model with its weights shuffled puts the {what}s in a similar order (rank correlation "
                f"{facts['randomised_r']:.2f}). This order may be a property of the maps, not of what was learned."
            )
    maps = summary["map_r"].iloc[0]
    if np.isfinite(maps):
        found.append(f"The maps of two folds correlate with r = {maps:.2f} on average.")
    return found


def refitted_sentences(refitted: pandas.DataFrame) -> list[str]:
    """What a linear model that is fitted again without a component loses; nothing for a network, which is not."""
    if refitted.empty:
        return []
    best = next(refitted.sort_values("rank").itertuples(index=False, name="Row"))
    name = best.network if isinstance(best.network, str) else "no network"
    text = (
        f"Left out before the fit, component {best.component} ({name}) is missed most: the whole procedure without it has an AUC "
        f"of {best.without:.2f} in place of {best.auc:.2f}, {best.auc_lost:.2f} less [{best.low:.2f}, {best.high:.2f}]"
    )
    above = int((refitted["low"] > 0).sum())
    if not above:
        return [
            f"{text}; of no component does the interval of what is lost lie above 0: others can take each one's place."
        ]
    return [f"{text}; of {above} of {len(refitted)} components the interval of what is lost lies above 0."]


def rows_of(networks: pandas.DataFrame, refitted: pandas.DataFrame) -> list[dict[str, Any]]:
    """One row a component or network, in order: what it adds by both measures, over folds and with shuffled weights.

    Of a component in a linear model also the AUC that is lost where it is left out before the fit.
    """
    lost = {str(row.component): row for row in refitted.itertuples(index=False, name="Row")}
    attribution = networks[networks["measure"] == ATTRIBUTION].set_index(["what", "name"])["separation"]
    rows = []
    for what, measure in _TAKEN_OUT.items():
        part = networks[(networks["what"] == what) & (networks["measure"] == measure)].sort_values("rank")
        for row in part.itertuples(index=False, name="Row"):
            facts = {
                name: getattr(row, name) for name in ("rank", "separation", "sd", "share_first", "size", "auc_lost")
            }
            facts |= {"randomised": row.randomised, "n_folds": row.n_folds, "attribution": attribution[what, row.name]}
            rows.append(
                {"words": words_of(row), **facts, "refitted": lost.get(row.name) if what == COMPONENT else None}
            )
    return rows


def explanation_figure(networks: pandas.DataFrame, image: Path) -> str:
    """Above, what components and networks add, with the spread over folds; below, the map of integrated gradients."""
    import nibabel as nib
    from matplotlib.figure import Figure

    from restresponse.grid import template_image

    kinds = [what for what in _TAKEN_OUT if (networks["what"] == what).any()]
    count = min(_SHOWN, max(int((networks["what"] == what).sum()) // 2 for what in kinds))
    bars, slices = 0.75 + 0.2 * count, 2.0
    figure = Figure(figsize=(7.6, bars + slices), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(bars, slices))
    for panel, what in zip(np.atleast_1d(upper.subplots(1, len(kinds))), kinds, strict=True):
        part = networks[(networks["what"] == what) & (networks["measure"] == _TAKEN_OUT[what])].sort_values("rank")
        part = part.head(_SHOWN)
        places = np.arange(len(part))
        spread = {"xerr": part["sd"].fillna(0), "error_kw": {"linewidth": 1}, "ecolor": INK}
        panel.barh(places, part["separation"], color=COLOURS[0], label="trained (bar: SD over folds)", **spread)
        label = "weights shuffled"
        panel.plot(
            part["randomised"], places, "D", markersize=4, color="white", markeredgecolor=COLOURS[1], label=label
        )
        names = [words_of(row).removeprefix("component ") for row in part.itertuples(index=False, name="Row")]
        panel.set_yticks(places, names, fontsize=7)
        panel.invert_yaxis()
        panel.axvline(0, color=GREY, linewidth=1)
        panel.set_title(f"{what}s, {'left out' if what == COMPONENT else 'occluded'}", fontsize=8, loc="left")
        panel.set_xlabel("difference of groups' mean log-odds that it adds", fontsize=7)
        panel.tick_params(labelsize=7)
        bare(panel)
    handles, labels = panel.get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=7, frameon=False)
    loaded = nib.load(image)
    volume, affine = np.asarray(loaded.dataobj, np.float64), loaded.affine
    template = template_image("T1w", float(affine[0, 0]))
    limit = float(np.quantile(np.abs(volume[volume != 0]), 0.999)) if volume.any() else 1.0
    peak = np.unravel_index(np.argmax(np.abs(volume)), volume.shape)
    panels = lower.subplots(1, 3)
    for axis, panel in enumerate(panels):
        behind, over = (np.take(array, peak[axis], axis=axis).T for array in (template, volume))
        panel.imshow(behind, origin="lower", cmap="gray", interpolation="bilinear")
        shown = np.ma.masked_where(np.abs(over) < 0.15 * limit, over)
        drawn = panel.imshow(shown, origin="lower", interpolation="nearest", cmap="RdBu_r", vmin=-limit, vmax=limit)
        place = affine[axis, :3] @ peak + affine[axis, 3]
        panel.text(0.03, 0.03, f"{'xyz'[axis]} {place:.0f}", transform=panel.transAxes, fontsize=6, color="white")
        panel.set_axis_off()
    bar = lower.colorbar(drawn, ax=panels, fraction=0.02, shrink=0.8)
    bar.set_label("log-odds a voxel", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    bar.formatter.set_powerlimits((-2, 2))
    bar.ax.yaxis.offsetText.set_fontsize(6)
    return data_uri(figure, dpi=120)
