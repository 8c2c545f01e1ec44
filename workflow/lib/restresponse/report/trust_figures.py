"""Figures of the null, of the selection by p, of calibration and of the decision curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from restresponse.metrics.collect import BASELINE, CLEAN
from restresponse.report.figures import COLOURS, GREY, INK, bare, blank, data_uri

if TYPE_CHECKING:
    import pandas


def null_figure(null: pandas.DataFrame, permutations: pandas.DataFrame) -> str | None:
    """A histogram of each null by arm and model, one colour a protocol, and the classifiers' own AUC; None without a null."""
    means = permutations[permutations["scope"] == "mean"]
    if means.empty:
        return None
    pairs = list(dict.fromkeys(zip(means["arm"], means["model"], strict=True)))
    protocols = list(dict.fromkeys(means["protocol"]))
    figure = blank(7.6, 0.7 + 1.3 * len(pairs))
    panels = np.atleast_1d(figure.subplots(len(pairs), 1, sharex=True))
    bins = np.linspace(0, 1, 51)
    for panel, (arm, model) in zip(panels, pairs, strict=True):
        for number, protocol in enumerate(protocols):
            own = means[(means["protocol"] == protocol) & (means["arm"] == arm) & (means["model"] == model)]
            part = null[(null["protocol"] == protocol) & (null["arm"] == arm) & (null["model"] == model)]
            if own.empty:
                continue
            colour = COLOURS[number % len(COLOURS)]
            drawn = part.loc[part["permutation"] > 0, "mean"]
            label = protocol if panel is panels[0] else None
            panel.hist(drawn, bins=bins, histtype="stepfilled", color=colour, alpha=0.3, label=label)
            panel.axvline(own["auc"].iloc[0], color=colour, linewidth=2)
        panel.axvline(0.5, color=GREY, linewidth=1)
        panel.set_title(f"{arm} · {model} (n = {len(drawn)} permutations)", fontsize=9, loc="left", color=INK)
        panel.set_ylabel("permutations", fontsize=8)
        panel.tick_params(labelsize=8)
        bare(panel)
    panels[-1].set_xlabel("mean of fold AUCs on permuted labels; line: on the labels as they are", fontsize=8)
    figure.legend(loc="outside upper left", ncols=len(protocols), fontsize=8, frameon=False)
    return data_uri(figure)


def curve_figure(selection: pandas.DataFrame) -> str | None:
    """Left, components selected at each p and how many by chance; right, the AUC of linear models; None without a selection."""
    if selection.empty:
        return None
    keys = list(dict.fromkeys(zip(selection["protocol"], selection["arm"], selection["model"], strict=True)))
    figure = blank(7.6, 3.0)
    left, right = figure.subplots(1, 2)
    levels = np.unique(selection["p"].to_numpy(np.float64))
    step = float(np.diff(levels).min()) if len(levels) > 1 else 0.1
    for index, key in enumerate(keys):
        chosen = np.all(
            [selection[name] == value for name, value in zip(("protocol", "arm", "model"), key, strict=True)], axis=0
        )
        rows = selection[chosen].sort_values("p")
        places = rows["p"] + (index - (len(keys) - 1) / 2) * step / (2 + len(keys))
        style = {"color": COLOURS[index % len(COLOURS)], "marker": "o", "markersize": 4, "linewidth": 1.4}
        count, auc = (rows[name].to_numpy(np.float64) for name in ("n_selected", "auc"))
        spans = np.abs(rows[["least_selected", "most_selected"]].to_numpy(np.float64).T - count)
        left.errorbar(places, count, yerr=spans, label=f"{key[0]}, {key[1]} · {key[2]}", **style)
        right.errorbar(places, auc, yerr=np.abs(rows[["low", "high"]].to_numpy(np.float64).T - auc), **style)
        left.plot(rows["p"], rows["expected_by_chance"], color=INK, linestyle="--", linewidth=1)
    right.axhline(0.5, color=GREY, linewidth=1)
    right.set_ylim(-0.02, 1.02)
    left.set_ylim(bottom=0)
    left.set_ylabel("components selected (dashed: by chance)", fontsize=8)
    right.set_ylabel("mean of fold AUCs", fontsize=8)
    for panel in (left, right):
        panel.set_xticks(levels, [f"{level:g}" for level in levels])
        panel.set_xlabel("p below which a component is selected", fontsize=8)
        panel.tick_params(labelsize=8)
        bare(panel)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return data_uri(figure)


def calibration_figure(reliability: pandas.DataFrame, decision: pandas.DataFrame) -> str:
    """Left, share of responders against the mean score in bins; right, net benefit by threshold; clean protocol alone."""
    figure = blank(7.6, 3.3)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    chosen = reliability[(reliability["protocol"] == CLEAN) & (reliability["arm"] != BASELINE)]
    for number, ((arm, model), rows) in enumerate(chosen.groupby(["arm", "model"], sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        spans = np.abs(rows[["low", "high"]].to_numpy().T - rows["observed"].to_numpy())
        style = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.2}
        left.errorbar(rows["mean_score"], rows["observed"], yerr=spans, label=f"{model} on {arm}", **style)
        curve = decision[(decision["protocol"] == CLEAN) & (decision["arm"] == arm) & (decision["model"] == model)]
        right.plot(curve["threshold"], curve["net_benefit"], color=colour, linewidth=1.6)
    if len(decision):
        one = decision.drop_duplicates("threshold")
        right.plot(one["threshold"], one["treat_all"], color=GREY, linewidth=1, linestyle="--")
        top = float(one["treat_all"].max())
        right.set_ylim(-0.15 * top - 0.05, 1.15 * top + 0.02)
    right.axhline(0, color=GREY, linewidth=1)
    left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    left.set_xlabel("mean score of the bin", fontsize=8)
    left.set_ylabel("share of responders", fontsize=8)
    right.set_xlabel("threshold of the score", fontsize=8)
    right.set_ylabel("net benefit (dashed: treat all)", fontsize=8)
    for panel in (left, right):
        panel.tick_params(labelsize=8)
        bare(panel)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return data_uri(figure)
