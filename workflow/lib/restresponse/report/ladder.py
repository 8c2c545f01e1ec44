"""The ladder in words: which leak, switched on alone in the clean protocol, makes the difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.ladder import LEAKS, WORDS, leak_of, number_of, rung
from restresponse.metrics.collect import CONSTANT

if TYPE_CHECKING:
    import pandas


def rungs_of(optimism: pandas.DataFrame) -> list[dict[str, Any]]:
    """The ladder of each arm and model: its name and the rows of `optimism.tsv` (mean of fold AUCs) by leak, L1 first.

    Empty where `metrics.ladder` is off. Protocols of the config that open leaks together are under `together`.
    """
    means = optimism[(optimism["scope"] == "mean") & (optimism["model"] != CONSTANT)]
    ladders = []
    for (arm, model), part in means.groupby(["arm", "model"], sort=False):
        rows = {row["protocol"]: row for row in part.astype(object).where(part.notna(), None).to_dict("records")}
        steps = {leak: rows[rung(leak)] for leak in LEAKS if rung(leak) in rows}
        if steps:
            together = [row for name, row in rows.items() if leak_of(name) is None and row["leaks"]]
            ladders.append({"arm": arm, "model": model, "rungs": steps, "together": together})
    return ladders


def ladder_sentences(optimism: pandas.DataFrame, confidence: float) -> list[str]:
    """One sentence or two for each arm and model, from the numbers; none where the ladder is off."""
    ladders = rungs_of(optimism)
    text = [_verdict(ladder, f"{confidence:.0%} interval") for ladder in ladders]
    if text:
        text.append(
            "A rung shows what its leak does alone; together leaks may do more or less than their sum. The intervals are not "
            "corrected for the number of rungs: with many, one lies beside 0 by luck."
        )
    return text


def _verdict(ladder: Mapping[str, Any], level: str) -> str:
    acting = {leak: row for leak, row in ladder["rungs"].items() if row["by_construction"] is None and _defined(row)}
    start = f"{ladder['model']} on {ladder['arm']}: "
    if not acting:
        return start + "no leak can act alone here."
    clear = sorted(
        (leak for leak in acting if acting[leak]["low"] > 0), key=lambda leak: acting[leak]["difference"], reverse=True
    )
    others = [leak for leak in acting if leak not in clear]
    if clear:
        text = start + f"what makes the difference is {_named(clear[0])}: alone it adds {_gap(acting[clear[0]], level)}"
        text += "".join(f"; {_named(leak)} adds {_gap(acting[leak])}" for leak in clear[1:]) + "."
    else:
        largest = max(acting, key=lambda leak: acting[leak]["difference"])
        text = start + (
            "no leak alone makes a difference that can be told from none at this size; the largest is that of "
            f"{_named(largest)}: {_gap(acting[largest], level)}."
        )
        others.remove(largest)
    lower = [leak for leak in others if acting[leak]["high"] < 0]
    unclear = [leak for leak in others if leak not in lower]
    if unclear:
        listed = "; ".join(f"{_named(leak)} {_gap(acting[leak])}" for leak in unclear)
        text += f" Not told apart from none: {listed}." if clear else f" The others: {listed}."
    if lower:
        text += f" Below clean, not above it: {'; '.join(f'{_named(leak)} {_gap(acting[leak])}' for leak in lower)}."
    for row in filter(_defined, ladder["together"]):
        text += f" Under {row['protocol']} ({', '.join(part.split()[0] for part in row['leaks'].split('; '))} together) the difference is {row['difference']:+.2f}."
    return text


def _named(leak: str) -> str:
    return f"{number_of(leak)} ({WORDS[leak]})"


def _gap(row: Mapping[str, Any], level: str = "") -> str:
    words = f"{level} " if level else ""
    return f"{row['difference']:+.2f} ({words}{row['low']:+.2f} to {row['high']:+.2f})"


def _defined(row: Mapping[str, Any]) -> bool:
    return all(row[key] is not None and np.isfinite(row[key]) for key in ("difference", "low", "high"))
