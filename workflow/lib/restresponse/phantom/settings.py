"""What a cohort is asked to be, and which requests cannot be met."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from restresponse.errors import InputError

VERSION = 1  # of the images a given set of arguments makes; raised when they change
EFFECT_SIGNS = {"DefaultMode": 1, "SensoriMotor": -1}  # networks with the effect: +1 stronger in responders, -1 weaker
FIELD_MAPS = ("none", "phasediff", "epi")
RESPONSE_THRESHOLD = 30.0  # percent fall of pain that makes a responder


@dataclass(frozen=True)
class CohortSettings:
    """Arguments of the cohort: sizes and `distortion` in mm, times in s, `effect` as in the package's docstring, `motion` and `noise` as factors."""

    participants: int = 20
    responders: int = 13
    volumes: int = 160
    repetition_time: float = 2.6
    bold_voxel_size: tuple[float, float, float] = (4.0, 4.0, 4.0)
    t1w_voxel_size: float = 2.0
    effect: float = 0.5
    effect_on: str = "amplitude"
    motion: float = 1.0
    noise: float = 1.0
    distortion: float = 0.0
    field_map: str = "none"
    truth_voxel_size: float = 4.0
    seed: int = 2021

    def __post_init__(self) -> None:
        problems = [sentence for holds, sentence in self._demands() if not holds]
        if problems:
            raise InputError.from_problems("this cohort cannot be made", problems)

    def _demands(self) -> list[tuple[bool, str]]:
        return [
            (1 <= self.participants <= 999, f"--participants is {self.participants}; expected 1 to 999"),
            (
                0 <= self.responders <= self.participants,
                f"--responders is {self.responders} of {self.participants} participants; expected 0 to {self.participants}",
            ),
            (self.volumes >= 10, f"--volumes is {self.volumes}; expected at least 10"),
            (0.3 <= self.repetition_time <= 10, f"--repetition-time is {self.repetition_time} s; expected 0.3 to 10"),
            (
                len(self.bold_voxel_size) == 3 and all(1 <= size <= 12 for size in self.bold_voxel_size),
                f"--bold-voxel-size is {self.bold_voxel_size}; expected one or three numbers of 1 to 12 mm",
            ),
            (0.5 <= self.t1w_voxel_size <= 6, f"--t1w-voxel-size is {self.t1w_voxel_size} mm; expected 0.5 to 6"),
            (
                0 <= self.effect <= 5,
                f"--effect is {self.effect}; expected 0 (none) to 5: 0.5 makes the groups' ratio 1.5",
            ),
            (self.effect_on in ("amplitude", "map"), f"--effect-on is {self.effect_on!r}; expected amplitude or map"),
            (0 <= self.motion <= 10, f"--motion is {self.motion}; expected a factor of 0 (none) to 10"),
            (0 <= self.noise <= 20, f"--noise is {self.noise}; expected a factor of 0 (none) to 20"),
            (
                0 <= self.distortion <= 12,
                f"--distortion is {self.distortion} mm; expected 0 (none) to 12: the signal would fold over itself",
            ),
            (
                self.field_map in FIELD_MAPS,
                f"--field-map is {self.field_map!r}; expected one of {', '.join(FIELD_MAPS)}",
            ),
            (1 <= self.truth_voxel_size <= 12, f"--truth-voxel-size is {self.truth_voxel_size} mm; expected 1 to 12"),
            (self.seed >= 0, f"--seed is {self.seed}; expected 0 or more"),
        ]

    def record(self) -> dict[str, Any]:
        """The arguments as they are stored and compared; distortion and field map where they are asked for."""
        record = asdict(self)
        for key, none in (("distortion", 0), ("field_map", "none")):
            if record[key] == none:
                del record[key]
        sizes = [float(size) for size in np.ravel(self.bold_voxel_size)]
        return {"version": VERSION, **record, "bold_voxel_size": sizes}
