"""A cohort's leading dimensions by a fixed tree of merges: where a cohort too large for one Gram matrix starts from.

Each node holds the leading principal rows of what lies below it, never more than a set number, so that memory does not
grow with the cohort. One pass over the data; what truncation loses, the passes of `krylov` find again. Method: the
incremental group PCA of Smith et al. 2014 (MIGP), as a tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.batches import files_of
from restresponse.errors import InputError
from restresponse.files import digest_of, read_array, read_json, write_array
from restresponse.group_ica.layout import beside
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
    batches: Mapping[str, Sequence[str]],
    cohort: str,
    folds: str | Path | None,
    n_dimensions: int,
    node: str | Path,
    sidecar: str | Path,
) -> None:
    """Write a node of a cohort's tree: of a part's participants who are in the cohort, or of the nodes below.

    Parameters
    ----------
    maps : folders of the reduced maps of `batches`, or nodes, whose sidecars lie beside them
    batches : batch -> its participants; none where nodes are merged
    cohort, folds : say which participants are taken; a node without any has no rows
    """
    if batches:
        reduced = files_of(maps, batches, "_reduced.npy")
        fitted_on = members_with_rows(reduced, cohort, folds)
        sources = [*(reduced[name] for name in fitted_on), *([folds] if cohort != "all" else [])]
        taken, any_map = [reduced[name] for name in fitted_on], next(iter(reduced.values()))
    else:
        fitted_on, sources, taken, any_map = fitted_below(maps), maps, maps, maps[0]
    rows = merge_rows((read_array(path, memory_map=False) for path in taken), n_dimensions)
    rows = rows if len(rows) else np.zeros((0, read_array(any_map).shape[1]))
    records = {} if batches else records_below(maps)
    _write_node(node, sidecar, rows, cohort, fitted_on, sources, n_dimensions, records)


def start_passes(
    *, nodes: Sequence[str | Path], cohort: str, n_dimensions: int, block: str | Path, sidecar: str | Path
) -> None:
    """Merge the topmost nodes into the first block of the passes: rows of unit norm.

    Raises `InputError` where the cohort has fewer than two participants.
    """
    fitted_on = fitted_below(nodes)
    if len(fitted_on) < 2:
        raise InputError(too_few(cohort, len(fitted_on)))
    rows = merge_rows((read_array(path, memory_map=False) for path in nodes), n_dimensions)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    _write_node(block, sidecar, rows, cohort, fitted_on, nodes, n_dimensions, records_below(nodes))


def members_with_rows(reduced: Mapping[str, str | Path], cohort: str, folds: str | Path | None) -> list[str]:
    """Those in the cohort among participants (participant -> reduced maps) with an included scan."""
    return cohort_members([name for name, path in reduced.items() if len(read_array(path))], cohort, folds)


def fitted_below(arrays: Sequence[str | Path]) -> list[str]:
    """All participants that arrays were fitted on, from the sidecars beside them."""
    return sorted({name for path in beside(arrays) for name in read_json(path)["fitted_on"]})


def records_below(arrays: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
    """What the sidecars of temporary arrays say, and those that they were made from: sidecar -> on whom, sources, digest."""
    found: dict[str, dict[str, Any]] = {}
    for path in beside(arrays):
        content = read_json(path)
        found |= content.get("records") or {}
        found[path] = {key: content[key] for key in ("fitted_on", "sources", "sha256")}
    return found


def too_few(cohort: str, found: int) -> str:
    """The sentence for a cohort of fewer than two participants."""
    return (
        f"group ICA of {cohort}: {found} participant(s) with an included scan; expected at least 2: "
        "results/quality/inclusion.tsv says which scans were left out and why"
    )


def _write_node(
    node: str | Path,
    sidecar: str | Path,
    rows: np.ndarray,
    cohort: str,
    fitted_on: Sequence[str],
    sources: Sequence[str | Path],
    n_dimensions: int,
    records: Mapping[str, Any],
) -> None:
    write_array(node, rows.astype(np.float32))
    print(f"{cohort}: {len(fitted_on)} participants merged into {len(rows)} dimensions")
    write_sidecar(
        sidecar,
        fitted_on=fitted_on,
        sources=sources,
        parameters={"merge_dimensions": n_dimensions},
        cohort=cohort,
        n_dimensions=len(rows),
        sha256=digest_of(node),
        records=records,
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
