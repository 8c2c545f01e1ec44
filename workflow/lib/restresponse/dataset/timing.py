"""When a scan was acquired: the time between volumes and the time of each slice, checked against each other and the header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from restresponse.dataset.header import Header
from restresponse.dataset.problems import Problems

SHORTEST, LONGEST = 0.1, 100.0  # s between volumes beyond which the unit must be wrong
_SET_ASIDE = "or name the scan in dataset.set_aside"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def repetition_time(
    scan: str, sidecar: Mapping[str, Any], header: Header | None, problems: Problems, notes: list[str]
) -> float | None:
    """Repetition time of a scan in s, or None where a problem was added.

    The sidecar's counts. Where the header tells another time, more than 1 % apart is a note and more than 10 % a problem.
    """
    if "RepetitionTime" not in sidecar:
        problems.add(
            scan,
            f"no RepetitionTime in its sidecars; expected the time between volumes in s: add it (once for all, in a sidecar at the root), {_SET_ASIDE}",
        )
        return None
    tr = sidecar["RepetitionTime"]
    if not _is_number(tr) or tr <= 0:
        problems.add(
            scan, f"RepetitionTime is {tr!r}; expected a number of seconds above 0: correct the sidecar, {_SET_ASIDE}"
        )
        return None
    if not SHORTEST <= tr <= LONGEST:
        unit = "milliseconds" if tr > LONGEST else "another unit"
        problems.add(
            scan,
            f"RepetitionTime is {tr:g}, which looks like {unit}; expected {SHORTEST:g} to {LONGEST:g} s: correct the sidecar, {_SET_ASIDE}",
        )
        return None
    told = header.repetition_time if header else None
    if told is not None and abs(told - tr) > 0.1 * tr:
        problems.add(
            scan,
            f"RepetitionTime is {tr:g} s in the sidecar and {told:g} s in the image's header; expected the same: correct the one that is wrong, {_SET_ASIDE}",
        )
        return None
    if told is not None and abs(told - tr) > 0.01 * tr:
        notes.append(
            f"{scan}: RepetitionTime is {tr:g} s in the sidecar and {told:g} s in the header; the sidecar's is used"
        )
    return float(tr)


def slice_timing(
    scan: str,
    sidecar: Mapping[str, Any],
    header: Header,
    tr: float,
    configured: list[float] | None,
    problems: Problems,
    notes: list[str],
) -> tuple[list[float] | None, str]:
    """Time in s of each slice along the third axis, from index 0 up, and where it comes from (`sidecar`, `config` or `none`).

    Times given for slices along another axis cannot be corrected for and count as none.
    """
    times, source = sidecar.get("SliceTiming"), "sidecar"
    direction = sidecar.get("SliceEncodingDirection", "k")
    if times is None:
        times, source, direction = configured, "config", "k"
    if times is None:
        return None, "none"
    name, remedy = (
        ("SliceTiming", f"correct the sidecar, {_SET_ASIDE}")
        if source == "sidecar"
        else ("dataset.slice_timing", f"correct it, {_SET_ASIDE}")
    )
    if not isinstance(times, list) or not all(_is_number(time) for time in times):
        problems.add(scan, f"{name} is no list of numbers; expected one time in s a slice: {remedy}")
        return None, "none"
    if direction not in ("i", "i-", "j", "j-", "k", "k-"):
        problems.add(scan, f"SliceEncodingDirection is {direction!r}; expected i, i-, j, j-, k or k-: {remedy}")
        return None, "none"
    n_slices = header.shape["ijk".index(direction[0])]
    if len(times) != n_slices:
        problems.add(
            scan, f"{name} has {len(times)} times and the image {n_slices} slices; expected one time a slice: {remedy}"
        )
        return None, "none"
    if min(times) < 0 or max(times) > tr:
        unit = " (milliseconds?)" if max(times) > 10 * tr else ""
        problems.add(
            scan,
            f"{name} goes from {min(times):g} to {max(times):g}{unit}; expected times in s from 0 to the RepetitionTime, {tr:g} s: {remedy}",
        )
        return None, "none"
    if direction[0] != "k":
        notes.append(
            f"{scan}: its slices lie along axis {direction[0]}; slice timing is corrected along the third axis alone, so not in this scan"
        )
        return None, "none"
    return [float(time) for time in (reversed(times) if direction == "k-" else times)], source
