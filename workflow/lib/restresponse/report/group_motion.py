"""In words: whether responders and non-responders moved differently, and what a difference would mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

LEAD = "mean_framewise_displacement"
_WORDS = {  # measure -> words, unit, digits
    "mean_framewise_displacement": ("mean framewise displacement", " mm", 3),
    "maximum_framewise_displacement": ("greatest framewise displacement", " mm", 2),
    "n_outliers": ("outlier volumes a scan", "", 1),
    "dof_residual": ("residual degrees of freedom a scan", "", 1),
}


def motion_sentences(table: pandas.DataFrame, confidence: float) -> list[str]:
    """The verdict on `metrics/motion.tsv`: the mean framewise displacement first, then the other measures.

    A measure differs where Welch's or Mann-Whitney's p is below 1 - `confidence`.
    """
    rows = {row["measure"]: row for row in table.to_dict("records")}
    lead, level = rows[LEAD], 1 - confidence
    sizes = f"{int(lead['n_responders'])} responders and {int(lead['n_nonresponders'])} non-responders"
    if not np.isfinite(lead["p_welch"]):
        text = [_untested(lead, sizes)]
    elif _differs(lead, level):
        text = [
            f"Motion differs between the groups: {_difference(lead, confidence)}. A classifier could use it: the mean "
            f"framewise displacement alone tells them apart with an AUC of {max(lead['auc'], 1 - lead['auc']):.2f}, so what is "
            "predicted from the images may be motion and not the response."
        ]
    else:
        bound = _value(LEAD, max(abs(lead["low"]), abs(lead["high"])))
        text = [
            f"No difference in motion of more than {bound} was seen between the groups: {_difference(lead, confidence)}. "
            f"With {sizes}, a difference of {_value(LEAD, lead['detectable'])} would have been detected with a probability of "
            "0.8; smaller ones may be there, and a classifier could use them."
        ]
    text += _unknown(lead)
    others = [row for name, row in rows.items() if name != LEAD and _differs(row, level)]
    if others:
        text.append("They differ in " + ", and in ".join(_difference(row, confidence) for row in others) + ".")
    elif np.isfinite(lead["p_welch"]):
        text.append(
            "Nor was a difference seen in the other measures."
            if not _differs(lead, level)
            else "The other measures were not told apart."
        )
    return text


def motion_warning(table: pandas.DataFrame, confidence: float) -> list[str]:
    """For the summary: the sentences, where any measure differs; none otherwise."""
    differs = any(_differs(row, 1 - confidence) for row in table.to_dict("records"))
    return motion_sentences(table, confidence) if differs else []


def motion_rows(table: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows of the report's table, numbers as text with the digits of their measure."""
    rows = []
    for row in table.to_dict("records"):
        name = row["measure"]
        words, unit, _ = _WORDS[name]
        interval = (
            f" [{_value(name, row['low'], '', '+')}, {_value(name, row['high'], '', '+')}]"
            if np.isfinite(row["low"])
            else ""
        )
        rows.append(
            {
                "words": f"{words} ({unit.strip()})" if unit else words,
                "responders": _mean_and_deviation(name, row, "responders"),
                "nonresponders": _mean_and_deviation(name, row, "nonresponders"),
                "difference": _value(name, row["difference"], "", "+") + interval,
                "p_welch": row["p_welch"],
                "p_mannwhitney": row["p_mannwhitney"],
                "auc": row["auc"],
                "detectable": _value(name, row["detectable"], ""),
            }
        )
    return rows


def _differs(row: Mapping[str, Any], level: float) -> bool:
    return any(np.isfinite(row[name]) and row[name] < level for name in ("p_welch", "p_mannwhitney"))


def _difference(row: Mapping[str, Any], confidence: float) -> str:
    name = row["measure"]
    words = _WORDS[name][0]
    interval = ""
    if np.isfinite(row["low"]):
        interval = (
            f", {confidence:.0%} interval {_value(name, row['low'], '', '+')} to {_value(name, row['high'], '', '+')}"
        )
    tests = [
        f"{test} p {_p(row[key])}"
        for test, key in (("Welch", "p_welch"), ("Mann-Whitney", "p_mannwhitney"))
        if np.isfinite(row[key])
    ]
    return (
        f"{words} {_value(name, row['mean_responders'])} in responders and {_value(name, row['mean_nonresponders'])} in "
        f"non-responders (difference {_value(name, row['difference'], '', '+')}{interval}; {', '.join(tests)})"
    )


def _untested(row: Mapping[str, Any], sizes: str) -> str:
    if row["n_responders"] + row["n_nonresponders"] == 0 < row["all_responders"] + row["all_nonresponders"]:
        return (
            f"Head motion is not known of any scan of the {_everyone(row)}: whether the groups moved differently cannot be "
            "tested. A classifier could use a difference all the same."
        )
    if min(row["n_responders"], row["n_nonresponders"]) < 2:
        known = " whose head motion is known" if _unknown(row) else ""
        return (
            f"Whether motion differs between the groups cannot be tested with {sizes}{known}: each group needs two at least. A "
            "classifier could use a difference all the same."
        )
    return f"Motion was the same in all of the {sizes}: there is nothing to test."


def _unknown(row: Mapping[str, Any]) -> list[str]:
    """Of how many participants head motion is known, where it is known of some and not of all."""
    known, everyone = row["n_responders"] + row["n_nonresponders"], row["all_responders"] + row["all_nonresponders"]
    if known in (0, everyone):
        return []
    return [
        f"Head motion is known of {int(row['n_responders'])} of {int(row['all_responders'])} responders and "
        f"{int(row['n_nonresponders'])} of {int(row['all_nonresponders'])} non-responders; the numbers of it are of those alone."
    ]


def _everyone(row: Mapping[str, Any]) -> str:
    return f"{int(row['all_responders'])} responders and {int(row['all_nonresponders'])} non-responders"


def _mean_and_deviation(name: str, row: Mapping[str, Any], group: str) -> str:
    if not np.isfinite(row[f"mean_{group}"]):
        return "n/a"
    text = _value(name, row[f"mean_{group}"], "")
    return f"{text} ± {_value(name, row[f'sd_{group}'], '')}" if np.isfinite(row[f"sd_{group}"]) else text


def _value(name: str, value: float, unit: str | None = None, sign: str = "") -> str:
    _, own, digits = _WORDS[name]
    rounded = round(value, digits) + 0.0 if np.isfinite(value) else value  # never -0
    return f"{rounded:{sign}.{digits}f}{own if unit is None else unit}" if np.isfinite(value) else "n/a"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
