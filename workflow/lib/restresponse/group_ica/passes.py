"""The jobs of a pass over a cohort too large for one Gram matrix: the parts of a product, their sum and the next block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.files import digest_of, read_array, read_json, write_array
from restresponse.group_ica.krylov import multiply, next_block
from restresponse.group_ica.layout import beside
from restresponse.group_ica.merge import fitted_below, members_with_rows, records_below
from restresponse.provenance import write_sidecar


def multiply_part(
    *,
    reduced: Mapping[str, str | Path],
    block: str | Path,
    cohort: str,
    folds: str | Path | None,
    part: str | Path,
    sidecar: str | Path,
) -> None:
    """Write the part of the product of A and a block that is due to those of some participants who are in the cohort.

    Parameters
    ----------
    reduced : participant -> reduced maps
    block : rows to multiply, see `krylov`
    part : the part of the product to write, float32
    """
    fitted_on = members_with_rows(reduced, cohort, folds)
    rows = read_array(block).astype(np.float64)
    product, n_dimensions, variance = multiply(rows, (read_array(reduced[p], memory_map=False) for p in fitted_on))
    write_array(part, product.astype(np.float32))
    print(f"{cohort}: {len(rows)} rows multiplied by the maps of {len(fitted_on)} participants")
    write_sidecar(
        sidecar,
        fitted_on=fitted_on,
        sources=[block, *(reduced[name] for name in fitted_on), *([folds] if cohort != "all" else [])],
        cohort=cohort,
        n_dimensions=n_dimensions,
        variance=variance,
        sha256=digest_of(part),
    )


def finish_pass(
    *,
    parts: Sequence[str | Path],
    blocks: Sequence[str | Path],
    cohort: str,
    product: str | Path,
    block: str | Path,
    sidecar: str | Path,
) -> None:
    """Add the parts of a product in their order and write the sum and the block of the next pass.

    Parameters
    ----------
    parts : of the product of the last of `blocks`, with their sidecars beside them
    blocks : all blocks so far
    product, block : the sum and the next block to write, float32
    """
    total = np.zeros(read_array(parts[0]).shape)
    for path in parts:
        total += read_array(path, memory_map=False)
    facts = [read_json(path) for path in beside(parts)]
    write_array(product, total.astype(np.float32))
    following = next_block(total, [read_array(path) for path in blocks])
    write_array(block, following)
    print(f"{cohort}: {len(total)} rows multiplied, {len(following)} new directions")
    write_sidecar(
        sidecar,
        fitted_on=fitted_below(parts),
        sources=[*parts, *blocks],
        cohort=cohort,
        n_dimensions=sum(fact["n_dimensions"] for fact in facts),
        variance=sum(fact["variance"] for fact in facts),
        sha256=digest_of(block),
        sha256_of_product=digest_of(product),
        records=records_below(parts),
    )
