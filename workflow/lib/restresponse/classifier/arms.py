"""The channels of an arm for a network: of the fold's training, and of an inner fold, which may select components anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.classifier.fold import Fold
from restresponse.classifier.inputs import ClassifierGrid, check_channels, read_channels
from restresponse.classifier.selection import Selector, read_selection
from restresponse.dual_regression import read_time_courses, restriction, spatial_gram
from restresponse.errors import InputError
from restresponse.files import let_go, read_array, read_json


@dataclass
class ArmInput:
    """The arrays of one fold's participants, `(n_channels, n_voxels)` each, on the classifier's grid.

    Attributes
    ----------
    final : channels of the fold's training, by participant: training and test participants that have them
    selected : (k,) indices of the components that `final` has, where the arm selects
    left_out : participants without the arm's input, each with the reason
    """

    final: dict[str, np.ndarray]
    selected: np.ndarray | None = None
    left_out: list[dict[str, str]] = field(default_factory=list)
    _whole: dict[str, np.ndarray] = field(default_factory=dict)
    _selector: Selector | None = None
    _positions: dict[str, int] = field(default_factory=dict)
    _courses: dict[str, np.ndarray] = field(default_factory=dict)
    _gram: np.ndarray | None = None
    _normalise: bool = True

    def inner(
        self, inside: Sequence[str], outside: Sequence[str], response: Mapping[str, int]
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Channels of the participants of an inner fold and the components they are of.

        Where the arm selects by training labels, the selection is made by the labels of `inside` alone; where those are
        too few for the test, the fold's own holds.
        """
        names = [*inside, *outside]
        chosen = None
        if self._selector is not None:
            positions = np.array([self._positions[name] for name in inside])
            chosen = self._selector.on(positions, np.array([response[name] for name in inside]))
        if chosen is None:
            return {name: self.final[name] for name in names}, self.selected
        if self._gram is None:
            return {name: np.asarray(self._whole[name][chosen]) for name in names}, chosen
        refitted = {}
        for name in names:
            matrix = restriction(self._courses[name], self._gram, chosen, normalise=self._normalise)
            refitted[name] = (matrix.astype(np.float32) @ self._whole[name]).astype(np.float32)
        return refitted, chosen


def read_component_arm(
    arm: Mapping[str, Any],
    fold: Fold,
    target: ClassifierGrid,
    *,
    maps: Mapping[str, str | Path],
    normalise: bool,
    require_match: bool,
    selection: Sequence[str | Path] = (),
    amplitudes: Sequence[str | Path] = (),
    matches: Sequence[str | Path] = (),
    components: Sequence[str | Path] = (),
    time_courses: Mapping[str, str | Path] | None = None,
    all_maps: Mapping[str, str | Path] | None = None,
) -> ArmInput:
    """Read the maps of a fold's participants; the sequences have one path, or none where inner folds do not select.

    Parameters
    ----------
    arm : row of the config
    maps : by participant: the maps of all components, or those refitted on the selected ones (`maps: refit`)
    selection : the table of the fold's selected components
    amplitudes, matches : what inner folds select by
    components, time_courses, all_maps : what inner folds refit maps from
    """
    arrays = {name: _read_maps(maps[name], name, target) for name in (*fold.training, *fold.test)}
    if not arm.get("select"):
        return ArmInput(arrays)
    selected = read_selection(selection[0], arm["p"])
    refit = arm["maps"] == "refit"
    made = ArmInput(arrays if refit else {name: np.asarray(rows[selected]) for name, rows in arrays.items()}, selected)
    wrong = [name for name, rows in made.final.items() if len(rows) != len(selected)]
    if wrong:
        raise InputError(
            f"{maps[wrong[0]]} has {len(made.final[wrong[0]])} maps and {selection[0]} selects {len(selected)} components; "
            "expected as many: remove results/dual_regression and run again"
        )
    if amplitudes:
        made._selector = Selector.read(amplitudes[0], matches[0], fold.training, arm["p"], require_match)
        made._positions = {name: index for index, name in enumerate(fold.training)}
        if refit:
            made._whole = {name: _read_maps(all_maps[name], name, target) for name in fold.training}
            made._courses = {name: read_time_courses(time_courses[name]) for name in fold.training}
            made._gram, made._normalise = spatial_gram(read_array(components[0])), normalise
        else:
            made._whole = {name: arrays[name] for name in fold.training}
    return made


def read_volume_arm(
    n_volumes: int,
    fold: Fold,
    target: ClassifierGrid,
    *,
    volumes: Mapping[str, str | Path],
    records: Mapping[str, str | Path],
) -> ArmInput:
    """Read the first `n_volumes` volumes of each participant of the fold; those with fewer are left out."""
    made = ArmInput({})
    for name in (*fold.training, *fold.test):
        rows = read_array(volumes[name])
        if len(rows) < n_volumes:
            scan = read_json(records[name])["scan"]
            reason = f"{len(rows)} volumes; the arm takes {n_volumes}" if scan else "no included scan"
            made.left_out.append({"participant_id": name, "reason": reason})
            continue
        if rows.shape[1] != target.n_voxels:
            raise InputError(
                f"{volumes[name]} has {rows.shape[1]} voxels; expected {target.n_voxels}: remove it and run again"
            )
        check_channels(rows[:n_volumes], name, kind="volume")
        let_go(rows)
        made.final[name] = rows[:n_volumes]
    return made


def _read_maps(path: str | Path, participant: str, target: ClassifierGrid) -> np.ndarray:
    rows = read_channels(path, participant, target)
    if not len(rows):
        raise InputError(
            f"{participant} is in the fold and has no maps ({path}); expected maps of every included participant: "
            "remove results/folds and run again"
        )
    return rows
