"""The group ICA of one cohort: everyone, or everyone but the test participants of a fold. It reads no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_array, read_table, write_array, write_image, write_table
from restresponse.group_ica.fastica import decompose
from restresponse.group_ica.group_pca import gram_matrix, leading_eigenpairs, principal_maps
from restresponse.images import read_mask
from restresponse.provenance import write_sidecar


def cohort_members(participants: Sequence[str], cohort: str, folds: str | Path | None) -> list[str]:
    """Participants a cohort is fitted on: all of them for `all`, else all but the fold's test participants.

    A participant without a label is in no fold's test part and so in every cohort.
    """
    if cohort == "all":
        return sorted(participants)
    table = read_table(folds)
    tested = set(table.loc[table["fold"] == cohort, "participant_id"])
    if not tested:
        raise InputError(
            f"{folds} has no fold {cohort!r}; it has {', '.join(sorted(table['fold'].unique()))}: run folds again"
        )
    return sorted(set(participants) - tested)


def fit_cohort(
    *,
    cohort: str,
    reduced: Mapping[str, str | Path],
    tiles: Mapping[tuple[str, str], str | Path],
    members: Mapping[str, Sequence[str]],
    folds: str | Path | None,
    mask: str | Path,
    n_components: int,
    restarts: int,
    subsample: int,
    tolerance: float,
    max_iterations: int,
    seed: int,
    components: str | Path,
    image: str | Path,
    table: str | Path,
    sidecar: str | Path,
) -> None:
    """Fit the group components of a cohort and write them as array, image, table and sidecar.

    Parameters
    ----------
    reduced : participant -> reduced maps; those with no rows have no included scan
    tiles, members : Gram tiles and the participants of each, see `gram_matrix`
    seed : of the run; the restarts' starts do not depend on the cohort
    """
    import pandas as pd

    sizes = {participant: len(read_array(path)) for participant, path in reduced.items()}
    fitted_on = cohort_members([p for p, size in sizes.items() if size], cohort, folds)
    if len(fitted_on) < 2:
        raise InputError(
            f"group ICA of {cohort}: {len(fitted_on)} participant(s) with an included scan; expected at least 2: "
            "results/quality/inclusion.tsv says which scans were left out and why"
        )
    gram = gram_matrix(tiles, members, sizes, fitted_on)
    eigenvalues, vectors = leading_eigenpairs(gram, n_components)
    maps = principal_maps(vectors, [read_array(reduced[participant]) for participant in fitted_on])
    found = decompose(
        maps, seed=seed, restarts=restarts, subsample=subsample, tolerance=tolerance, max_iterations=max_iterations
    )
    print(
        f"{cohort}: {len(fitted_on)} participants, {len(gram)} dimensions, {n_components} components explain "
        f"{eigenvalues.sum() / np.trace(gram):.1%}; {found.n_restarts} restarts, {found.n_iterations} final iterations, "
        f"least stability {found.stability.min():.3f}"
    )
    inside, affine = read_mask(mask)
    volume = np.zeros((*inside.shape, n_components), np.float32)
    volume[inside] = found.sources.T
    write_array(components, found.sources.astype(np.float32))
    write_image(image, volume, affine)
    write_table(
        table,
        pd.DataFrame(
            {
                "component": np.arange(1, n_components + 1),
                "stability": found.stability,
                "cluster_size": found.cluster_size,
                "explained_variance": found.explained,
            }
        ),
    )
    write_sidecar(
        sidecar,
        fitted_on=fitted_on,
        sources=[*(reduced[p] for p in fitted_on), *([folds] if cohort != "all" else [])],
        parameters={
            "n_components": n_components,
            "restarts": restarts,
            "subsample": subsample,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
        },
        seed=seed,
        cohort=cohort,
        eigenvalues=eigenvalues,
        total_variance=float(np.trace(gram)),
        n_dimensions=len(gram),
        n_iterations=found.n_iterations,
        n_restarts=found.n_restarts,
        stability=found.stability,
        converged=True,
    )
