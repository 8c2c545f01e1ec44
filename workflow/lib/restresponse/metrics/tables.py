"""The tables of one job: the cohort, motion by group, computing time, stability of the components over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from restresponse.batches import files_of
from restresponse.metrics.characteristics import write_cohort_table
from restresponse.metrics.motion import write_motion
from restresponse.metrics.stability import write_stability
from restresponse.metrics.timing import write_timing


def write_tables(
    *,
    participants: str | Path,
    labels: str | Path,
    inclusion: str | Path,
    quality: Sequence[str | Path],
    models: Sequence[str | Path],
    reference: str | Path,
    networks: str | Path,
    fold_components: Sequence[str | Path],
    fold_networks: Sequence[str | Path],
    scan_batches: Mapping[str, Sequence[str]],
    classifications: Sequence[tuple[str, str, str, str]],
    folds: Sequence[str],
    characteristics: Sequence[str],
    confidence: float,
    cohort_table: str | Path,
    motion: str | Path,
    timing: str | Path,
    component_stability: str | Path,
) -> None:
    """Write the four tables; lists of folders and files follow `scan_batches`, `classifications` and `folds`."""
    measures = files_of(quality, scan_batches, ".json")
    write_cohort_table(
        participants=participants,
        labels=labels,
        quality=measures,
        inclusion=inclusion,
        characteristics=characteristics,
        cohort_table=cohort_table,
    )
    write_motion(labels=labels, inclusion=inclusion, quality=measures, confidence=confidence, motion=motion)
    write_timing(sidecars=dict(zip(map(tuple, classifications), models, strict=True)), timing=timing)
    write_stability(
        reference=reference,
        networks=networks,
        folds=dict(zip(folds, fold_components, strict=True)),
        fold_networks=dict(zip(folds, fold_networks, strict=True)),
        component_stability=component_stability,
    )
