"""Which way a scan's susceptibility distortion is corrected: by field map, by registration to the T1w, with motion, or not at all.

Every engine is asked in the same words; what was done, or why nothing was, is in the engine's steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restresponse.engines import Distortion, Engine, EngineFailure, PhaseEncoding, Realignment
from restresponse.errors import InputError
from restresponse.functional.fieldmaps import prepare_field

_MISSING = (None, "n/a")


def phase_encoding(direction: str | None, readout: float | str | None) -> PhaseEncoding | None:
    """BIDS PhaseEncodingDirection and total readout time in s as `PhaseEncoding`; None where the direction is not known."""
    if direction in _MISSING:
        return None
    return PhaseEncoding(
        "ijk".index(direction[0]), -1 if direction.endswith("-") else 1, None if readout in _MISSING else float(readout)
    )


def read_field_map(cell: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """The scans table's cell `fieldmap`, or what it holds."""
    if cell in _MISSING:
        return None
    return json.loads(cell) if isinstance(cell, str) else dict(cell)


def files_of(field_map: Mapping[str, Any] | None) -> list[str]:
    """Paths of the images of a field map."""
    return [] if field_map is None else list(field_map["files"].values())


def unwarped(
    works: Engine,
    bold: Path,
    realignment: Realignment,
    t1w: Path,
    brain_mask: Path,
    phase: PhaseEncoding | None,
    wish: str,
    field_map: Mapping[str, Any] | None,
) -> tuple[Distortion | None, Path, Path]:
    """Correct the distortion as wished or, with `auto`, as well as can be; then mask and coregister the reference.

    Parameters
    ----------
    works : engine
    bold : series before realignment
    phase : None where the phase-encoding axis is not known
    wish : `auto`: by field map, else by registration, else with motion, as far as engine and images allow; or one of them alone,
        `fieldmap`, `registration`, `motion`; or `none`
    field_map : see `functional.fieldmaps`; None where there is none

    Returns
    -------
    distortion : None where it is not corrected
    mask : of the brain, on the grid of the reference: the undistorted one, where there is a distortion
    coregistration : of that reference

    Raises
    ------
    EngineFailure
        The field map cannot be used and nothing else is allowed.
    """
    why = ["switched off"] if wish == "none" else []
    if wish != "none" and phase is None:
        why.append("the phase-encoding direction is not known")
    spent: list[dict[str, Any]] = []  # on what came to nothing
    if wish in ("auto", "fieldmap") and phase is not None:
        distortion, reason, spent = _by_field(works, bold, realignment, phase, field_map)
        if distortion is not None:
            return _undistorted(works, distortion, t1w, brain_mask)
        why.append(reason)
    if wish == "fieldmap":
        raise EngineFailure(
            f"functional.unwarp is fieldmap, but {'; '.join(why)}: correct that, or set functional.unwarp to auto"
        )
    start = len(works.steps)
    mask, coregistration = _registered(works, realignment.reference, t1w, brain_mask)
    first = works.steps[start:]
    del works.steps[start:]  # superseded where a distortion is found: the corrected reference is registered anew
    looked: list[dict[str, Any]] = []
    if wish in ("auto", "registration") and phase is not None:
        distortion = works.unwarp_by_registration(bold, realignment, mask, phase.axis, t1w, brain_mask, coregistration)
        if distortion is not None:
            works.charge(start, [*first, *spent])
            _say(works, start, why)
            return _undistorted(works, distortion, t1w, brain_mask)
        looked = works.steps[start:]  # the engine said why
        del works.steps[start:]
        if not looked:
            why.append(f"the engine {works.name} has no registration for it")
    if wish in ("auto", "motion") and phase is not None:
        distortion = works.unwarp_with_motion(bold, realignment, phase.axis)
        if distortion is not None:
            works.charge(start, [*first, *looked, *spent])
            if looked:
                works.steps[start]["parameters"]["registration"] = looked[0]["parameters"]
            _say(works, start, why)
            return distortion, *_registered(works, distortion.reference, t1w, brain_mask)
        if wish == "motion":
            why.append(f"the engine {works.name} cannot unwarp with motion alone")
    works.steps += looked
    if looked:
        _say(works, start, why)
    else:
        reason = "; ".join(why)
        works.add(
            "unwarping", "none", None, {"why": reason}, f"Susceptibility distortion was not corrected ({reason})."
        )
    works.charge(start, spent)
    works.steps += first
    return None, mask, coregistration


def _by_field(
    works: Engine,
    bold: Path,
    realignment: Realignment,
    phase: PhaseEncoding,
    field_map: Mapping[str, Any] | None,
) -> tuple[Distortion | None, str, list[dict[str, Any]]]:
    """The distortion by the field map, or the reason why there is none and the step that came to nothing."""
    if field_map is None:
        return None, "there is no field map for the scan", []
    if phase.readout is None:
        return None, "the total readout time is not known", []
    start, distortion = len(works.steps), None
    reason = f"the engine {works.name} does not correct by field maps"
    with works.step("field map", "none", None, {}, reason):  # for its time, which a failed step inside does not tell
        try:
            hertz = prepare_field(works, realignment.reference, phase, field_map)
            distortion = works.unwarp_by_field(bold, realignment, hertz, phase)
        except (EngineFailure, InputError) as error:
            reason = f"the field map could not be used ({error})"
    attempt = works.steps.pop()
    if distortion is None:
        del works.steps[start:]
        return None, reason, [attempt]
    return distortion, "", []


def _registered(works: Engine, reference: Path, t1w: Path, brain_mask: Path) -> tuple[Path, Path]:
    mask = works.functional_mask(reference)
    return mask, works.coregister(reference, mask, t1w, brain_mask)


def _undistorted(works: Engine, distortion: Distortion, t1w: Path, brain_mask: Path) -> tuple[Distortion, Path, Path]:
    mask = works.functional_mask(distortion.reference)
    return distortion, mask, works.coregister_undistorted(distortion.reference, mask, t1w, brain_mask)


def _say(works: Engine, step: int, why: list[str]) -> None:
    """Add to the record of a step why nothing better was done."""
    if why:
        works.steps[step]["parameters"]["no_field_map"] = "; ".join(why)
