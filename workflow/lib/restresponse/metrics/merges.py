"""The audit of a group PCA made by merges and passes: every step holds the claimed participants and no others.

Each step records the digest of what it wrote and of what it read, and the sidecars that stay repeat the records of the
steps before, so that the chain from the reduced maps to the components can be followed though most files were temporary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from restresponse.group_ica.krylov import TOLERANCE
from restresponse.group_ica.layout import FOLDER, Layout, Record
from restresponse.metrics.evidence import Evidence, Sidecar

FOLDS = "results/folds/folds.tsv"
_SHOWN = 3  # problems told of one cohort


def merge_problem(evidence: Evidence, layout: Layout, cohort: str, order: int) -> str | None:
    """What is wrong with the merges and passes behind the components of a cohort, or None.

    Parameters
    ----------
    evidence : of the results folder
    layout : of the dataset and its config
    """
    problems = list(_problems(evidence, layout, cohort, order))
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more or None


def _problems(evidence: Evidence, layout: Layout, cohort: str, order: int) -> Iterator[str]:
    components = evidence.sidecar(evidence.at(f"{FOLDER}/{cohort}/order-{order}/components.json"))
    claimed = components.participants("fitted_on")
    recorded: dict[str, Mapping[str, Any]] = {}
    for path in layout.kept_sidecars(cohort):
        kept = evidence.sidecar(evidence.at(path))
        if kept.problem:
            yield f"{path}: {kept.problem}"
        recorded |= kept.content.get("records") or {}
        recorded[path] = kept.content
    made: dict[str, str] = {}
    for record in layout.records(cohort):
        if record.sidecar not in recorded:
            yield f"{record.sidecar} is on no record"
            continue
        sidecar = Sidecar(Path(record.sidecar), recorded[record.sidecar])
        yield from _record_problems(evidence, record, sidecar, claimed, made, cohort)
        base = record.sidecar.removesuffix(".json")
        made[f"{base}.npy"] = sidecar.content.get("sha256", "")
        made[base.removesuffix("next") + "product.npy"] = sidecar.content.get("sha256_of_product", "")
    arrays = [*layout.block_files(cohort, layout.passes), *layout.product_files(cohort)]
    yield from _source_problems(evidence, components, {source: made.get(source) for source in arrays})
    certificate = components.content.get("certificate") or {}
    for key in ("subspace", "eigenvalues"):
        if not 0 <= certificate.get(key, -1) <= TOLERANCE:
            yield f"the certificate says {certificate.get(key)} of the {key}; expected at most {TOLERANCE:.0e}"


def _record_problems(
    evidence: Evidence,
    record: Record,
    sidecar: Sidecar,
    claimed: frozenset[str],
    made: dict[str, str],
    cohort: str,
) -> Iterator[str]:
    """One step: on whom it was fitted and what it read."""
    below = claimed & frozenset(record.participants)
    odd = sidecar.participants("fitted_on") ^ below
    if odd:
        yield f"{record.sidecar} and the components were not fitted on the same participants ({', '.join(sorted(odd))})"
    expected = {source: made.get(source) for source in record.arrays}
    expected |= {path: evidence.digest(path) for name, path in record.reduced.items() if name in below}
    if record.reduced and cohort != "all":
        expected[FOLDS] = evidence.digest(FOLDS)
    yield from _source_problems(evidence, sidecar, expected)


def _source_problems(evidence: Evidence, sidecar: Sidecar, expected: dict[str, str | None]) -> Iterator[str]:
    surplus, lacking = sorted(sidecar.sources.keys() - expected), sorted(expected.keys() - sidecar.sources)
    if surplus:
        yield f"{sidecar.path} reads {', '.join(surplus)}"
    if lacking:
        yield f"{sidecar.path} does not name {', '.join(lacking)}"
    changed = [source for source, digest in expected.items() if sidecar.sources.get(source, digest) != digest]
    if changed:
        yield f"{sidecar.path}: {', '.join(changed)} was another file when it was read"
