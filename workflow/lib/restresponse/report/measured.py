"""The percent fall of pain in the report: sentences, rows and one figure; responders at each threshold beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.report.figures import COLOURS, GREY, INK, bare, blank, data_uri

if TYPE_CHECKING:
    import pandas

_WORDS = {
    "spearman": "Spearman's correlation",
    "r2": "R², out of fold",
    "mae": "mean absolute error (percentage points)",
}


def shown(table: Callable[[str], pandas.DataFrame], continuous: bool, confidence: float) -> dict[str, Any]:
    """Everything the template shows of it; `table` reads a table of the results folder."""
    change, sweep, pairs = (table(f"metrics/{name}.tsv") for name in ("change", "thresholds", "change_predictions"))
    return {
        "sentences": change_sentences(change, continuous, confidence),
        "rows": change_rows(change),
        "sweep": sweep.replace({np.nan: None}).to_dict("records"),
        "figure": change_figure(pairs, sweep),
    }


def change_sentences(change: pandas.DataFrame, continuous: bool, confidence: float) -> list[str]:
    """What the best model reaches beside its null, or why there is nothing to say."""
    if change.empty:
        why = (
            "no participant's percent fall of pain is known, or too few to learn from, or no arm of maps goes to a linear model"
            if continuous
            else "metrics.continuous is false"
        )
        return [f"The percent fall of pain was not predicted: {why}."]
    part = change[change["metric"] == "spearman"]
    best = part.loc[part["value"].fillna(-np.inf).idxmax()]
    text = (
        f"{best['model']} on {best['arm']} orders the participants' percent fall of pain with a Spearman correlation of "
        f"{best['value']:.2f} ({confidence:.0%} interval {best['low']:.2f} to {best['high']:.2f})"
    )
    if best["n_permutations"] and np.isfinite(best["p"]):
        text += f"; on permuted outcomes it is {best['null_mean']:.2f} ± {best['null_sd']:.2f}, p = {best['p']:.3f}"
        if len(part) > 1:
            text += f", and {best['p_maxt']:.3f} after counting that it is the best of {len(part)}"
    return [text + "."]


def change_rows(change: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table with each measure in words."""
    rows = change.replace({np.nan: None}).to_dict("records")
    return [row | {"words": _WORDS[row["metric"]]} for row in rows]


def change_figure(pairs: pandas.DataFrame, sweep: pandas.DataFrame) -> str | None:
    """Left, predicted against known fall of pain; right, AUC of responders at each threshold. None with nothing to show."""
    scored = sweep[sweep["auc"].notna()]
    if pairs.empty and scored.empty:
        return None
    names = list(
        dict.fromkeys(
            [*zip(pairs["arm"], pairs["model"], strict=True), *zip(sweep["arm"], sweep["model"], strict=True)]
        )
    )
    figure = blank(7.6, 3.4)
    left, right = figure.subplots(1, 2)
    for number, (arm, model) in enumerate(names):
        colour, label = COLOURS[number % len(COLOURS)], f"{model} on {arm}"
        own = pairs[(pairs["arm"] == arm) & (pairs["model"] == model)]
        mean = own.groupby("participant_id")[["pain_change", "predicted"]].mean()
        left.scatter(mean["pain_change"], mean["predicted"], s=18, color=colour, alpha=0.75, linewidths=0, label=label)
        rows = scored[(scored["arm"] == arm) & (scored["model"] == model)]
        places = rows["threshold"].to_numpy(float) + 1.2 * (number - (len(names) - 1) / 2)
        spans = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["auc"].to_numpy(float))
        right.errorbar(places, rows["auc"], yerr=spans, fmt="o", color=colour, markersize=5, linewidth=1.4, capsize=2)
    if len(pairs):
        ends = [float(pairs["pain_change"].min()), float(pairs["pain_change"].max())]
        left.plot(ends, ends, color=GREY, linewidth=1)
    left.set_xlabel("percent fall of pain", fontsize=8)
    left.set_ylabel("predicted from the scan", fontsize=8)
    left.set_title(f"n = {pairs['participant_id'].nunique()}", fontsize=9, loc="left", color=INK)
    right.axhline(0.5, color=GREY, linewidth=1)
    known = sorted(set(sweep["threshold"]))
    counts = {row.threshold: f"{row.threshold:g} %\n{row.responders} + {row.others}" for row in sweep.itertuples()}
    right.set_xticks(known, [counts[threshold] for threshold in known], fontsize=8)
    for threshold in sorted(set(sweep["threshold"]) - set(scored["threshold"])):
        right.text(threshold, 0.52, "too few", ha="center", fontsize=8, color=GREY)
    right.set(ylim=(0, 1.02))
    if known:
        right.set_xlim(min(known) - 8, max(known) + 8)
    right.set_xlabel("fall that makes a responder (responders + others)", fontsize=8)
    right.set_ylabel("clean AUC, mean of folds", fontsize=8)
    for panel in (left, right):
        panel.tick_params(labelsize=8)
        bare(panel)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return data_uri(figure)
