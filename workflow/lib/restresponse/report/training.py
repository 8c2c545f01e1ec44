"""What was trained, for the report: sizes and choices of each model, and the participants whom an arm left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from restresponse.identifiers import Identifiers


def training_rows(models: Mapping[tuple[str, str, str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a (protocol, arm, model): its size and what was chosen in its folds."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for key, facts in models.items():
        groups.setdefault(key[:3], []).append(facts)
    rows = []
    for (protocol, arm, model), folds_facts in groups.items():
        chosen = [facts.get("chosen") or {} for facts in folds_facts]
        losses = [(facts.get("training_loss_first"), facts.get("training_loss_last")) for facts in folds_facts]
        channels = sorted({facts["n_channels"] for facts in folds_facts if facts.get("n_channels") is not None})
        rows.append(
            {
                "protocol": protocol,
                "arm": arm,
                "model": model,
                "parameters": max(
                    (facts["n_parameters"] for facts in folds_facts if facts.get("n_parameters")), default=None
                ),
                "channels": ", ".join(map(str, channels)) or None,
                "epochs": ", ".join(str(row["epoch"]) for row in chosen if row.get("epoch") is not None) or None,
                "penalties": ", ".join(f"{row['penalty']:g}" for row in chosen if row.get("penalty") is not None)
                or None,
                "loss_fell": f"{sum(last < first for first, last in losses)} of {len(losses)}"
                if all(value is not None for pair in losses for value in pair)
                else None,
            }
        )
    return rows


def left_out_rows(
    models: Mapping[tuple[str, str, str, str], Mapping[str, Any]], identifiers: Identifiers
) -> list[dict[str, str]]:
    """Participants whom an arm had to leave out, and why; counted by reason where they are not named."""
    found = {
        (key[1], entry["participant_id"], entry["reason"]): None
        for key, facts in models.items()
        for entry in facts.get("left_out") or []
        if isinstance(entry, dict)
    }
    if identifiers.shown:
        return [dict(zip(("arm", "participant", "reason"), row, strict=True)) for row in sorted(found)]
    counts = Counter((arm, identifiers.without(reason)) for arm, _, reason in found)
    return [
        {"arm": arm, "participant": f"{count} participant{'s' if count > 1 else ''}", "reason": reason}
        for (arm, reason), count in sorted(counts.items())
    ]
