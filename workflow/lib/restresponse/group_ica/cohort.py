"""The group ICA of one cohort: everyone, or everyone but the test participants of a fold. It reads no labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.errors import InputError
from restresponse.files import digest_of, read_array, read_json, write_array, write_image, write_table
from restresponse.group_ica.fastica import decompose
from restresponse.group_ica.group_pca import gram_matrix, leading_eigenpairs, principal_maps
from restresponse.group_ica.krylov import check_certificate, ritz_pairs
from restresponse.group_ica.merge import members_with_rows, too_few
from restresponse.images import read_mask
from restresponse.provenance import write_sidecar


@dataclass(frozen=True)
class GroupPCA:
    """The leading principal maps of a cohort's stacked reduced maps.

    Attributes
    ----------
    maps : (n_components, n_voxels) float64, squared norm of a row = its eigenvalue
    eigenvalues : (n_components,) float64, descending
    total_variance, n_dimensions : of the stack
    fitted_on : the cohort's participants
    sources : files that were read
    facts : for the sidecar: `group_pca`, `exact` or `merged`, and the certificate of the latter
    """

    maps: np.ndarray
    eigenvalues: np.ndarray
    total_variance: float
    n_dimensions: int
    fitted_on: list[str]
    sources: list[str | Path]
    facts: dict[str, Any] = field(default_factory=dict)


def exact_pca(
    *,
    cohort: str,
    reduced: Mapping[str, str | Path],
    tiles: Mapping[tuple[str, str], str | Path],
    members: Mapping[str, Sequence[str]],
    folds: str | Path | None,
    n_components: int,
) -> GroupPCA:
    """Group PCA of a cohort from the inner products of all pairs of its participants.

    Parameters
    ----------
    reduced : participant -> reduced maps; those with no rows have no included scan
    tiles, members : Gram tiles and the participants of each, see `gram_matrix`
    """
    fitted_on = members_with_rows(reduced, cohort, folds)
    if len(fitted_on) < 2:
        raise InputError(too_few(cohort, len(fitted_on)))
    sizes = {participant: len(read_array(path)) for participant, path in reduced.items()}
    gram = gram_matrix(tiles, members, sizes, fitted_on)
    total_variance, n_dimensions = float(np.trace(gram)), len(gram)
    # Equal maps have equal inner products, so that few files are read for their digests, mostly none.
    starts = np.cumsum([0, *(sizes[name] for name in fitted_on)])
    norms = [np.diag(gram)[start:stop].tobytes() for start, stop in itertools.pairwise(starts)]
    alike = [name for name, own in zip(fitted_on, norms, strict=True) if norms.count(own) > 1]
    refuse_duplicates({str(reduced[name]): digest_of(reduced[name]) for name in alike})
    eigenvalues, vectors = leading_eigenpairs(gram, n_components)
    maps = principal_maps(vectors, (read_array(reduced[participant]) for participant in fitted_on))
    sources = [*(reduced[participant] for participant in fitted_on), *([folds] if cohort != "all" else [])]
    return GroupPCA(maps, eigenvalues, total_variance, n_dimensions, fitted_on, sources, {"group_pca": "exact"})


def merged_pca(
    *,
    cohort: str,
    blocks: Sequence[str | Path],
    products: Sequence[str | Path],
    facts: Sequence[str | Path],
    n_components: int,
) -> GroupPCA:
    """Group PCA of a cohort from the blocks and products of its passes.

    Parameters
    ----------
    blocks, products, facts : of each pass: what was multiplied, the product, the sidecar of the product

    Raises
    ------
    InputError
        Where the certificate does not hold, or two participants have the same maps.
    """
    sidecars = [read_json(path) for path in facts]
    read = {file: digest for step in sidecars[-1]["records"].values() for file, digest in step["sources"].items()}
    refuse_duplicates({file: digest for file, digest in read.items() if file.endswith("_reduced.npy")})
    pairs = ritz_pairs([read_array(path) for path in blocks], [read_array(path) for path in products], n_components)
    check_certificate(pairs, cohort, len(products))
    return GroupPCA(
        pairs.maps,
        pairs.eigenvalues,
        sidecars[-1]["variance"],
        sidecars[-1]["n_dimensions"],
        sorted({name for sidecar in sidecars for name in sidecar["fitted_on"]}),
        [*blocks, *products],
        {
            "group_pca": "merged",
            "passes": len(products),
            "certificate": {
                "residual": pairs.residual,
                "subspace": pairs.subspace,
                "eigenvalues": pairs.accuracy,
            },
        },
    )


def refuse_duplicates(digests: Mapping[str, str]) -> None:
    """Raise `InputError` where reduced maps (path -> digest) of different participants are the same, to the bit."""
    alike: dict[str, list[str]] = {}
    for path, digest in digests.items():
        alike.setdefault(digest, []).append(Path(path).name.removesuffix("_reduced.npy"))
    problems = [f"{' and '.join(sorted(names))} have the same scan" for names in alike.values() if len(names) > 1]
    if problems:
        raise InputError(
            f"group ICA: {'; '.join(sorted(problems))}; expected a scan of its own for each participant: copy the right one, "
            "or leave the duplicate out with dataset.set_aside"
        )


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
    blocks: Sequence[str | Path] = (),
    products: Sequence[str | Path] = (),
    facts: Sequence[str | Path] = (),
    algorithm: str = "symmetric",
) -> None:
    """Fit the group components of a cohort and write them as array, image, table and sidecar.

    Parameters
    ----------
    reduced, tiles, members : of the exact path, see `exact_pca`
    blocks, products, facts : of the merged path, see `merged_pca`; it is taken where they are given
    seed : of the run; the restarts' starts do not depend on the cohort
    algorithm : of FastICA, see `decompose`
    """
    import pandas as pd

    if products:
        pca = merged_pca(cohort=cohort, blocks=blocks, products=products, facts=facts, n_components=n_components)
    else:
        pca = exact_pca(
            cohort=cohort, reduced=reduced, tiles=tiles, members=members, folds=folds, n_components=n_components
        )
    settings = {
        "algorithm": algorithm,
        "restarts": restarts,
        "subsample": subsample,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
    }
    found = decompose(pca.maps, seed=seed, **settings)
    print(
        f"{cohort}: {len(pca.fitted_on)} participants, {pca.n_dimensions} dimensions, {n_components} components explain "
        f"{pca.eigenvalues.sum() / pca.total_variance:.1%}; {found.n_restarts} restarts, {found.n_iterations} final iterations, "
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
        fitted_on=pca.fitted_on,
        sources=pca.sources,
        parameters={"n_components": n_components, **settings},
        seed=seed,
        cohort=cohort,
        **pca.facts,
        eigenvalues=pca.eigenvalues,
        total_variance=pca.total_variance,
        n_dimensions=pca.n_dimensions,
        n_iterations=found.n_iterations,
        n_restarts=found.n_restarts,
        stability=found.stability,
        mixing=found.mixing,
        converged=True,
    )
