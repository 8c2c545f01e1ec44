"""Which scans are used: each is held against fixed thresholds, never against the other scans; every reason is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restresponse.errors import InputError
from restresponse.files import read_json, write_table

SET_ASIDE = "set aside in the config (dataset.set_aside)"

# measure, threshold's key, whether the threshold is the greatest or the least allowed, words, unit
LIMITS = (
    ("mean_framewise_displacement", "maximum_mean_displacement", "above", "mean framewise displacement", " mm"),
    ("coverage", "minimum_coverage", "below", "share of the template's brain with signal", ""),
    ("overlap", "minimum_overlap", "below", "overlap (Dice) of its brain mask with the template's brain", ""),
    ("dof_residual", "minimum_dof", "below", "residual degrees of freedom", ""),
)


def limits_of(settings: Mapping[str, Any], minimum_dof: int) -> dict[str, Any]:
    """The config's section `quality` with a number for `minimum_dof`: its own, or else the one given."""
    return {**settings, "minimum_dof": minimum_dof if settings["minimum_dof"] is None else settings["minimum_dof"]}


def reasons_against(measures: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Why a scan is not used, one sentence a reason; none: it is used.

    Parameters
    ----------
    measures : mapping
        A scan's measures, as `quality.measures.measure_scan` writes them. One that nobody can know (`unknown`: images
        preprocessed elsewhere that came without head motion) is no reason; see `not_judged`.
    settings : mapping
        The config's section `quality`, `minimum_dof` a number. A threshold of None is no limit.
    """
    if measures["failed"]:
        return [" ".join(str(measures["failed"]).split())]
    reasons = []
    for measure, key, side, words, unit in LIMITS:
        limit, value = settings[key], measures.get(measure)
        if limit is None or (value is None and measure in measures.get("unknown", {})):
            continue
        if value is None:
            reasons.append(f"{words} could not be measured (quality.{key})")
        elif value > limit if side == "above" else value < limit:
            reasons.append(f"{words} {_shown(value)}{unit} is {side} {_shown(limit)}{unit} (quality.{key})")
    return reasons


def not_judged(measures: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Which limits could not be held against a scan, and why, one sentence each; arguments as in `reasons_against`."""
    unknown = {} if measures["failed"] else measures.get("unknown", {})
    return [
        f"{words} is not known ({unknown[measure]}) and was not judged (quality.{key})"
        for measure, key, _, words, _ in LIMITS
        if settings[key] is not None and measures.get(measure) is None and measure in unknown
    ]


def decide_inclusion(
    measures: Iterable[str | Path],
    inclusion: str | Path,
    *,
    settings: Mapping[str, Any],
    minimum_dof: int,
    set_aside: Iterable[tuple[str, str]] = (),
) -> None:
    """Write the inclusion table: scan, participant_id, included, reason.

    Parameters
    ----------
    measures : JSON files of `measure_scan`, one a scan
    inclusion : TSV to write, sorted by scan; several reasons are joined by "; ". The reason of a scan that is included says
        which limit could not be held against it
    settings : the config's section `quality`
    minimum_dof : least residual degrees of freedom, used where `settings["minimum_dof"]` is None
    set_aside : (scan, participant) of scans that the config sets aside, which were never read
    """
    import pandas as pd

    limits = limits_of(settings, minimum_dof)
    rows = [(scan, participant, False, SET_ASIDE) for scan, participant in set_aside]
    for path in measures:
        found = read_json(path)
        reasons = reasons_against(found, limits)
        said = [*reasons, *not_judged(found, limits)]
        rows.append((found["scan"], found["participant_id"], not reasons, "; ".join(said) or None))
    if len({row[0] for row in rows}) < len(rows):
        raise InputError("a scan was measured and is set aside too; expected one or the other: remove results/quality")
    write_table(inclusion, pd.DataFrame(sorted(rows), columns=["scan", "participant_id", "included", "reason"]))


def _shown(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.3g}"
