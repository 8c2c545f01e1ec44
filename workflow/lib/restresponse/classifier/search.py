"""A budgeted search of hyper-parameters with Optuna: it stops and resumes, and the settings of the config are its first trial.

A trial is a setting of the grid. Its objective is least where it is best, and reports as it goes, so that a trial that
falls behind the median of those before it is pruned. Each trial's proposal depends on the seed and on the finished
trials alone: a search that was killed ends with the same result as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.errors import InputError

if TYPE_CHECKING:
    import optuna

Report = Callable[[int, float], None]
Objective = Callable[[dict[str, float], Report], tuple[float, dict[str, Any]]]
SPACE: dict[str, list[float]] = {  # the paper's ranges, but for its dropout of 1.0, which is a dead network
    "epsilon": [round(0.1 + 0.05 * step, 2) for step in range(19)],
    "learning_rate": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
    "dropout": [round(0.1 + 0.05 * step, 2) for step in range(18)],
    "epochs": [float(count) for count in range(10, 201)],
}
_FIRST_AT_RANDOM = 8  # finished trials before proposals follow what was found, and before any is pruned
_STUDY = "search"


class Pruned(Exception):
    """Raised by `Report` where the trial has fallen behind, and by an objective whose setting cannot be trained."""


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes
    ----------
    settings : the best finished trial's
    facts : what its objective gave beside its value
    trials : number, settings, value and state (`finished` or `pruned`) of each trial, in order
    n_grid : settings of the whole grid
    """

    settings: dict[str, float]
    facts: dict[str, Any]
    trials: list[dict[str, Any]]
    n_grid: int

    @property
    def record(self) -> dict[str, Any]:
        """The search for a sidecar: every trial, and how much of the grid they are."""
        return {
            "trials": self.trials,
            "n_grid": self.n_grid,
            "share": len({tuple(sorted(row["settings"].items())) for row in self.trials}) / self.n_grid,
        }


def can_be_made_again(model: Mapping[str, Any]) -> bool:
    """Whether a model's search, if it has one, comes out the same on the same data: trials that end by the clock do not."""
    return (model.get("search") or {}).get("minutes") is None


def check_budget(budget: Mapping[str, Any]) -> None:
    """Raise `InputError` for a budget that allows no trial or has no end."""
    trials, minutes = budget.get("trials"), budget.get("minutes")
    if trials is None and minutes is None:
        raise InputError(
            "a model's search has neither trials nor minutes; expected at least one, or it would never end: set "
            "search.trials, or search to null"
        )
    for name, value in (("trials", trials), ("minutes", minutes)):
        if value is not None and value <= 0:
            raise InputError(
                f"search.{name} of a model: found {value}; expected more than 0: a search with no budget chooses nothing; "
                "to take the config's hyper-parameters as they are, set search to null"
            )


def search(
    objective: Objective,
    space: Mapping[str, Sequence[float]],
    first: Mapping[str, float],
    *,
    budget: Mapping[str, Any],
    seed: int,
    identity: str,
    journal: str | Path | None,
) -> Search:
    """Find the setting of least objective within the budget.

    Parameters
    ----------
    objective : function of a setting and of `report` (give it a step and the value by then) -> value and facts (JSON)
    space : values of each hyper-parameter, ascending
    first : the setting tried first; a value that is not in the grid is added to it
    budget : `trials` (a count of finished or pruned ones) and `minutes` (of all trials, those before a kill too); either
        may be None. One trial is always run.
    seed : of the proposals
    identity : of everything that the objective depends on, not of the budget, which may be raised in between; a journal of
        another identity is begun anew
    journal : file that the search is kept in while it runs (lines of JSON); removed by the caller when all is written.
        None: in memory alone

    Raises
    ------
    InputError
        For a budget of nothing.
    """
    check_budget(budget)
    grid = {name: sorted({float(value) for value in [*values, first[name]]}) for name, values in space.items()}
    n_grid = math.prod(len(values) for values in grid.values())
    study = _opened(None if journal is None else Path(journal), identity)
    _requeue(study)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(_positions(first, grid))
    while not _is_over(study, budget, n_grid):
        _run_one(study, objective, grid, seed)
    return _result(study, grid, n_grid)


def exhaustive(name: str, candidates: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The record of a grid of one hyper-parameter that was tried whole; `candidates` have its value and `auc`."""
    trials = [
        {"number": number, "settings": {name: row[name]}, "value": 1 - row["auc"], "state": "finished"}
        for number, row in enumerate(candidates, start=1)
    ]
    return {"trials": trials, "n_grid": len(trials), "share": 1.0}


def identity_of(settings: Any, files: Sequence[str | Path]) -> str:
    """Digest of settings (JSON), code and files (by size and time): what a journal of other ones must not be taken for."""
    from restresponse.code import code_of

    stamps = [(str(path), found.st_size, found.st_mtime_ns) for path in files for found in [Path(path).stat()]]
    text = json.dumps([settings, code_of("classifier"), stamps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _opened(journal: Path | None, identity: str) -> optuna.Study:
    """The study of a journal, or a new one where there is none or it is of something else."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_FIRST_AT_RANDOM)
    if journal is None:
        return optuna.create_study(study_name=_STUDY, pruner=pruner)
    journal.parent.mkdir(parents=True, exist_ok=True)
    # One job writes a journal: a lock that is there was left by a kill, as was a last line without an end.
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if journal.is_file():
        content = journal.read_bytes()
        journal.write_bytes(content[: content.rfind(b"\n") + 1])

    def study() -> optuna.Study:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(storage=storage, study_name=_STUDY, pruner=pruner, load_if_exists=True)

    found = study()
    if found.user_attrs.get("identity", identity) != identity:
        journal.unlink()
        found = study()
    found.set_user_attr("identity", identity)
    return found


def _requeue(study: optuna.Study) -> None:
    """Queue again the trial that was running when the job was killed."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
        elif fixed := trial.system_attrs.get("fixed_params"):
            study.enqueue_trial(fixed)


def _run_one(study: optuna.Study, objective: Objective, grid: Mapping[str, list[float]], seed: int) -> None:
    import optuna
    from optuna.trial import TrialState

    done = _done(study)
    # A sampler of its own for each trial: what it proposes does not depend on how often the job was started.
    study.sampler = optuna.samplers.TPESampler(
        seed=int(np.random.SeedSequence([seed, len(done)]).generate_state(1)[0]), n_startup_trials=_FIRST_AT_RANDOM
    )
    trial = study.ask()
    positions = {name: trial.suggest_int(name, 0, len(values) - 1) for name, values in grid.items()}
    tried = {tuple(one.params[name] for name in grid) for one in done}
    if tuple(positions.values()) in tried:
        study.tell(trial, state=TrialState.FAIL)
        study.enqueue_trial(_untried(tried, grid, np.random.default_rng([seed, len(done), 1])))
        return

    def report(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned

    try:
        value, facts = objective({name: grid[name][position] for name, position in positions.items()}, report)
    except Pruned:
        study.tell(trial, state=TrialState.PRUNED)
        return
    trial.set_user_attr("facts", facts)
    study.tell(trial, value)


def _untried(
    tried: set[tuple[int, ...]], grid: Mapping[str, list[float]], generator: np.random.Generator
) -> dict[str, int]:
    """A setting at random among those not tried yet."""
    sizes = [len(values) for values in grid.values()]
    free = math.prod(sizes) - len(tried)
    flat = {int(np.ravel_multi_index(positions, sizes)) for positions in tried}
    rank = int(generator.integers(free))
    for number in sorted(flat):
        rank += number <= rank
    return dict(zip(grid, map(int, np.unravel_index(rank, sizes)), strict=True))


def _positions(setting: Mapping[str, float], grid: Mapping[str, list[float]]) -> dict[str, int]:
    return {name: values.index(float(setting[name])) for name, values in grid.items()}


def _done(study: optuna.Study) -> list[Any]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _is_over(study: optuna.Study, budget: Mapping[str, Any], n_grid: int) -> bool:
    done = _done(study)
    if not done:
        return False
    minutes = sum(trial.duration.total_seconds() for trial in done) / 60
    limits = [(len(done), budget.get("trials")), (minutes, budget.get("minutes")), (len(done), n_grid)]
    return any(limit is not None and found >= limit for found, limit in limits)


def _result(study: optuna.Study, grid: Mapping[str, list[float]], n_grid: int) -> Search:
    from optuna.trial import TrialState

    rows, best = [], None
    for trial in _done(study):
        finished = trial.state == TrialState.COMPLETE
        setting = {name: grid[name][trial.params[name]] for name in grid}
        state = "finished" if finished else "pruned"
        rows.append({"settings": setting, "value": trial.value if finished else None, "state": state})
        if finished and (best is None or round(trial.value, 12) < round(best.value, 12)):
            best = trial
    if best is None:
        raise InputError(
            f"none of the {len(rows)} settings that the search tried could be trained; expected one at least: look at the "
            "data, or raise search.trials of the model"
        )
    rows = [{"number": number, **row} for number, row in enumerate(rows, start=1)]
    return Search(
        {name: grid[name][best.params[name]] for name in grid}, dict(best.user_attrs.get("facts") or {}), rows, n_grid
    )
