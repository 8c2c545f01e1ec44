"""What a fold keeps on disk while its networks are trained, so that a job that was killed ends with the same result.

Each training keeps weights, optimiser, random states, losses and the best epoch's weights in one `.npz` (no pickle), and a
finished inner training what it came to in one `.json`. All is removed when the fold is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.files import read_json, write_json, writing

if TYPE_CHECKING:
    import keras

EVERY = 60.0  # s between two savings of one training: what a kill costs at most, beside the epoch it was in


@dataclass
class Progress:
    """How far a training is: losses of its epochs, and the weights of the best one where participants are watched."""

    losses: list[float] = field(default_factory=list)
    watched_losses: list[float] = field(default_factory=list)
    best_weights: list[np.ndarray] | None = None


class Checkpoints:
    """The checkpoints of one fold.

    Parameters
    ----------
    folder : where they are kept
    identity : of everything that all trainings of the fold depend on; what was kept under another one is not used
    """

    def __init__(self, folder: str | Path, identity: str) -> None:
        self.folder, self._identity = Path(folder), identity
        self._started, self._before = time.perf_counter(), 0.0

    def of(self, name: str, depends: Sequence[Any]) -> Kept:
        """What is kept of the training `name`, which depends on `depends` (JSON) too."""
        import keras

        versions = [keras.backend.backend(), keras.__version__]
        text = json.dumps([self._identity, name, depends, versions], sort_keys=True, default=float)
        return Kept(self, name, hashlib.sha256(text.encode()).hexdigest())

    @property
    def seconds(self) -> float:
        """Time of this fold until now, before a kill too."""
        return self._before + time.perf_counter() - self._started

    def resumed(self, seconds: float) -> None:
        """Count what was spent before a kill: the latest of what the files say."""
        self._before = max(self._before, seconds)

    def remove(self) -> None:
        """Remove everything: the fold is whole."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Kept:
    """One training on disk; made by `Checkpoints.of`."""

    def __init__(self, fold: Checkpoints, name: str, identity: str) -> None:
        self._fold, self._identity = fold, identity
        self._state, self._result = fold.folder / f"{name}.npz", fold.folder / f"{name}.json"
        self._saved = time.monotonic()

    def finished(self) -> dict[str, Any] | None:
        """What the training came to, if it ended before the job was killed."""
        if not self._result.is_file():
            return None
        found = read_json(self._result)
        if found["identity"] != self._identity:
            return None
        self._fold.resumed(found["seconds"])
        return found["result"]

    def finish(self, result: dict[str, Any]) -> None:
        """Keep what the training came to (JSON) in place of its state."""
        write_json(self._result, {"identity": self._identity, "seconds": self._fold.seconds, "result": result})
        self._state.unlink(missing_ok=True)

    def restore(self, model: keras.Model, generator: np.random.Generator) -> Progress:
        """Bring network, optimiser and generator to the state that was kept; none, another's or a damaged one: the beginning."""
        model.optimizer.build(model.trainable_variables)
        try:
            with np.load(self._state, allow_pickle=False) as file:
                facts = json.loads(file["facts"].tobytes())
                if facts["identity"] != self._identity:
                    return Progress()
                state = [file[f"state_{index}"] for index in range(facts["n_state"])]
                best = [file[f"best_{index}"] for index in range(facts["n_best"])] or None
                drawn = {name: file[f"random_{name}"] for name in facts["random"]}
        except FileNotFoundError:
            return Progress()
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            print(f"{self._state} is damaged ({error}); this training begins anew")
            return Progress()
        for variable, value in zip(_variables(model), state, strict=True):
            variable.assign(value)
        generator.bit_generator.state = facts["generator"]
        _set_random_state(drawn)
        self._fold.resumed(facts["seconds"])
        print(f"training goes on after epoch {len(facts['losses'])}, from {self._state}")
        return Progress(facts["losses"], facts["watched_losses"], best)

    def save(self, model: keras.Model, generator: np.random.Generator, progress: Progress) -> None:
        """Keep the state at the end of an epoch, unless it was kept less than `EVERY` s ago."""
        from keras import ops

        if time.monotonic() - self._saved < EVERY:
            return
        state = [ops.convert_to_numpy(variable) for variable in _variables(model)]
        best = progress.best_weights or []
        drawn = _random_state()
        facts = {
            "identity": self._identity,
            "n_state": len(state),
            "n_best": len(best),
            "losses": progress.losses,
            "watched_losses": progress.watched_losses,
            "generator": generator.bit_generator.state,
            "random": list(drawn),
            "seconds": self._fold.seconds,
        }
        arrays = {f"state_{index}": value for index, value in enumerate(state)}
        arrays |= {f"best_{index}": value for index, value in enumerate(best)}
        arrays |= {f"random_{name}": value for name, value in drawn.items()}
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with writing(self._state) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        self._saved = time.monotonic()


def _random_state() -> dict[str, np.ndarray]:
    """The random numbers that are in no variable: PyTorch's dropout draws from those of the device."""
    import keras

    if keras.backend.backend() != "torch":
        return {}
    import torch

    found = {"processor": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_rng_state().numpy()
    return found


def _set_random_state(found: dict[str, np.ndarray]) -> None:
    if not found:
        return
    import torch

    torch.set_rng_state(torch.from_numpy(found["processor"]))
    if "gpu" in found:
        torch.cuda.set_rng_state(torch.from_numpy(found["gpu"]))


def _variables(model: keras.Model) -> list[Any]:
    """All that training changes: weights, moving averages, the state of dropout's random numbers, and the optimiser's."""
    return [*model.variables, *model.optimizer.variables]
