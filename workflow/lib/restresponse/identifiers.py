"""Whether a page may name people: with `report.identifiers: false`, nothing that tells who anyone is leaves for the page.

Participants and scans get running numbers that follow no name; free text and settings lose names and folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from restresponse.errors import InputError

_NAME = re.compile(r"(sub-[A-Za-z0-9]+)((?:_[a-z]+-[A-Za-z0-9]+)*)(?:_(?:bold|T1w))?")
_FOLDERS = re.compile(r"(?<![^\s'\"(=])(?:~?/|\.{1,2}/|…/)(?:[^\s'\"/]*/)*")  # all of a path but its last part
_PATHS = {
    ("dataset", "bids_dir"),
    ("dataset", "derivatives"),
    ("components", "template"),
    ("components", "template_labels"),
    ("containers", "python"),
    ("containers", "gpu"),
    ("containers", "spm"),
    ("containers", "fsl"),
    ("engines", "spm", "folder"),
    ("engines", "spm", "command"),
}


@dataclass(frozen=True)
class Identifiers:
    """What a page may tell of single people.

    Attributes
    ----------
    shown : `report.identifiers` of the config
    participants : everyone whose name must not be told, `sub-01` …
    folders : folders whose paths must not be told, as the config has them
    """

    shown: bool
    participants: Collection[str] = ()
    folders: Iterable[str | None] = ()
    _known: frozenset[str] = field(init=False, repr=False, default=frozenset())
    _inside: re.Pattern[str] = field(init=False, repr=False, default=_NAME)

    def __post_init__(self) -> None:
        given = {str(folder) for folder in (*self.folders, Path.cwd(), Path.home()) if folder}
        given |= {str(Path(folder).expanduser().absolute()) for folder in given}
        longest_first = sorted((folder.rstrip("/") for folder in given if PurePath(folder).name), key=len, reverse=True)
        inside = rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, longest_first))})(?=/)"
        object.__setattr__(self, "_known", frozenset(name.lower() for name in self.participants))
        object.__setattr__(self, "_inside", re.compile(inside))

    def names(self, scans: Mapping[str, float | None]) -> dict[str, str]:
        """What each scan is called on a page, in the order of the page: its own name, or `scan 1`, `scan 2` … by a measure.

        `scans` has the measure of each; scans without one come last.
        """
        if self.shown:
            return {scan: scan for scan in scans}
        ordered = sorted(scans, key=lambda scan: (not _is_number(scans[scan]), _is_number(scans[scan]) and scans[scan]))
        return {scan: f"scan {number}" for number, scan in enumerate(ordered, start=1)}

    def without(self, content: Any) -> Any:
        """The same content (text, lists, dicts) without names of participants and scans and without folders."""
        if self.shown:
            return content
        if isinstance(content, str):
            return self._bare(content)
        if isinstance(content, Mapping):
            return {self.without(key): self.without(value) for key, value in content.items()}
        return [self.without(item) for item in content] if type(content) in (list, tuple) else content

    def levels(self, rows: Sequence[Mapping[str, Any]], n_participants: int) -> list[dict[str, Any]]:
        """Rows of the table of characteristics; a column with a value for every second person or more is not listed by value."""
        counts = Counter(row["characteristic"] for row in rows if row["level"] is not None)
        shown: list[dict[str, Any]] = []
        for row in map(dict, rows):
            n_levels = counts[row["characteristic"]]
            if self.shown or n_levels <= max(2, n_participants / 2):
                shown.append(row)
            elif not shown or shown[-1]["characteristic"] != row["characteristic"]:
                shown.append(row | {"level": f"{n_levels} values, not listed", "responders": "", "nonresponders": ""})
        return shown

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config as a page shows it: paths by their last part alone, scans set aside by their count."""
        if self.shown:
            return dict(config)
        shown = self.without(_shortened(config, ()))
        aside = (config.get("dataset") or {}).get("set_aside")
        if aside:
            shown["dataset"]["set_aside"] = f"{len(aside)} (not named: report.identifiers is false)"
        return shown

    def check(self, page: str) -> None:
        """Raise where a page names a participant though it must not."""
        found = None if self.shown else next(filter(self._is_known, _NAME.finditer(page)), None)
        if found:
            raise InputError(
                f"the page would name {found[0]} though report.identifiers is false; that is a fault of restresponse and not of the data: "
                "report it, or set report.identifiers to true"
            )

    def _bare(self, text: str) -> str:
        text = _FOLDERS.sub("…/", self._inside.sub("…", text))
        return _NAME.sub(lambda found: _instead(found) if self._is_known(found) else found[0], text)

    def _is_known(self, found: re.Match[str]) -> bool:
        return found[1].lower() in self._known


def _instead(found: re.Match[str]) -> str:
    return "(a scan)" if found[2] else "(a participant)"


def _is_number(value: float | None) -> bool:
    return isinstance(value, int | float) and value == value


def _shortened(value: Any, place: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _shortened(item, (*place, str(key))) for key, item in value.items()}
    if place in _PATHS and isinstance(value, str) and "://" not in value:
        program = value.split()[0] if place[-1] == "command" else value
        return f"…/{PurePath(program).name}" if "/" in value else program
    return value
