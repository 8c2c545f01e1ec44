"""The job of one fold for the percent fall of pain: predicted itself, and as responders at each of several thresholds.

Clean throughout: the job is given the outcomes of its fold's training participants and no other. Permutations of the
outcome within folds need no more than those, so that the null is made here too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.classifier.fold import Fold, peak_memory_mb
from restresponse.classifier.inner import seed_of
from restresponse.classifier.kernel_files import KernelFiles
from restresponse.classifier.linear import Split, choose_penalty, fit, inner_splits
from restresponse.classifier.measured import predict_measured
from restresponse.classifier.permuted import View
from restresponse.classifier.protocols import refits, selects
from restresponse.dataset.outcome import is_response
from restresponse.files import read_table, write_array, write_table
from restresponse.provenance import write_sidecar

CHANGE = "change"  # the target that is the percent fall of pain itself
FEWEST = 2  # of a class, in training: nothing could be selected or held out with fewer


def target_of(threshold: float) -> str:
    """Name of the target of responders at a threshold in percent."""
    return f"threshold-{threshold:g}"


def shuffles(seed: int, fold: str, n: int, numbers: Sequence[int]) -> np.ndarray:
    """For each permutation the order of a fold's `n` test participants, `(n_permutations, n)`; number 0 is none.

    The same in the jobs of all other folds, which train on them, and in `metrics`.
    """
    found = np.tile(np.arange(n), (len(numbers), 1))
    for row, number in zip(found, numbers, strict=True):
        if number:
            row[:] = np.random.default_rng(seed_of(seed, fold, f"outcome permutation {number}")).permutation(n)
    return found


def fit_measured(
    *,
    folds: str | Path,
    labels: str | Path,
    batches: Mapping[str, Sequence[str]],
    fold: str,
    models: Sequence[tuple[str, str]],
    arms: Mapping[str, Mapping[str, Any]],
    settings_of: Mapping[str, Mapping[str, Any]],
    thresholds: Sequence[float],
    n_permutations: int,
    seed: int,
    n_inner_folds: int,
    normalise: bool,
    require_match: bool,
    predictions: str | Path,
    permuted: str | Path,
    sidecar: str | Path,
    **files: Sequence[str | Path],
) -> None:
    """Write predictions of the fold's test participants under each target, and of the outcome under each permutation.

    Parameters
    ----------
    labels : table of participant_id, response and pain_change: training participants whose change is known
    models : (arm, model) of each linear model
    arms, settings_of : rows of the config by arm and by model
    thresholds : percent fall of pain that makes a responder
    n_permutations : of the outcome, within the folds of the first repeat; other repeats make none
    predictions : table to write: arm, model, target, participant_id, predicted
    permuted : array to write, (n_models, n_permutations, n_test) float64
    files : those of `KernelFiles`, of the fold's cohort; an arm reads those it needs
    """
    import pandas as pd

    started = time.perf_counter()
    known = Fold.read(fold, folds, labels)
    table = read_table(labels).set_index("participant_id")["pain_change"].astype(float)
    numbers = range(1, n_permutations + 1) if fold.split("_")[0] == "rep-1" else range(0)
    rows, null, chosen, sources = [], [], [], [folds, labels]
    for arm, model in models:
        own = arms[arm]
        needed = [
            "gram",
            "sums",
            "records",
            *("amplitudes", "matches") * selects(own),
            *("components", "all_maps") * refits(own),
        ]
        given = KernelFiles(**{name: files[name] for name in needed})
        kernels = given.read([fold], batches, p=own.get("p"), normalise=normalise, require_match=require_match)
        sources += [*kernels.sources, *kernels.time_courses]
        training, test = kernels.at(known.training), kernels.at(known.test)
        response, change = known.array(kernels.names), table.reindex(kernels.names).to_numpy()
        view = View(
            kernels.products[fold],
            training,
            test,
            kernels.selectors.get(fold),
            training,
            seed_of(seed, fold, "inner"),
        )
        penalties = settings_of[model]["penalties"]

        def keep(target: str, scores: np.ndarray, penalty: float, selected: np.ndarray | None) -> None:
            rows.extend((arm, model, target, *pair) for pair in zip(known.test, scores, strict=True))  # noqa: B023
            picked = None if selected is None else selected + 1
            chosen.append({"arm": arm, "model": model, "target": target, "penalty": penalty, "selected": picked})  # noqa: B023

        drawn = np.zeros((len(numbers), len(test)))
        if reason_against(response[training], change[training]) is None:
            order = _orders(known, kernels.at, fold, numbers, seed, len(kernels.names))
            found, strengths, selected = predict_measured(
                view, response[order], change[order], penalties, n_inner_folds
            )
            keep(CHANGE, found[0], float(strengths[0]), selected[0])
            drawn = found[1:]
        null.append(drawn)
        for threshold in thresholds:
            answers = responses_at(change, threshold)
            if min((answers[training] == 1).sum(), (answers[training] == 0).sum()) >= FEWEST:
                keep(target_of(threshold), *_classified(view, answers, penalties, n_inner_folds))
    write_table(predictions, pd.DataFrame(rows, columns=["arm", "model", "target", "participant_id", "predicted"]))
    write_array(permuted, np.stack(null))
    write_sidecar(
        sidecar,
        fitted_on=known.training,
        labels_of=known.response,
        applied_to=known.test,
        sources=list(dict.fromkeys(sources)),
        parameters={"fold": fold, "thresholds": list(thresholds), "n_permutations": len(numbers)},
        seed=seed,
        chosen=chosen,
        seconds=time.perf_counter() - started,
        peak_memory_mb=peak_memory_mb(),
    )


def reason_against(response: np.ndarray, change: np.ndarray) -> str | None:
    """Why the change of these training participants cannot be learned, in words; None where it can."""
    if len(change) < 2 * FEWEST:
        return f"the change is known of {len(change)} training participants alone"
    if np.ptp(change) == 0:
        return "everyone changed by the same"
    if min((response == 1).sum(), (response == 0).sum()) < FEWEST:
        return "fewer than two training participants of a class have a known change"
    return None


def responses_at(change: np.ndarray, threshold: float) -> np.ndarray:
    """1 where the fall of pain reaches the threshold, 0 where it does not, -1 where it is not known."""
    return np.array([int(is_response(value, threshold)) if np.isfinite(value) else -1 for value in change], int)


def _classified(
    view: View, answers: np.ndarray, penalties: Sequence[float], n_inner_folds: int
) -> tuple[np.ndarray, float, np.ndarray | None]:
    """Probabilities of the test participants by the clean linear procedure; the penalty and components it chose."""
    choose = None if view.selector is None else view.selector.on
    selected = None if choose is None else choose(view.training, answers[view.training])
    watched = inner_splits(
        view.products, view.training, answers, n_inner_folds, view.inner_seed, selected=selected, choose=choose
    )
    penalty, _ = choose_penalty(watched, answers, penalties)
    fitted = fit(Split(view.products, view.training, view.test, selected), answers, penalty)
    return fitted.scores[view.test], penalty, selected


def _orders(known: Fold, at: Any, fold: str, numbers: Sequence[int], seed: int, n: int) -> np.ndarray:
    """Whose outcome each participant is given, `(1 + n_permutations, n)`: the first row everyone's own."""
    order = np.tile(np.arange(n), (1 + len(numbers), 1))
    for other in sorted(name for name in known.tests if name.split("_")[0] == fold.split("_")[0] and name != fold):
        members = at([name for name in known.tests[other] if name in known.response])
        order[1:, members] = members[shuffles(seed, other, len(members), numbers)]
    return order
