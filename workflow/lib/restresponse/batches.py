"""Batches of participants: the short steps of several participants share a job, and their files share a folder.

The graph of jobs grows with the batches there; the long steps (preprocessing) keep one job a scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def batches_of(participants: Sequence[str], size: int) -> dict[str, list[str]]:
    """Cut the sorted participants into batches: `batch-01` -> its participants."""
    ordered = sorted(participants)
    chunks = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    width = max(2, len(str(len(chunks))))
    return {f"batch-{index:0{width}d}": chunk for index, chunk in enumerate(chunks, start=1)}


def files_of(
    folders: Sequence[str | Path], batches: Mapping[str, Sequence[str]], ending: str, names: Sequence[str] | None = None
) -> dict[str, str]:
    """The file of each participant in the folders of the batches: `{folder}/{participant}{ending}`.

    Parameters
    ----------
    folders : folder of each batch, in the order of `batches`
    batches : batch -> its participants
    ending : e.g. `_maps.npy`
    names : participants wanted, in the order wanted; None: all of them

    Raises
    ------
    ValueError
        Where the numbers of folders and batches differ.
    """
    found = {
        participant: f"{folder}/{participant}{ending}"
        for folder, members in zip(folders, batches.values(), strict=True)
        for participant in members
    }
    return found if names is None else {name: found[name] for name in names}
