"""A cohort's leading dimensions by a fixed tree of merges: where a cohort too large for one Gram matrix starts from.

Each node holds the leading principal rows of what lies below it, never more than a set number, so that memory does not
grow with the cohort. One pass over the data; what truncation loses, the passes of `krylov` find again. Method: the
incremental group PCA of Smith et al. 2014 (MIGP), as a tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from restresponse.files import digest_of, read_array, read_json, write_array
from restresponse.group_ica.members import cohort_members
from restresponse.provenance import write_sidecar

_BLOCK = 16384  # voxels converted to float64 at a time
_RANK_TOLERANCE = 1e-9  # of the largest eigenvalue


def merge_rows(blocks: Iterable[np.ndarray], n_dimensions: int) -> np.ndarray:
    """Leading principal rows of stacked blocks, taken up one after another.

    Parameters
    ----------
    blocks : arrays (r, n_voxels), of any r; they are cut back as soon as twice `n_dimensions` rows are held
    n_dimensions : most rows to keep

    Returns
    -------
    (n_kept, n_voxels) float32, orthogonal, squared norms descending: the eigenvalues of the stack where nothing was cut
    """
    held: list[np.ndarray] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= 2 * n_dimensions:
            held = [_principal_rows(held, n_dimensions)]
    return _principal_rows(held, n_dimensions)


def merge_node(
    *,
    maps: Sequence[str | Path],
    participants: Sequence[str],
    cohort: str,
    folds: str | Path | None,
    n_dimensions: int,
    node: str | Path,
    sidecar: str | Path,
) -> None:
    """Merge the reduced maps of a batch's participants, or the nodes below, and write the node with its sidecar.

    Parameters
    ----------
    maps : reduced maps, one a participant, or nodes (with their sidecars beside them)
    participants : whose reduced maps they are; none where they are nodes
    cohort, folds : of the participants, those in the cohort are taken; the nodes below hold no others

    Notes
    -----
    A node without a participant in the cohort has no rows.
    """
    below = dict(zip(participants, maps, strict=True)) if participants else {}
    if participants:
        fitted_on = cohort_members([p for p, path in below.items() if len(read_array(path))], cohort, folds)
        taken = [below[participant] for participant in fitted_on]
    else:
        fitted_on = sorted({p for path in maps for p in read_json(Path(path).with_suffix(".json"))["fitted_on"]})
        taken = list(maps)
    n_voxels = read_array(maps[0]).shape[1]
    # One array is open at a time: what is mapped counts as the job's memory.
    rows = merge_rows((read_array(path, memory_map=False) for path in taken), n_dimensions)
    write_array(node, rows if len(rows) else np.zeros((0, n_voxels), np.float32))
    print(f"{cohort}: {len(fitted_on)} participants merged into {len(rows)} dimensions")
    write_sidecar(
        sidecar,
        fitted_on=fitted_on,
        sources=[*taken, *([folds] if participants and cohort != "all" else [])],
        parameters={"merge_dimensions": n_dimensions},
        cohort=cohort,
        n_dimensions=len(rows),
        sha256=digest_of(node),
    )


def _principal_rows(held: Sequence[np.ndarray], n_dimensions: int) -> np.ndarray:
    held = [block for block in held if len(block)]
    if not held:
        return np.zeros((0, 0), np.float32)
    n_rows, n_voxels = sum(map(len, held)), held[0].shape[1]
    pieces = [slice(start, start + _BLOCK) for start in range(0, n_voxels, _BLOCK)]
    gram = np.zeros((n_rows, n_rows))
    for piece in pieces:
        stack = np.concatenate([block[:, piece] for block in held]).astype(np.float64)
        gram += stack @ stack.T
    eigenvalues, vectors = np.linalg.eigh(gram)
    rank = int((eigenvalues > _RANK_TOLERANCE * eigenvalues[-1]).sum())
    weights = vectors[:, ::-1][:, : min(n_dimensions, rank)].T
    rows = np.empty((len(weights), n_voxels), np.float32)
    for piece in pieces:
        rows[:, piece] = weights @ np.concatenate([block[:, piece] for block in held]).astype(np.float64)
    return rows
