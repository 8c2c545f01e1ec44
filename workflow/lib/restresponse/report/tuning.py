"""The search of hyper-parameters: how much of the grid was tried, and how often each value won over the folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def tuning_rows(models: Mapping[tuple[str, str, str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a (protocol, arm, model) whose hyper-parameters were chosen, by its sidecars of all folds.

    `tried` and `share` are those of the fold that tried fewest and of the one that tried most.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for key, facts in models.items():
        if facts.get("tuning"):
            groups.setdefault(key[:3], []).append(facts)
    rows = []
    for (protocol, arm, model), folds in groups.items():
        records = [facts["tuning"] for facts in folds]
        tried = [len(record["trials"]) for record in records]
        names = list(records[0]["trials"][0]["settings"])
        rows.append(
            {
                "protocol": protocol,
                "arm": arm,
                "model": model,
                "n_grid": records[0]["n_grid"],
                "tried": _range([f"{count:,}" for count in (min(tried), max(tried))]),
                "pruned": sum(trial["state"] == "pruned" for record in records for trial in record["trials"]),
                "share": _range([_share(value(record["share"] for record in records)) for value in (min, max)]),
                "won": [f"{name.replace('_', ' ')}: {_won(folds, name)}" for name in names],
                "first": f"{sum(_first_won(facts) for facts in folds)} of {len(folds)}" if len(names) > 1 else None,
            }
        )
    return rows


def _won(folds: Sequence[Mapping[str, Any]], name: str) -> str:
    counts = Counter(float(facts["chosen"][name]) for facts in folds)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{value:g} in {count}" for value, count in ordered)


def _first_won(facts: Mapping[str, Any]) -> bool:
    first = facts["tuning"]["trials"][0]["settings"]
    return all(float(facts["chosen"][name]) == value for name, value in first.items())


def _share(share: float) -> str:
    """A share of the grid: never rounded to none."""
    return "100 %" if share >= 1 else f"{100 * share:.2g} %"


def _range(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
