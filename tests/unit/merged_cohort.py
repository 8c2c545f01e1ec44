"""The merged path of group PCA on disk: reduced maps as the workflow lays them out, and its jobs one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.batches import batches_of, files_of
from restresponse.files import write_array
from restresponse.group_ica.cohort import GroupPCA, exact_pca, merged_pca
from restresponse.group_ica.group_pca import compute_tile
from restresponse.group_ica.layout import Layout, beside
from restresponse.group_ica.merge import merge_node, start_passes
from restresponse.group_ica.passes import finish_pass, multiply_part

FOLDS = "results/folds/folds.tsv"


def lay_out(reduced: Mapping[str, np.ndarray], *, batch: int, **settings: Any) -> Layout:
    """Write reduced maps (participant -> array) under the working directory; the layout of their group PCA."""
    layout, paths = lay_out_paths(list(reduced), batch=batch, **settings)
    for participant, path in paths.items():
        write_array(path, reduced[participant])
    return layout


def lay_out_paths(participants: list[str], *, batch: int, **settings: Any) -> tuple[Layout, dict[str, str]]:
    """The layout of some participants' group PCA, and where it looks for their reduced maps."""
    layout = Layout.of(batches_of(participants, batch), {"exact_limit": 10**6, "passes": 6, **settings})
    return layout, reduced_files(layout)


def reduced_files(layout: Layout) -> dict[str, str]:
    """Participant -> reduced maps."""
    folders = [f"results/group_ica/participants/{batch}" for batch in layout.batches]
    return files_of(folders, layout.batches, "_reduced.npy")


def run_passes(layout: Layout, cohort: str = "all", n_dimensions: int = 16) -> None:
    """Every job of the merged path of a cohort up to its components."""
    for _, job in merged_jobs(layout, cohort, n_dimensions):
        job()


def merged_jobs(
    layout: Layout, cohort: str = "all", n_dimensions: int = 16
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The rule and the call of every job of the merged path of a cohort, in an order they can be run in."""
    whose = {"cohort": cohort, "folds": None if cohort == "all" else FOLDS}
    for node in [*layout.parts, *layout.nodes]:
        path = f"results/group_ica/{cohort}/merged/{node}.npy"
        made = {"n_dimensions": n_dimensions, "node": path, "sidecar": beside([path])[0]}
        maps, batches = layout.merged_by(node, cohort), layout.batches_of(node)
        yield "group_ica_merge", partial(merge_node, maps=maps, batches=batches, **whose, **made)
    block = layout.block_files(cohort, 1)[0]
    made = {"n_dimensions": n_dimensions, "block": block, "sidecar": beside([block])[0]}
    yield "group_ica_start", partial(start_passes, nodes=layout.top_files(cohort), cohort=cohort, **made)
    for number, product in enumerate(layout.product_files(cohort), start=1):
        blocks, parts = layout.block_files(cohort, number), layout.part_files(cohort, number)
        for part, path in zip(layout.parts, parts, strict=True):
            made = {"block": blocks[-1], "part": path, "sidecar": beside([path])[0]}
            yield "group_ica_multiply", partial(multiply_part, reduced=layout.reduced_of(part), **whose, **made)
        block = product.replace("product.npy", "next.npy")
        made = {"product": product, "block": block, "sidecar": beside([block])[0]}
        yield "group_ica_finish", partial(finish_pass, parts=parts, blocks=blocks, cohort=cohort, **made)


def merged(layout: Layout, n_components: int, cohort: str = "all") -> GroupPCA:
    """The group PCA of a cohort whose passes were run."""
    files = {kind: layout.inputs(kind, cohort) for kind in ("blocks", "products", "facts")}
    return merged_pca(cohort=cohort, n_components=n_components, **files)


def exact(layout: Layout, n_components: int, cohort: str = "all") -> GroupPCA:
    """The group PCA of the same cohort from all inner products."""
    reduced, tiles = reduced_files(layout), {}
    for a in layout.batches:
        for b in (b for b in layout.batches if a <= b):
            tiles[a, b] = Path("results/group_ica/gram") / f"{a}_{b}.npy"
            rows, columns = ([reduced[name] for name in layout.batches[batch]] for batch in (a, b))
            compute_tile(first=rows, second=columns, tile=tiles[a, b])
    return exact_pca(
        cohort=cohort,
        reduced=reduced,
        tiles=tiles,
        members=layout.batches,
        folds=None if cohort == "all" else FOLDS,
        n_components=n_components,
    )
