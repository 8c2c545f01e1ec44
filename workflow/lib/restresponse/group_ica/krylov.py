"""The leading eigenvectors of A = sum of X'X over the participants' reduced maps X, in passes over the participants.

Block Krylov: each pass multiplies a block of orthonormal rows by A, as a map over participants and a sum; the next
block is what of the product lies outside the blocks so far. Rayleigh-Ritz in all blocks together gives the eigenpairs,
and, as the products are kept, their residuals without a further pass: the certificate. No memory grows with the cohort.

Methods: Musco & Musco 2015 (block Krylov); Davis & Kahan 1970 and Saad 2011 (the bounds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from restresponse.errors import InputError
from restresponse.group_ica.group_pca import check_rank

TOLERANCE = 1e-6  # of the subspace (1 - cos) and, relative, of the eigenvalues

_BLOCK = 16384  # voxels converted to float64 at a time
_SETTLED = 0.05  # residual of a Ritz value, relative, from which on it can stand for the true one
_WIDTHS = 24  # numbers of Ritz vectors that a bound is tried with
_INDEPENDENT = 1e-6  # squared length below which a direction in the span of the blocks is rounding
_ROUNDING = 1e-7  # relative, of a float32 product; values closer than that cannot be told apart
_FLOOR = 1e-7  # of a block's largest direction; below it lies the rounding of the stored float32 products


@dataclass(frozen=True)
class RitzPairs:
    """Leading eigenpairs of A and how far they can be from the true ones.

    Attributes
    ----------
    eigenvalues : (n_components,) float64, descending
    maps : (n_components, n_voxels) float64, squared norm of a row = its eigenvalue
    residual : largest ||A v - lambda v|| / lambda
    subspace : bound on 1 - cos of the largest angle between the span of `maps` and that of the true eigenvectors
    accuracy : bound on the relative error of the eigenvalues, but for the rounding of float32 products (some 1e-8)
    """

    eigenvalues: np.ndarray
    maps: np.ndarray
    residual: float
    subspace: float
    accuracy: float


def multiply(block: np.ndarray, reduced: Iterable[np.ndarray]) -> tuple[np.ndarray, int, float]:
    """A part of the product of A and a block: the sum over some participants.

    Parameters
    ----------
    block : (b, n_voxels) float64
    reduced : reduced maps (r, n_voxels) of each participant; each is read once

    Returns
    -------
    product : (b, n_voxels) float64
    n_dimensions : int, sum of r
    variance : float, sum of the squared norms of all rows: the participants' share of the trace of A
    """
    product, n_dimensions, variance = np.zeros(block.shape), 0, 0.0
    for maps in reduced:
        weights = np.zeros((len(maps), len(block)))
        for piece in _pieces(block.shape[1]):
            rows = maps[:, piece].astype(np.float64)
            weights += rows @ block[:, piece].T
            variance += float(np.einsum("rv,rv->", rows, rows))
        for piece in _pieces(block.shape[1]):
            product[:, piece] += weights.T @ maps[:, piece].astype(np.float64)
        n_dimensions += len(maps)
    return product, n_dimensions, variance


def next_block(product: np.ndarray, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Orthonormal rows that span what of `product` lies outside the blocks: `(<= b, n_voxels)` float32.

    Parameters
    ----------
    product : (b, n_voxels), A times the last of the blocks
    blocks : all blocks so far, each with nearly orthonormal rows, memory-mapped
    """
    rows = np.array(product, np.float64)
    largest = float(np.linalg.norm(rows, axis=1).max(initial=0.0))
    for _ in range(2):  # once leaves rounding of the size of what was taken off
        for block in blocks:
            _take_off(rows, block)
        rows = _orthonormal(rows, _FLOOR * largest)
        largest = 0.0
    return rows.astype(np.float32)


def ritz_pairs(blocks: Sequence[np.ndarray], products: Sequence[np.ndarray], n_components: int) -> RitzPairs:
    """Rayleigh-Ritz in the span of all blocks, with the certificate.

    Parameters
    ----------
    blocks : (b, n_voxels) each, rows of unit norm, nearly orthogonal
    products : A times each block
    n_components : how many pairs

    Raises
    ------
    InputError
        Where the blocks hold fewer directions than that.
    """
    gram, projected = 0.0, 0.0
    for _, rows, images in _stacked(blocks, products):
        gram = gram + rows @ rows.T
        projected = projected + rows @ images.T
    lengths, axes = np.linalg.eigh(gram)
    kept = lengths > _INDEPENDENT
    axes = axes[:, kept] / np.sqrt(lengths[kept])
    found, turned = np.linalg.eigh(axes.T @ (projected + projected.T) @ axes / 2)
    values, weights = found[::-1], (axes @ turned[:, ::-1]).T
    check_rank(values, n_components)
    maps, errors = np.empty((n_components, blocks[0].shape[1])), 0.0
    for piece, rows, images in _stacked(blocks, products):
        vectors = weights @ rows
        error = weights @ images - values[:, None] * vectors
        errors = errors + error @ error.T
        maps[:, piece] = vectors[:n_components] * np.sqrt(values[:n_components, None])
    residual = float(np.max(np.sqrt(np.diag(errors))[:n_components] / values[:n_components]))
    lost, sine = _sines(values, errors, n_components)
    return RitzPairs(values[:n_components], maps, residual, 1 - np.sqrt(1 - sine**2), residual * lost)


def check_certificate(pairs: RitzPairs, cohort: str, passes: int) -> None:
    """Raise `InputError` where the bounds on the subspace or on the eigenvalues are above 1e-6."""
    if max(pairs.subspace, pairs.accuracy) <= TOLERANCE:
        return
    n_components, found = len(pairs.eigenvalues), f"the bound on its error is {max(pairs.subspace, pairs.accuracy):.1e}"
    if pairs.residual < 3 * _ROUNDING:
        raise InputError(
            f"group PCA of {cohort}: {found}, expected {TOLERANCE:.0e}, and further passes cannot lower it: eigenvalues "
            f"{n_components} and {n_components + 1} are too close; lower or raise group_ica.n_components by one or two"
        )
    raise InputError(
        f"group PCA of {cohort}: after {passes} passes {found} (residual {pairs.residual:.1e}), expected {TOLERANCE:.0e}: "
        f"raise group_ica.passes to {passes + 2}; the passes made so far are kept"
    )


def _sines(values: np.ndarray, errors: np.ndarray, n_components: int) -> tuple[float, float]:
    """Bounds on the sines of the angles between the true leading eigenvectors and all Ritz vectors, and the leading ones.

    With the first J >= n_components Ritz vectors V and residuals R of A: a true vector x leaves span V by at most
    s = |R_n| / (g - |R_J|^2 / d), with g the distance of the last wanted value to what lies outside V and d that to the
    next Ritz value (for J = n_components, the theorem of Davis & Kahan); inside V the leading Ritz vectors miss
    it by a factor sqrt(1 + |R_J|^2 / d^2) more (Saad 2011, theorem 4.6). The J with the least bound is taken. What lies
    outside is taken to have no value above that of the next Ritz vector and its residual, which holds once that
    residual is small: a J whose next Ritz vector has not settled is not used, and without any the bounds are 1. The
    rounding of the products turns the leading vectors against the next by its size over their distance.
    """
    last, norms = values[n_components - 1], np.sqrt(np.diag(errors))
    leading = float(np.sqrt(np.linalg.eigvalsh(errors[:n_components, :n_components])[-1]))
    if len(values) == n_components:  # nothing was found beyond: up to the residual, there is nothing
        return min(1.0, leading / last), min(1.0, leading / last)
    best = 1.0, 1.0
    apart = max(last - values[n_components], np.finfo(float).tiny)
    small = _SETTLED * np.maximum(values, 0.01 * last)
    settled = np.logical_and.accumulate((norms <= small)[n_components:]).sum()
    for count in n_components + np.unique(np.linspace(0, settled - 1, _WIDTHS).astype(int)) if settled else ():
        coupling = float(np.linalg.eigvalsh(errors[:count, :count])[-1]) if count > n_components else 0.0
        distance = last - values[count] - norms[count] - coupling / apart
        if distance > leading:
            lost = leading / distance
            sine = lost * np.sqrt(1 + coupling / apart**2) + _ROUNDING * last / apart
            best = min(best, (lost, min(1.0, sine)), key=lambda pair: pair[1])
    return best


def _pieces(n_voxels: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n_voxels, _BLOCK))


def _stacked(
    blocks: Sequence[np.ndarray], products: Sequence[np.ndarray]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """All blocks and all products, one above the other, a piece of the voxels at a time."""
    for piece in _pieces(blocks[0].shape[1]):
        yield piece, *(np.concatenate([a[:, piece] for a in part]).astype(np.float64) for part in (blocks, products))


def _take_off(rows: np.ndarray, block: np.ndarray) -> None:
    """Subtract from `rows`, in place, their part in the span of `block`."""
    weights = np.zeros((len(rows), len(block)))
    for piece in _pieces(rows.shape[1]):
        weights += rows[:, piece] @ block[:, piece].astype(np.float64).T
    for piece in _pieces(rows.shape[1]):
        rows[:, piece] -= weights @ block[:, piece].astype(np.float64)


def _orthonormal(rows: np.ndarray, floor: float) -> np.ndarray:
    """Orthonormal rows of the same span, without directions shorter than `floor`."""
    eigenvalues, vectors = np.linalg.eigh(rows @ rows.T)
    kept = eigenvalues > max(floor**2, 1e-30)
    return (vectors[:, kept] / np.sqrt(eigenvalues[kept])).T[::-1] @ rows
