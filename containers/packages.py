"""What an image installs: the pinned set of envs/requirements.txt, without Snakemake and what only Snakemake needs.

    python containers/packages.py STAGE ENVS

prints the lines of a requirements file. The set is derived from uv's `# via` lines, so that envs/ stays the one source.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LEFT_OUT = re.compile(r"snakemake(-.*)?")  # the host's own is bound into the container


def entries_of(text: str) -> list[tuple[str, str, set[str]]]:
    """Name, requirement line and the names of what asks for it, of each entry of a file that `uv pip compile` made."""
    entries: list[tuple[str, str, set[str]]] = []
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9][\w.-]*)(\[.*\])?==", line):
            entries.append((match[1].lower(), line, set()))
        elif entries and (match := re.match(r"    #(?: via)? +(?!via$)(.+)", line)):
            entries[-1][2].add(match[1].strip().lower())
    return entries


def needed(entries: list[tuple[str, str, set[str]]]) -> list[tuple[str, str]]:
    """Name and line of the entries that something other than what is left out asks for."""
    dropped = {name for name, _, _ in entries if LEFT_OUT.fullmatch(name)}
    while True:
        further = {name for name, _, asked_by in entries if name not in dropped and asked_by and asked_by <= dropped}
        if not further:
            return [(name, line) for name, line, _ in entries if name not in dropped]
        dropped |= further


def packages(stage: str, environments: Path) -> list[str]:
    """The requirement lines of a stage, `python` or `gpu`."""
    chosen = needed(entries_of((environments / "requirements.txt").read_text(encoding="utf-8")))
    if stage == "gpu":
        with_cuda = entries_of((environments / "requirements-gpu.txt").read_text(encoding="utf-8"))
        chosen = [(name, line) for name, line in chosen if name not in ("tensorflow", "tensorflow-cpu")]
        chosen += [(name, line) for name, line, _ in with_cuda]
    return sorted({line for _, line in chosen})


if __name__ == "__main__":
    print(*packages(sys.argv[1], Path(sys.argv[2])), sep="\n")
