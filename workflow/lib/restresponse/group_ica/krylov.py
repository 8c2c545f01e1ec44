"""The leading eigenvectors of A = sum of X'X over the participants' reduced maps X, in passes over the participants.

Block Krylov: each pass multiplies a block of orthonormal rows by A, as a map over participants and a sum; the next
block is what of the product lies outside the blocks so far. Rayleigh-Ritz in all blocks together gives the eigenpairs,
and, as the products are kept, their residuals without a further pass: the certificate. No memory grows with the cohort.

Methods: Musco & Musco 2015 (block Krylov); Davis & Kahan 1970 (the bound on the subspace).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_BLOCK = 16384  # voxels converted to float64 at a time
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
    accuracy : bound on the relative error of the eigenvalues
    """

    eigenvalues: np.ndarray
    maps: np.ndarray
    residual: float
    subspace: float
    accuracy: float


def unit_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """The first `size` rows of a block or of the tree's root, each scaled to unit norm, `(<= size, n_voxels)` float64."""
    block = np.array(rows[:size], np.float64)
    return block / np.linalg.norm(block, axis=1, keepdims=True)


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
    blocks : (b, n_voxels) each, nearly orthonormal rows
    products : A times each block
    n_components : how many pairs; the next eigenvalue is needed for the bound where the blocks hold it
    """
    from scipy import linalg

    n_voxels = blocks[0].shape[1]
    size = sum(map(len, blocks))
    gram, projected = np.zeros((size, size)), np.zeros((size, size))
    for rows, images in _stacked(blocks, products, n_voxels):
        gram += rows @ rows.T
        projected += rows @ images.T
    found, vectors = linalg.eigh((projected + projected.T) / 2, gram)
    wanted = min(size, n_components + 1)
    eigenvalues, weights = found[::-1][:wanted], vectors[:, ::-1][:, :wanted].T
    maps = np.empty((n_components, n_voxels))
    errors = np.zeros((wanted, wanted))
    for piece, (rows, images) in zip(_pieces(n_voxels), _stacked(blocks, products, n_voxels), strict=True):
        vector = weights @ rows
        error = weights @ images - eigenvalues[:, None] * vector
        errors += error @ error.T
        maps[:, piece] = vector[:n_components] * np.sqrt(eigenvalues[:n_components, None])
    leading, norms = eigenvalues[:n_components], np.sqrt(np.diag(errors))
    residual = float(np.max(norms[:n_components] / leading))
    # Where the blocks hold no further direction the next eigenvalue is nothing, up to the residual.
    beyond = eigenvalues[n_components] + norms[n_components] if wanted > n_components else 0.0
    gap = leading[-1] - beyond
    spread = float(np.sqrt(np.linalg.eigvalsh(errors[:n_components, :n_components])[-1]))
    sine = min(1.0, spread / gap) if gap > 0 else 1.0
    return RitzPairs(leading, maps, residual, 1 - np.sqrt(1 - sine**2), residual * sine)


def _pieces(n_voxels: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n_voxels, _BLOCK))


def _stacked(
    blocks: Sequence[np.ndarray], products: Sequence[np.ndarray], n_voxels: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for piece in _pieces(n_voxels):
        yield tuple(np.concatenate([a[:, piece] for a in part]).astype(np.float64) for part in (blocks, products))


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
