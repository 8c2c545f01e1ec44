"""FastICA (tanh) of spatial maps, the same on every run: restarts clustered as in ICASSO, then polished.

Methods: Hyvarinen 1999 (FastICA, symmetric and by deflation); Himberg, Hyvarinen & Esposito 2004 (ICASSO). On whitened data the
correlation of two sources is the product of their unmixing rows, so the clustering needs no sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restresponse.errors import InputError

_BLOCK = 4096  # voxels of an iteration at a time
_RESTART_TOLERANCE = 1e-5
_SINGLE_TOLERANCE = 1e-7  # of the steps in float32, whose own rounding turns a row by far less
_DAMPING_AFTER = 100  # iterations; beyond them a step is halved, which ends the two-cycles of nearly Gaussian sources


@dataclass(frozen=True)
class Decomposition:
    """Sources of a set of maps.

    Attributes
    ----------
    sources : (n_components, n_voxels) float64, unit RMS, positive skewness, by explained variance
    mixing : (n_components, n_components): maps = mixing @ sources
    stability : (n_components,) index of ICASSO, 1 for a source that every restart finds alike
    cluster_size : (n_components,) int, estimates in the source's cluster
    explained : (n_components,) share of the maps' variance
    n_iterations : int, of the final run
    n_restarts : int, restarts that converged
    """

    sources: np.ndarray
    mixing: np.ndarray
    stability: np.ndarray
    cluster_size: np.ndarray
    explained: np.ndarray
    n_iterations: int
    n_restarts: int


def decompose(
    maps: np.ndarray,
    *,
    seed: int | np.random.SeedSequence,
    algorithm: str = "symmetric",
    restarts: int = 20,
    subsample: int = 20000,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
) -> Decomposition:
    """Independent sources of `maps` (n_components, n_voxels), as many as there are maps.

    `algorithm`: `symmetric`: all sources at once, polished from the centrotypes of the restarts; `deflation`: one after
    another from the first start alone, as in CONN; the restarts only say how stable its sources are.

    Raises `InputError` where FastICA does not converge: it never returns what it could not settle.
    """
    n_components, n_voxels = maps.shape
    whitening, white = _whiten(maps - maps.mean(axis=1, keepdims=True))
    # Restarts only have to find the basin: the final run is what is kept, and its last steps are in float64.
    single = white.astype(np.float32)
    sample = np.ascontiguousarray(single[:, :: max(1, n_voxels // subsample)])
    run = fastica if algorithm == "symmetric" else deflation
    spawned = np.random.SeedSequence(seed).spawn(restarts) if isinstance(seed, int) else seed.spawn(restarts)
    starts = [
        orthogonalise(np.random.default_rng(one).standard_normal((n_components, n_components))) for one in spawned
    ]
    runs = [run(sample, start, _RESTART_TOLERANCE, max_iterations) for start in starts]
    found = [unmixing for unmixing, _, converged in runs if converged]
    if 2 * len(found) < restarts:
        raise InputError(
            f"FastICA converged in {len(found)} of {restarts} restarts within {max_iterations} iterations; "
            f"the maps do not hold {n_components} independent sources: lower group_ica.n_components"
        )
    centrotypes, stability, sizes = icasso(np.vstack(found), n_components)
    if algorithm == "symmetric":
        nearly, n_single, _ = fastica(
            single, orthogonalise(centrotypes), max(tolerance, _SINGLE_TOLERANCE), max_iterations
        )
        unmixing, n_iterations, converged = fastica(white, nearly, tolerance, max_iterations)
        n_iterations += n_single
    else:
        unmixing, n_iterations, converged = deflation(white, starts[0], tolerance, max_iterations)
        alike = assigned(unmixing, centrotypes)
        stability, sizes = stability[alike], sizes[alike]
    if not converged:
        raise InputError(
            f"FastICA did not reach a tolerance of {tolerance} in {max_iterations} iterations on all voxels; "
            "raise group_ica.max_iterations or lower group_ica.n_components"
        )
    return _by_convention(maps, unmixing @ whitening, stability, sizes, n_iterations, len(found))


def fastica(
    white: np.ndarray, unmixing: np.ndarray, tolerance: float, max_iterations: int
) -> tuple[np.ndarray, int, bool]:
    """Symmetric fixed-point iteration with g = tanh on whitened data.

    Parameters
    ----------
    white : (n_components, n_voxels), identity covariance
    unmixing : (n_components, n_components) orthogonal start
    tolerance : largest change of a row's direction, 1 - |cos|, at which it has converged

    Returns
    -------
    unmixing, n_iterations, converged
    """
    for iteration in range(1, max_iterations + 1):
        moments, slope = _moments(unmixing, white)
        updated = orthogonalise(moments - slope[:, None] * unmixing)
        cosine = np.einsum("ij,ij->i", updated, unmixing)
        if iteration > _DAMPING_AFTER:
            updated = orthogonalise(updated * np.sign(cosine)[:, None] + unmixing)
        unmixing = updated
        if np.max(1.0 - np.abs(cosine)) < tolerance:
            return unmixing, iteration, True
    return unmixing, max_iterations, False


def deflation(
    white: np.ndarray, unmixing: np.ndarray, tolerance: float, max_iterations: int
) -> tuple[np.ndarray, int, bool]:
    """One source after another, each in what those before it left, with g = tanh: the order of CONN's iteration.

    Parameters and returns are those of `fastica`, but `tolerance` is of the largest change of an element of a row, and the
    last row, which has no freedom left, is not iterated.
    """
    n_components = len(unmixing)
    found, most = np.zeros((0, n_components)), 0
    for start in unmixing:
        row = _beside(start, found)
        if len(found) < n_components - 1:
            for iteration in range(1, max_iterations + 1):
                moments, slope = _moments(row[None], white)
                updated = _beside(moments[0] - slope[0] * row, found)
                change = min(np.abs(updated - row).max(), np.abs(updated + row).max())
                row, most = updated, max(most, iteration)
                if change < tolerance:
                    break
            else:
                return unmixing, max_iterations, False
        found = np.vstack([found, row])
    return found, most, True


def _beside(row: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The part of a row that is orthogonal to those found, at unit length."""
    for _ in range(2):  # once leaves rounding of the size of what was taken off
        row = row - (found @ row) @ found
    return row / np.linalg.norm(row)


def assigned(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each unit row the index of one of `others`, one to one, of the greatest sum of |correlations| (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(-np.abs(rows @ others.T))[1]


def _moments(unmixing: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over voxels of tanh(s) x' and of its slope, s = unmixing @ x; what is between them stays in the processor's cache."""
    weights = unmixing.astype(white.dtype)
    moments, squares = np.zeros(unmixing.shape), np.zeros(len(unmixing))
    for start in range(0, white.shape[1], _BLOCK):
        block = white[:, start : start + _BLOCK]
        activation = weights @ block
        np.tanh(activation, out=activation)
        moments += activation @ block.T
        squares += np.einsum("kv,kv->k", activation, activation)
    return moments / white.shape[1], 1.0 - squares / white.shape[1]


def icasso(rows: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster unmixing rows of many restarts by |correlation|, average linkage.

    Parameters
    ----------
    rows : (n_restarts * n_components, n_components), unit rows

    Returns
    -------
    centrotypes : (n_components, n_components), in the order of the first member
    stability : (n_components,), mean similarity within a cluster less the mean to all others
    sizes : (n_components,) int
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(rows) == n_components:
        return rows, np.ones(n_components), np.ones(n_components, int)
    similarity = np.clip(np.abs(rows @ rows.T), 0.0, 1.0)
    distance = 1.0 - similarity
    np.fill_diagonal(distance, 0.0)
    labels = hierarchy.cut_tree(hierarchy.average(squareform(distance, checks=False)), n_clusters=n_components)[:, 0]
    centrotypes, stability, sizes = [], [], []
    for label in dict.fromkeys(labels.tolist()):
        inside = labels == label
        within = similarity[np.ix_(inside, inside)]
        centrotypes.append(rows[inside][int(np.argmax(within.sum(axis=0)))])
        stability.append(within.mean() - similarity[np.ix_(inside, ~inside)].mean())
        sizes.append(int(inside.sum()))
    return np.array(centrotypes), np.array(stability), np.array(sizes)


def orthogonalise(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix with orthonormal rows (polar factor)."""
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def _whiten(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    covariance = centred @ centred.T / centred.shape[1]
    eigenvalues, vectors = np.linalg.eigh(covariance)
    if eigenvalues[0] <= 1e-12 * eigenvalues[-1]:
        raise InputError(
            f"the principal maps have rank {int((eigenvalues > 1e-12 * eigenvalues[-1]).sum())} of {len(eigenvalues)}; "
            "lower group_ica.n_components"
        )
    whitening = (vectors / np.sqrt(eigenvalues)).T
    return whitening, whitening @ centred


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    squares = centred * centred
    return float(np.mean(squares * centred) / np.mean(squares) ** 1.5)


def _by_convention(
    maps: np.ndarray, unmixing: np.ndarray, stability: np.ndarray, sizes: np.ndarray, n_iterations: int, n_restarts: int
) -> Decomposition:
    # The mean is kept (unmixing @ maps, not the centred maps), so that maps = mixing @ sources holds exactly.
    sources = unmixing @ maps
    scale = np.sqrt(np.einsum("kv,kv->k", sources, sources) / sources.shape[1])
    skewness = np.array([_skewness(row) for row in sources])
    peak = np.array([row[np.argmax(np.abs(row))] for row in sources])
    sign = np.where(np.abs(skewness) < 0.05, np.sign(peak), np.sign(skewness))
    unmixing = unmixing * (sign / scale)[:, None]
    mixing = np.linalg.inv(unmixing)
    variance = np.einsum("ij,ij->j", mixing, mixing)
    order = np.argsort(-variance, kind="stable")
    explained = variance[order] * maps.shape[1] / np.sum(maps**2)
    return Decomposition(
        unmixing[order] @ maps, mixing[:, order], stability[order], sizes[order], explained, n_iterations, n_restarts
    )
