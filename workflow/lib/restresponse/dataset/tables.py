"""The tables that later stages read: scans, participants and labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restresponse.dataset.participants import MISSING, is_included
from restresponse.dataset.reading import read_dataset
from restresponse.files import write_table

SCAN_COLUMNS = (
    "scan",
    "participant_id",
    "session",
    "task",
    "run",
    "bold",
    "space",
    "mask",
    "confounds",
    "anat",
    "t1w",
    "repetition_time",
    "slice_timing",
    "slice_timing_source",
    "phase_encoding_direction",
    "total_readout_time",
    "fieldmap",
    "n_volumes",
    "set_aside",
)


def digest_of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """A digest of scan rows: a rule that has it as a parameter reruns when a sidecar, a header or the list of scans changes."""
    return hashlib.sha256(json.dumps([dict(row) for row in rows], sort_keys=True).encode()).hexdigest()[:16]


def write_tables(
    bids_dir: str | Path | None,
    settings: Mapping[str, Any],
    scans: str | Path,
    participants: str | Path,
    unwarp: str = "auto",
) -> None:
    """Write the table of scans (those set aside too) and the table of participants, and print what a user should know.

    Parameters
    ----------
    bids_dir : root of the raw dataset; with `derivatives` it may be None.
    settings : the section `dataset` of the config.
    scans, participants : paths of the two tables.
    unwarp : `functional.unwarp` of the config.
    """
    import pandas as pd

    dataset = read_dataset(bids_dir, settings, unwarp)
    for note in dataset.notes:
        print(f"note: {note}")
    aside = [dict.fromkeys(SCAN_COLUMNS, MISSING) | row | {"set_aside": True} for row in dataset.set_aside]
    write_table(scans, pd.DataFrame([*dataset.scans, *aside], columns=SCAN_COLUMNS))
    columns = list(dataset.participants[0])
    rows = [
        {"participant_id": row["participant_id"], "included": is_included(row, settings["include"])}
        | {column: row[column] for column in columns if column not in ("participant_id", "included")}
        for row in dataset.participants
    ]
    write_table(participants, pd.DataFrame(rows))
