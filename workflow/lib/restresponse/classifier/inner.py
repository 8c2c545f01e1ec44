"""Inner folds and seeds, the same along the ladder of protocols: neither knows a protocol's name."""

from __future__ import annotations

import hashlib

import numpy as np

from restresponse.errors import InputError


def seed_of(seed: int, fold: str, stage: str) -> int:
    """A seed of 31 bits from the run's seed, the outer fold and the stage of training; the same under every protocol."""
    words = np.frombuffer(hashlib.sha256(f"{fold}|{stage}".encode()).digest(), np.uint32)
    return int(np.random.SeedSequence([seed, *words.tolist()]).generate_state(1)[0] >> 1)


def check_both_classes(response: np.ndarray, where: str) -> None:
    """Raise `InputError` unless `response` (values 1 and 0) holds responders and non-responders."""
    counts = int((response == 1).sum()), int((response == 0).sum())
    if min(counts) < 1 or sum(counts) != len(response):
        raise InputError(
            f"{where}: {counts[0]} responders, {counts[1]} non-responders and {len(response) - sum(counts)} without a "
            "binary label; expected both classes and nothing else: use fewer folds or more participants"
        )


def inner_folds(response: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """Positions held out by each inner fold, stratified by response.

    Parameters
    ----------
    response : (n_training,) of 1 and 0, labels of the training participants
    n_folds : folds wanted; fewer where a class has fewer participants
    seed : of the shuffle

    Returns
    -------
    list of sorted int arrays, every position in exactly one

    Raises
    ------
    InputError
        With fewer than two participants in a class: nothing could be held out.
    """
    response = np.asarray(response)
    check_both_classes(response, "the training participants")
    n_folds = min(n_folds, int((response == 1).sum()), int((response == 0).sum()))
    if n_folds < 2:
        raise InputError(
            f"the training participants are {int((response == 1).sum())} responders and {int((response == 0).sum())} "
            "non-responders; inner folds need at least 2 of each: use fewer outer folds or more participants"
        )
    generator = np.random.default_rng(seed)
    shuffled = np.concatenate([generator.permutation(np.flatnonzero(response == group)) for group in (1, 0)])
    # Dealt out in turn across both classes: sizes of folds differ by one at most, and so do each class's counts.
    return [np.sort(shuffled[start::n_folds]) for start in range(n_folds)]
