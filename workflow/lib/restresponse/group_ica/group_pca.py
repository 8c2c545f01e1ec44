"""Group PCA of any cohort from cached inner products.

The Gram matrix of the stacked reduced maps is cut into tiles, one a pair of batches of participants; each pair's block is computed once, by
itself, so a cohort's matrix is a sub-block and depends on none but its own participants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_array, write_array

_BLOCK = 4096  # voxels converted to float64 at a time: they stay in the processor's cache
_TILE_BLOCK = 2048  # voxels multiplied in float32; their products are added in float64


def compute_tile(*, first: Sequence[str | Path], second: Sequence[str | Path], tile: str | Path) -> None:
    """Write the tile of inner products between the participants of two groups of reduced maps (paths), stacked.

    Each pair's block is computed by itself and does not depend on what else is in the tile; a block of the voxels of all
    is read at a time. Of a group with itself each pair is computed once.
    """
    same = list(first) == list(second)
    totals: dict[tuple[int, int], np.ndarray] = {}
    for start in range(0, read_array(first[0]).shape[1], _TILE_BLOCK):
        rows = [_voxels(path, start) for path in first]
        columns = rows if same else [_voxels(path, start) for path in second]
        for i, row in enumerate(rows):
            for j in range(i if same else 0, len(columns)):
                # The squares are taken in float64: their rounding would add up in the total variance.
                exact = row.astype(np.float64) if same and i == j else None
                product = row @ columns[j].T if exact is None else exact @ exact.T
                totals[i, j] = totals.get((i, j), 0.0) + product.astype(np.float64)
    blocks = [
        [totals[i, j] if (i, j) in totals else totals[j, i].T for j in range(len(second))] for i in range(len(first))
    ]
    write_array(tile, np.block(blocks))


def _voxels(path: str | Path, start: int) -> np.ndarray:
    """A block of the voxels of reduced maps; the file is opened anew for each, as what is mapped counts as the job's memory."""
    return np.ascontiguousarray(read_array(path)[:, start : start + _TILE_BLOCK])


def gram_matrix(
    tiles: Mapping[tuple[str, str], str | Path],
    members: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
    cohort: Sequence[str],
) -> np.ndarray:
    """Gram matrix of a cohort's stacked reduced maps, read out of the tiles.

    Parameters
    ----------
    tiles : (batch, batch) -> path, for each unordered pair, the first name not after the second
    members : batch -> its participants, in the order of a tile's rows
    sizes : participant -> its number of dimensions r
    cohort : participants wanted; they are taken in sorted order

    Returns
    -------
    (sum of r, sum of r) float64, symmetric
    """
    offsets: dict[str, int] = {}
    for participants in members.values():
        offset = 0
        for participant in participants:
            offsets[participant] = offset
            offset += sizes[participant]
    ordered = sorted(cohort)
    starts = np.concatenate([[0], np.cumsum([sizes[p] for p in ordered])]).astype(int)
    gram = np.empty((starts[-1], starts[-1]))
    at = {participant: slice(starts[i], starts[i + 1]) for i, participant in enumerate(ordered)}
    for (batch_a, batch_b), path in tiles.items():
        tile = read_array(path)  # one at a time: what is mapped counts as the job's memory
        for a in (name for name in members[batch_a] if name in at):
            for b in (name for name in members[batch_b] if name in at):
                row, column = offsets[a], offsets[b]
                block = tile[row : row + sizes[a], column : column + sizes[b]]
                gram[at[a], at[b]] = block
                gram[at[b], at[a]] = block.T
    return gram


def leading_eigenpairs(gram: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """The `n_components` largest eigenvalues (descending) and their vectors `(n, n_components)`; `gram` is overwritten.

    Raises `InputError` where the matrix has not so many.
    """
    from scipy import linalg

    if n_components > len(gram):
        raise InputError(
            f"group_ica.n_components is {n_components}, but the cohort's scans hold {len(gram)} dimensions together; "
            f"set it to {len(gram)} or less, or include more scans"
        )
    # Transposed, the symmetric matrix has the order LAPACK works in: it is not copied, which halves the memory.
    wanted = [len(gram) - n_components, len(gram) - 1]
    eigenvalues, vectors = linalg.eigh(gram.T, subset_by_index=wanted, overwrite_a=True)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    check_rank(eigenvalues, n_components)
    return eigenvalues, vectors


def check_rank(eigenvalues: np.ndarray, n_components: int) -> None:
    """Raise `InputError` where fewer than `n_components` of the eigenvalues (descending) are above the rounding."""
    usable = int((eigenvalues > 1e-9 * eigenvalues[0]).sum()) if len(eigenvalues) and eigenvalues[0] > 0 else 0
    if usable < n_components:
        raise InputError(
            f"group_ica.n_components is {n_components}, but the cohort's scans have rank {usable}; "
            f"set it to {max(usable, 1)} or less (are scans duplicated?)"
        )


def principal_maps(vectors: np.ndarray, reduced: Iterable[np.ndarray]) -> np.ndarray:
    """Project the stacked reduced maps onto the eigenvectors: `(n_components, n_voxels)` float64, row norm^2 = eigenvalue."""
    maps, start = None, 0
    for block in reduced:
        maps = np.zeros((vectors.shape[1], block.shape[1])) if maps is None else maps
        weights = vectors[start : start + len(block)].T
        start += len(block)
        for voxel in range(0, block.shape[1], _BLOCK):
            maps[:, voxel : voxel + _BLOCK] += weights @ block[:, voxel : voxel + _BLOCK].astype(np.float64)
    return maps
