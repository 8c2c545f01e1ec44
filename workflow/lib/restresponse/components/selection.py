"""The group test of components and the selection that follows from it.

One number a participant and component; Welch's t between responders and non-responders of those whose labels may be
read. With K components, K times the threshold pass by chance: raw p, false discovery rate and max-T stand side by side.
"""

from __future__ import annotations

import numpy as np

from restresponse.errors import InputError


def map_amplitudes(maps: np.ndarray, components: np.ndarray, threshold: float) -> np.ndarray:
    """Mean of each participant's map inside |z| > `threshold` of the group map, along the group map's sign.

    Parameters
    ----------
    maps : (n_components, n_voxels) of one participant, from normalised time courses
    components : (n_components, n_voxels) of the cohort, unit RMS

    Returns
    -------
    (n_components,) float64
    """
    flat = ~np.any(components, axis=1)
    if flat.any():
        raise InputError(
            f"the group map of component {int(np.argmax(flat)) + 1} is 0 everywhere; expected a map of unit RMS: remove "
            "results/group_ica and run again"
        )
    inside = np.abs(components) > threshold
    counts = inside.sum(axis=1)
    if not np.all(counts):
        raise InputError(
            f"component {int(np.argmin(counts)) + 1} has no voxel beyond |z| = {threshold}; lower components.threshold"
        )
    return np.einsum("kv,kv->k", maps, np.where(inside, np.sign(components), 0.0), dtype=np.float64) / counts


def network_amplitudes(time_courses: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Spread of each component's time course over that of what all components leave of a participant's series.

    The map of a normalised time course holds the amplitude too, and that of one that is not holds its inverse: this is the
    measure that neither choice turns over.

    Parameters
    ----------
    time_courses : (n_scans, n_components), of stage 1 of dual regression
    residual : (n_voxels,) residual sum of squares of stage 2, 0 where a voxel has no signal

    Returns
    -------
    (n_components,) float64, no unit
    """
    left = np.asarray(residual, np.float64)
    left = left[left > 0]
    if not len(left):
        raise InputError(
            "the components leave nothing of a participant's series; expected a residual: lower group_ica.n_components"
        )
    return time_courses.std(axis=0) / np.sqrt(left.mean() / len(time_courses))


def direction_words(t: np.ndarray, what: str, *, normalise: bool = True) -> list[str]:
    """Each t (responders less non-responders) in words.

    Parameters
    ----------
    t : (n_components,)
    what : `map` or `time course`, what the amplitudes are of
    normalise : whether the time courses had unit variance when the maps were made; without it, a larger map is no stronger network
    """
    more, less = ("stronger", "weaker") if what == "time course" or normalise else ("larger maps", "smaller maps")
    return [f"{more if value > 0 else less} in responders" if value else "no difference" for value in t]


def group_test(amplitudes: np.ndarray, response: np.ndarray) -> dict[str, np.ndarray]:
    """Welch's t of responders against non-responders for each component.

    Parameters
    ----------
    amplitudes : (n_participants, n_components)
    response : (n_participants,), 1 for a responder, 0 for a non-responder

    Returns
    -------
    `t`, `p`, `difference` (responders less non-responders), each (n_components,)

    Raises
    ------
    InputError
        With fewer than two participants in a group.
    """
    response = np.asarray(response, int)
    counts = {group: int((response == group).sum()) for group in (0, 1)}
    if min(counts.values()) < 2:
        raise InputError(
            f"the group test has {counts[1]} responders and {counts[0]} non-responders; expected at least 2 of each: "
            "use fewer folds or more participants"
        )
    t, difference, dof = _welch(np.asarray(amplitudes, np.float64), response[None] == 1, response[None] == 0)
    return {"t": t[0], "p": _two_sided(t, dof)[0], "difference": difference[0]}


def group_tests(amplitudes: np.ndarray, responders: np.ndarray, others: np.ndarray) -> np.ndarray:
    """p of `group_test` for many labellings at once.

    Parameters
    ----------
    amplitudes : (n_participants, n_components)
    responders, others : (n_labellings, n_participants) bool; who is in neither is left out. At least two in each.

    Returns
    -------
    (n_labellings, n_components)
    """
    t, _, dof = _welch(np.asarray(amplitudes, np.float64), responders, others)
    return _two_sided(t, dof)


def max_t_p(amplitudes: np.ndarray, response: np.ndarray, *, seed: int, permutations: int = 5000) -> np.ndarray:
    """Family-wise p of each component: share of label permutations whose largest |t| is at least the component's."""
    rng = np.random.default_rng(seed)
    response = np.asarray(response, int) == 1
    observed = np.abs(_welch(amplitudes, response[None], ~response[None])[0][0])
    shuffled = rng.permuted(np.tile(response, (permutations, 1)), axis=1)
    largest = np.abs(_welch(amplitudes, shuffled, ~shuffled)[0]).max(axis=1)
    return (1 + (largest[:, None] >= observed[None] - 1e-12).sum(axis=0)) / (permutations + 1)


def select(p: np.ndarray, threshold: float, allowed: np.ndarray | None = None) -> tuple[np.ndarray, bool]:
    """Components with p below the threshold; where there is none, the one of least p, flagged.

    Parameters
    ----------
    p : (n_components,)
    threshold : float
    allowed : (n_components,) bool, components that may be selected; None: all

    Returns
    -------
    selected : (n_selected,) int, sorted
    fallback : bool, no component passed
    """
    allowed = np.ones(len(p), bool) if allowed is None else np.asarray(allowed, bool)
    if not allowed.any():
        raise InputError(
            "no component matches a network, and components.require_match is true: set it to false or lower components.match_threshold"
        )
    passing = np.flatnonzero((p < threshold) & allowed)
    if len(passing):
        return passing, False
    return np.array([int(np.argmin(np.where(allowed, p, np.inf)))]), True


def _two_sided(t: np.ndarray, dof: np.ndarray) -> np.ndarray:
    from scipy import special

    p = 2 * special.stdtr(dof, -np.abs(t))
    return np.where(np.isfinite(p), p, 1.0)


def _welch(
    amplitudes: np.ndarray, responders: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t, difference and degrees of freedom for labellings (n_labellings, n_participants) bool."""
    means, errors, counts = [], [], []
    for mask in (responders, others):
        weight = mask.astype(np.float64)
        n = weight.sum(axis=1, keepdims=True)
        mean = weight @ amplitudes / n
        # Centred on the overall mean first: the variance keeps its digits.
        variance = (
            (weight @ (amplitudes - amplitudes.mean(axis=0)) ** 2 / n - (mean - amplitudes.mean(axis=0)) ** 2)
            * n
            / (n - 1)
        )
        means.append(mean)
        errors.append(np.maximum(variance, 0.0) / n)
        counts.append(n)
    difference = means[0] - means[1]
    total = errors[0] + errors[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(total > 0, difference / np.sqrt(total), 0.0)
        dof = np.where(total > 0, total**2 / (errors[0] ** 2 / (counts[0] - 1) + errors[1] ** 2 / (counts[1] - 1)), 1.0)
    return t, difference, dof
