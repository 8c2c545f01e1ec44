"""The lock that a killed run leaves on its working directory: whose it is, and the command that clears it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def locked(folder: str | Path, command: Sequence[str]) -> str | None:
    """What to do about a lock on a working directory; None where there is none.

    Parameters
    ----------
    folder : the working directory
    command : words of the command that was given, `sys.argv`: the one that clears the lock differs from it by `--unlock`
    """
    folder = Path(folder).resolve()
    if not any((folder / ".snakemake" / "locks").glob("*.lock")):
        return None
    others = running_in(folder)
    if others:
        listed = ", ".join(map(str, others))
        return (
            f"{folder} is locked, and snakemake is at work there (process {listed}): another run, or jobs that a killed run left behind. "
            "Wait until it has ended."
        )
    program, *words = command
    start = [sys.executable, "-m", "snakemake"] if Path(program).name == "__main__.py" else [program]
    return (
        f"{folder} is locked, and no run is at work there on this machine: one was killed, or runs on another machine. If none does, clear "
        f"the lock with\n  {shlex.join([*start, '--unlock', *words])}\nand run again: what is whole is kept, what was being made is made anew."
    )


def running_in(folder: Path) -> list[int]:
    """Processes of snakemake on this machine that work in a folder, but this one and those that started it (Linux)."""
    own, process = set(), os.getpid()
    while process > 1:
        own.add(process)
        process = _parent(process)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) not in own and (entry / "cwd").resolve() == folder:
                found += [int(entry.name)] if b"snakemake" in (entry / "cmdline").read_bytes() else []
        except OSError:  # it has ended, or is another user's
            continue
    return sorted(found)


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
