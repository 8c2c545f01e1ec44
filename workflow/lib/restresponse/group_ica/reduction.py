"""A participant's scans, variance-normalised voxel by voxel and reduced to their leading temporal dimensions.

Method: CONN's first level of group ICA (Whitfield-Gabrieli & Nieto-Castanon 2012): each voxel's series is demeaned and
scaled, by default to unit norm, and the leading eigenvectors of the temporal Gram matrix give the reduced maps, not whitened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.files import write_array, writing_folder
from restresponse.images import finite_series, included_scans, read_mask
from restresponse.provenance import write_sidecar

_BLOCK = 2048  # voxels converted to float64 at a time: they stay in the processor's cache
_STRONG, _WEAK = 30, 2.3  # components of a series, and the units of spread below which a voxel has no part in one
_LEAST_RESIDUAL = 1e-3  # of a voxel's norm: no voxel is blown up more
_RANK_TOLERANCE = 1e-5  # of the mean eigenvalue; below it lies the rounding of the stored image


def variance_normalise(series: np.ndarray, normalisation: str = "unit_norm") -> tuple[np.ndarray, int]:
    """Demean each voxel in time and scale it.

    Parameters
    ----------
    series : (n_scans, n_voxels) array
    normalisation : `unit_norm`: each voxel to unit norm (CONN); `residual`: so that what the strong components leave of it
        has unit norm (MELODIC); `none`: not at all

    Returns
    -------
    normalised : (n_scans, n_voxels) float32; a constant voxel is zero
    n_constant : int, how many voxels were constant
    """
    centred, norm = np.empty(series.shape, np.float32), np.empty(series.shape[1])
    constant = np.empty(series.shape[1], bool)
    for piece in _pieces(series.shape[1]):
        block = series[:, piece].astype(np.float64)
        mean = block.mean(axis=0)
        block -= mean
        norm[piece] = np.sqrt(np.einsum("tv,tv->v", block, block))
        least = 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny) * np.sqrt(len(series))
        constant[piece] = norm[piece] <= least
        if normalisation == "unit_norm":
            block *= np.where(constant[piece], 0.0, 1.0 / np.where(constant[piece], 1.0, norm[piece]))
        centred[:, piece] = block
    if normalisation == "residual":
        scale = np.maximum(residual_norms(centred), _LEAST_RESIDUAL * norm)
        centred /= np.where(constant, 1.0, scale).astype(np.float32)
    if normalisation != "unit_norm":
        centred[:, constant] = 0.0
    return centred, int(constant.sum())


def residual_norms(centred: np.ndarray) -> np.ndarray:
    """Norm of what the strong components leave of each voxel of a demeaned series `(n_scans, n_voxels)`: `(n_voxels,)`.

    The leading principal maps, at most 30, each in units of its spread over the voxels, are set to zero where they are
    below 2.3 and put together again: MELODIC's robust variance normalisation (Beckmann & Smith 2004).
    """
    leading = np.linalg.eigh(_temporal_gram(centred))[1][:, ::-1][:, : min(_STRONG, len(centred) // 2)]
    leading = np.ascontiguousarray(leading, np.float32)
    maps = leading.T @ centred
    spread = maps.std(axis=1, keepdims=True)
    maps[np.abs(maps - maps.mean(axis=1, keepdims=True)) < _WEAK * spread] = 0.0
    norms = np.empty(centred.shape[1])
    for piece in _pieces(centred.shape[1]):
        rest = centred[:, piece] - leading @ maps[:, piece]
        norms[piece] = np.sqrt(np.einsum("tv,tv->v", rest, rest, dtype=np.float64))
    return norms


def participant_series(
    paths: Mapping[str, str | Path], mask: np.ndarray, normalisation: str = "unit_norm"
) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
    """The variance-normalised runs of one participant, one after another in time.

    Parameters
    ----------
    paths : scan -> denoised image
    mask : (n_x, n_y, n_z) bool
    normalisation : see `variance_normalise`

    Returns
    -------
    series : (n_scans, n_voxels) float32
    facts : for each scan its `n_volumes`, `n_constant_voxels`, and `n_not_finite_voxels` (with a value that is no number),
        which are among the constant ones

    Raises
    ------
    InputError
        Where two runs are the same.
    """
    runs, facts, seen = [], {}, {}
    for scan, path in paths.items():
        run, not_finite = finite_series(path, mask)
        run[:, not_finite] = 0.0  # zeros amid a series would be spikes
        run, n_constant = variance_normalise(run, normalisation)
        digest = hashlib.sha256(run).hexdigest() if len(paths) > 1 else ""
        if digest in seen:
            raise InputError(
                f"{seen[digest]} and {scan} are the same scan; expected two: "
                "copy the right one, or leave the duplicate out with dataset.set_aside"
            )
        seen[digest] = scan
        runs.append(run)
        facts[scan] = {
            "n_volumes": len(run),
            "n_constant_voxels": n_constant,
            "n_not_finite_voxels": int(not_finite.sum()),
        }
    return (runs[0] if len(runs) == 1 else np.concatenate(runs)), facts


def reduce_series(series: np.ndarray, n_dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Project a series onto the leading eigenvectors of its temporal Gram matrix.

    Parameters
    ----------
    series : (n_scans, n_voxels) float32, variance-normalised
    n_dimensions : int, how many to keep; fewer are kept where the rank is lower

    Returns
    -------
    reduced : (n_kept, n_voxels) float32, rows of squared norm equal to their eigenvalue
    eigenvalues : (n_scans,) float64, descending; of unit norms their sum is the number of voxels that are not constant (a run)
    """
    eigenvalues, vectors = np.linalg.eigh(_temporal_gram(series))
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    rank = int((eigenvalues > _RANK_TOLERANCE * eigenvalues.mean()).sum()) if eigenvalues.sum() > 0 else 0
    kept = np.ascontiguousarray(vectors[:, : min(n_dimensions, rank)].T, dtype=np.float32)
    return kept @ series, eigenvalues


def reduce_batch(
    *,
    bold: Mapping[str, Mapping[str, str | Path]],
    mask: str | Path,
    inclusion: str | Path,
    n_dimensions: int,
    folder: str | Path,
    normalisation: str = "unit_norm",
) -> None:
    """Reduce each participant of `bold` (participant -> scan -> image): `{participant}_reduced.npy` and `.json` in `folder`."""
    with writing_folder(folder) as temporary:
        for participant, images in bold.items():
            reduce_participant(
                bold=images,
                mask=mask,
                inclusion=inclusion,
                participant=participant,
                n_dimensions=n_dimensions,
                normalisation=normalisation,
                reduced=temporary / f"{participant}_reduced.npy",
                sidecar=temporary / f"{participant}_reduced.json",
            )


def reduce_participant(
    *,
    bold: Mapping[str, str | Path],
    mask: str | Path,
    inclusion: str | Path,
    participant: str,
    n_dimensions: int,
    reduced: str | Path,
    sidecar: str | Path,
    normalisation: str = "unit_norm",
) -> None:
    """Reduce the included scans of one participant; a participant without any gets an array of no rows."""
    inside, _ = read_mask(mask)
    kept = {scan: bold[scan] for scan in included_scans(inclusion, list(bold))}
    facts: dict = {}
    eigenvalues = np.zeros(0)
    array = np.zeros((0, int(inside.sum())), np.float32)
    if kept:
        series, facts = participant_series(kept, inside, normalisation)
        array, eigenvalues = reduce_series(series, n_dimensions)
        if not len(array):
            raise InputError(
                f"{participant}: every voxel of {', '.join(map(str, kept.values()))} is constant inside the group mask; "
                "expected a denoised series: leave the scan out with dataset.set_aside"
            )
        if len(array) < n_dimensions:
            print(
                f"{participant}: {len(array)} dimensions kept, the rank of the denoised series; {n_dimensions} were asked for"
            )
    write_array(reduced, array)
    write_sidecar(
        sidecar,
        fitted_on=[participant] if kept else [],
        sources=kept.values(),
        parameters={"reduction": n_dimensions, "normalisation": normalisation},
        scans=facts,
        n_dimensions=len(array),
        explained=float(eigenvalues[: len(array)].sum() / eigenvalues.sum()) if len(eigenvalues) else None,
    )


def _pieces(n_voxels: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n_voxels, _BLOCK))


def _temporal_gram(series: np.ndarray) -> np.ndarray:
    """Inner products of the volumes of `(n_scans, n_voxels)`, in float64; of a matrix and its own transpose, half is computed."""
    gram = np.zeros((len(series), len(series)))
    for piece in _pieces(series.shape[1]):
        block = series[:, piece].astype(np.float64)
        gram += block @ block.T
    return gram
