"""A participant's time courses and maps of a cohort's group maps: by dual regression, or by back-projection of the group ICA.

Method of dual regression: Beckmann et al. 2009; Nickerson et al. 2017. The series are the ones group ICA reads (each voxel of each run
demeaned), scaled to unit variance, so that a map does not depend on the scanner's units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_array, read_json, read_table, write_array, write_table, writing_folder
from restresponse.group_ica.reconstruction import gica1, gica3
from restresponse.group_ica.reduction import participant_series, reduce_series, variance_normalise
from restresponse.images import included_scans, masked_series, read_mask
from restresponse.provenance import write_sidecar


def spatial_gram(components: np.ndarray) -> np.ndarray:
    """Inner products of group maps `(n_components, n_voxels)` demeaned over voxels: `(n_components, n_components)`."""
    centred = _demeaned_maps(components)
    return centred @ centred.T


def spatial_regression(series: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Stage 1: the group maps as spatial regressors, both demeaned over voxels.

    Parameters
    ----------
    series : (n_scans, n_voxels) array
    components : (n_components, n_voxels) array

    Returns
    -------
    time_courses : (n_scans, n_components) float64

    Raises
    ------
    InputError
        Where group maps depend on one another.
    """
    centred = _demeaned_maps(components)
    gram = centred @ centred.T
    if np.linalg.matrix_rank(gram, hermitian=True) < len(gram):
        raise InputError(f"the {len(gram)} group maps are linearly dependent; lower group_ica.n_components")
    # Demeaned maps make the volumes' own means drop out of the product.
    return np.linalg.solve(gram, _product(centred, series)).T


def temporal_regression(
    series: np.ndarray, time_courses: np.ndarray, *, normalise: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Stage 2: the time courses as temporal regressors, series and time courses demeaned in time.

    Parameters
    ----------
    series : (n_scans, n_voxels) array, demeaned in time
    time_courses : (n_scans, n_components) array
    normalise : bool, scale the time courses to unit variance, so that a map holds its network's amplitude

    Returns
    -------
    maps : (n_components, n_voxels) float32
    residual : (n_voxels,) float32, residual sum of squares of each voxel
    """
    design = _design(time_courses, normalise)
    gram = design.T @ design
    maps = np.linalg.solve(gram, _product(design.T, series.T))
    explained = np.einsum("kv,kv->v", maps, gram @ maps)
    total = np.einsum("tv,tv->v", series, series, dtype=np.float64)
    return maps.astype(np.float32), np.maximum(total - explained, 0.0).astype(np.float32)


def z_maps(
    maps: np.ndarray, residual: np.ndarray, time_courses: np.ndarray, dof: int, *, normalise: bool = True
) -> np.ndarray:
    """Maps `(n_components, n_voxels)` over their standard error, with `dof` residual degrees of freedom; 0 where it is 0."""
    design = _design(time_courses, normalise)
    if dof < 1:
        raise InputError(
            f"{dof} residual degrees of freedom after dual regression; expected at least 1: use fewer components"
        )
    error = np.sqrt(np.diag(np.linalg.inv(design.T @ design))[:, None] * (residual[None] / dof))
    return np.divide(maps, error, out=np.zeros_like(maps, dtype=np.float64), where=error > 0)


def restriction(
    time_courses: np.ndarray, gram: np.ndarray, selected: Sequence[int] | np.ndarray, *, normalise: bool = True
) -> np.ndarray:
    """The matrix A that makes of a participant's maps those of dual regression on the selected group maps alone.

    Both stages are least squares, so the maps refitted on a subset are linear in the maps of the whole set: exactly
    ``A @ maps``, without the series.

    Parameters
    ----------
    time_courses : (n_scans, n_components) array, of stage 1 on all components
    gram : (n_components, n_components) array, `spatial_gram` of the group maps
    selected : (n_selected,) indices
    normalise : as the maps were made

    Returns
    -------
    A : (n_selected, n_components) float64
    """
    stage_one = _stage_one_restriction(gram, selected)
    full = _design(time_courses, normalise)
    part = _design(time_courses @ stage_one.T, normalise)
    return np.linalg.solve(part.T @ part, part.T @ full)


def restrictions(
    covariances: np.ndarray, gram: np.ndarray, selected: Sequence[int] | np.ndarray, *, normalise: bool = True
) -> np.ndarray:
    """`restriction` of many participants at once, from the covariances of their time courses.

    Parameters
    ----------
    covariances : (n_participants, n_components, n_components) array
    gram, selected, normalise : see `restriction`

    Returns
    -------
    A : (n_participants, n_selected, n_components) float64
    """
    stage_one = _stage_one_restriction(gram, selected)
    crossed = stage_one @ covariances
    inside = crossed @ stage_one.T
    spreads = [np.sqrt(np.einsum("nkk->nk", matrix)) for matrix in (inside, covariances)]
    if not all(np.all(spread > 0) for spread in spreads):
        raise InputError("a component has a constant time course; expected varying ones: make its maps again")
    matrices = np.linalg.solve(inside, crossed)
    return matrices * spreads[0][:, :, None] / spreads[1][:, None, :] if normalise else matrices


def restricted_time_courses(
    time_courses: np.ndarray, gram: np.ndarray, selected: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Time courses `(n_scans, n_selected)` of stage 1 on the selected group maps alone, from those of all."""
    return time_courses @ _stage_one_restriction(gram, selected).T


def regress_batch(
    *,
    bold: Mapping[str, Mapping[str, str | Path]],
    measures: str | Path,
    folder: str | Path,
    **common: Any,
) -> None:
    """Dual regression of each participant of `bold` (participant -> scan -> image) on a cohort's components.

    In `folder`: `{participant}_maps.npy`, `_maps.json`, `_residual.npy`, `_timecourses.tsv`. `measures` is the folder of the
    scans' quality measures; `common` are the further arguments of `regress_participant`.
    """
    with writing_folder(folder) as temporary:
        for participant, images in bold.items():
            stem = temporary / participant
            regress_participant(
                bold=images,
                measures={scan: f"{measures}/{scan}.json" for scan in images},
                participant=participant,
                maps=f"{stem}_maps.npy",
                residual=f"{stem}_residual.npy",
                time_courses=f"{stem}_timecourses.tsv",
                sidecar=f"{stem}_maps.json",
                **common,
            )


def restrict_batch(*, all_maps: str | Path, participants: Sequence[str], folder: str | Path, **common: Any) -> None:
    """Dual regression of each participant on the selected components alone, from the folder of the maps on all of them.

    In `folder`: `{participant}_maps.npy`, `_maps.json`, `_timecourses.tsv`. `common` are the further arguments of
    `restrict_participant`.
    """
    with writing_folder(folder) as temporary:
        for participant in participants:
            stem, everything = temporary / participant, f"{all_maps}/{participant}"
            restrict_participant(
                all_maps=f"{everything}_maps.npy",
                all_time_courses=f"{everything}_timecourses.tsv",
                all_facts=f"{everything}_maps.json",
                maps=f"{stem}_maps.npy",
                time_courses=f"{stem}_timecourses.tsv",
                sidecar=f"{stem}_maps.json",
                **common,
            )


def regress_participant(
    *,
    bold: Mapping[str, str | Path],
    measures: Mapping[str, str | Path],
    mask: str | Path,
    inclusion: str | Path,
    components: str | Path,
    component_facts: str | Path,
    participant: str,
    normalise_time_courses: bool,
    maps: str | Path,
    residual: str | Path,
    time_courses: str | Path,
    sidecar: str | Path,
    method: str = "dual_regression",
    normalisation: str = "unit_norm",
    reduction: int = 64,
) -> None:
    """Time courses and maps of one participant's included scans; empty files' worth where there is none.

    Parameters
    ----------
    method : `dual_regression`, or `gica1` or `gica3` (see `group_ica.reconstruction`), which read the series as reduced for
        group ICA, with its `normalisation` and `reduction`
    normalise_time_courses : scale them to unit variance before the maps; GICA3's maps are not made from time courses
    residual : residual sum of squares of each voxel, for `z_maps`; of GICA3, which is no regression, it has no voxels
    """
    inside, _ = read_mask(mask)
    group = read_array(components).astype(np.float64)
    facts = read_json(component_facts)
    kept = included_scans(inclusion, list(bold))
    courses = np.zeros((0, len(group)))
    found, rest = np.zeros((0, group.shape[1]), np.float32), np.zeros(0, np.float32)
    dof = 0
    if kept:
        images = {scan: bold[scan] for scan in kept}
        if method == "dual_regression":
            runs = [_unit_variance(masked_series(path, inside)) for path in images.values()]
            series = runs[0] if len(runs) == 1 else np.concatenate(runs)
            courses = spatial_regression(series, group)
            found, rest = temporal_regression(series, courses, normalise=normalise_time_courses)
        else:
            series, _ = participant_series(images, inside, normalisation)
            courses, found, rest = _reconstructed(series, group, facts, method, reduction, normalise_time_courses)
        dof = int(sum(read_json(measures[scan])["dof_residual"] for scan in kept)) - len(group)
    write_array(maps, found)
    write_array(residual, rest)
    _write_time_courses(time_courses, courses, range(1, len(group) + 1))
    write_sidecar(
        sidecar,
        fitted_on=facts["fitted_on"],
        applied_to=[participant] if kept else [],
        sources=[components, *(bold[scan] for scan in kept)],
        parameters={"method": method, "normalise_time_courses": normalise_time_courses},
        scans=kept,
        dof_residual=dof,
    )


def read_z_maps(folder: str | Path, participant: str) -> np.ndarray:
    """A participant's maps `(n_components, n_voxels)` over their standard errors, from the folder of its batch.

    Raises `InputError` where the maps are GICA3's, which are no regression and have none.
    """
    stem = f"{folder}/{participant}"
    facts, residual = read_json(f"{stem}_maps.json"), read_array(f"{stem}_residual.npy")
    if facts["parameters"]["method"] == "gica3" and facts["applied_to"]:
        raise InputError(
            f"{stem}_maps.npy is GICA3's, which has no standard errors; expected dual_regression.method dual_regression or gica1"
        )
    normalise = facts["parameters"]["normalise_time_courses"]
    courses = read_time_courses(f"{stem}_timecourses.tsv")
    return z_maps(read_array(f"{stem}_maps.npy"), residual, courses, facts["dof_residual"], normalise=normalise)


def restrict_participant(
    *,
    all_maps: str | Path,
    all_time_courses: str | Path,
    all_facts: str | Path,
    components: str | Path,
    selection: str | Path,
    selection_facts: str | Path,
    threshold: float,
    normalise: bool,
    maps: str | Path,
    time_courses: str | Path,
    sidecar: str | Path,
) -> None:
    """Dual regression of one participant on the selected components alone, from the maps on all of them (exact)."""
    table = read_table(selection, text_columns=("network", "direction"))
    selected = np.flatnonzero(table[f"selected_p-{threshold}"].astype(str).str.lower() == "true")
    everything, courses = read_array(all_maps), read_time_courses(all_time_courses)
    found = np.zeros((0, everything.shape[1]), np.float32)
    part = np.zeros((0, len(selected)))
    if len(everything):
        gram = spatial_gram(read_array(components))
        matrix = restriction(courses, gram, selected, normalise=normalise)
        found = (matrix @ everything.astype(np.float64)).astype(np.float32)
        part = restricted_time_courses(courses, gram, selected)
    facts, choice = read_json(all_facts), read_json(selection_facts)
    write_array(maps, found)
    _write_time_courses(time_courses, part, selected + 1)
    write_sidecar(
        sidecar,
        fitted_on=sorted({*facts["fitted_on"], *choice["fitted_on"]}),
        labels_of=choice["labels_of"],
        applied_to=facts["applied_to"],
        sources=[components, selection, all_maps],
        parameters={"normalise_time_courses": normalise, "p": threshold},
        components=selected + 1,
    )


def _unit_variance(series: np.ndarray) -> np.ndarray:
    normalised, _ = variance_normalise(series)
    normalised *= np.float32(np.sqrt(len(normalised)))
    return normalised


def _reconstructed(
    series: np.ndarray, group: np.ndarray, facts: Mapping[str, Any], method: str, reduction: int, normalise: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time courses, maps and residual sums of squares of GICA1 or GICA3 from a participant's series."""
    reduced, eigenvalues = reduce_series(series, reduction)
    basis = series @ (reduced.T / eigenvalues[: len(reduced)].astype(np.float32))  # (n_scans, r), orthonormal
    if method == "gica3":
        fitted = np.asarray(facts["mixing"]), np.asarray(facts["eigenvalues"]), len(facts["fitted_on"])
        weights, maps = gica3(reduced, group, *fitted)
        return basis @ weights.T, maps.astype(np.float32), np.zeros(0, np.float32)
    weights, maps = gica1(reduced, group)
    explained = np.einsum("kv,kv->v", maps, weights @ weights.T @ maps)
    residual = np.maximum(np.einsum("tv,tv->v", series, series, dtype=np.float64) - explained, 0.0)
    courses = basis @ weights.T
    if normalise:
        maps *= courses.std(axis=0)[:, None]
    return courses, maps.astype(np.float32), residual.astype(np.float32)


def read_time_courses(path: str | Path) -> np.ndarray:
    """Time courses `(n_scans, n_components)` from their table."""
    return read_table(path, text_columns=()).to_numpy(np.float64)


def _write_time_courses(path: str | Path, courses: np.ndarray, numbers: Sequence[int] | np.ndarray) -> None:
    import pandas as pd

    write_table(path, pd.DataFrame(courses, columns=[f"component_{number:02d}" for number in numbers]))


def _demeaned_maps(components: np.ndarray) -> np.ndarray:
    components = np.asarray(components, np.float64)
    return components - components.mean(axis=1, keepdims=True)


def _stage_one_restriction(gram: np.ndarray, selected: Sequence[int] | np.ndarray) -> np.ndarray:
    index = np.asarray(selected, int)
    return np.linalg.solve(gram[np.ix_(index, index)], gram[index])


def _design(time_courses: np.ndarray, normalise: bool) -> np.ndarray:
    centred = time_courses - time_courses.mean(axis=0)
    if not normalise:
        return centred
    spread = centred.std(axis=0)
    if not np.all(spread > 0):
        raise InputError(
            f"component {int(np.argmin(spread)) + 1} has a constant time course; expected a varying one: "
            "does the scan overlap the group mask?"
        )
    return centred / spread


def _product(left: np.ndarray, right: np.ndarray, block: int = 16384) -> np.ndarray:
    """`left @ right.T` summed in float64 over blocks of the shared axis, for a large float32 `right`."""
    result = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], block):
        result += left[:, start : start + block] @ right[:, start : start + block].astype(np.float64).T
    return result
