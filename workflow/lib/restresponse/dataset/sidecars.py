"""Sidecars of images by the inheritance of BIDS: from the dataset's root down, each deeper file overrides key by key."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from restresponse.dataset.header import with_content
from restresponse.errors import InputError

_LARGEST = 20_000_000  # bytes of a JSON file; sidecars have some thousands


def entities_of(stem: str) -> dict[str, str]:
    """Entities of a BIDS name: `sub-01_task-rest_bold` gives `{"sub": "01", "task": "rest"}`."""
    return dict(part.split("-", 1) for part in stem.split("_") if "-" in part)


class Sidecars:
    """Reader of inherited sidecars that reads each JSON file once."""

    def __init__(self, bids_dir: Path) -> None:
        self._root = bids_dir
        self._listed: dict[tuple[Path, str], list[tuple[Path, dict[str, str]]]] = {}

    def of(self, folder: Path, stem: str) -> tuple[dict[str, Any], list[Path]]:
        """Merge the sidecars that apply to the image `stem` (`sub-01_task-rest_bold`) in `folder`.

        Returns
        -------
        content : dict, empty where no sidecar applies
        files : the sidecars that apply, from the root down

        Raises
        ------
        InputError
            Where a sidecar that applies is no JSON object.
        """
        wanted, content, files = entities_of(stem), {}, []
        suffix = stem.rsplit("_", 1)[-1]
        level = self._root
        for part in ("", *folder.relative_to(self._root).parts):
            level = level / part
            for path, entities in self._in(level, suffix):
                if entities.items() <= wanted.items():
                    content |= _read(path)
                    files.append(path)
        return content, files

    def _in(self, folder: Path, suffix: str) -> list[tuple[Path, dict[str, str]]]:
        """Sidecars of `suffix` in one folder, those with the fewest entities first."""
        if (folder, suffix) not in self._listed:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(f"{suffix}.json"))
            fitting = [name for name in names if name == f"{suffix}.json" or name.endswith(f"_{suffix}.json")]
            found = [
                (folder / name, entities_of(name.removesuffix(".json"))) for name in fitting if not name.startswith(".")
            ]
            self._listed[folder, suffix] = sorted(found, key=lambda item: len(item[1]))
        return self._listed[folder, suffix]


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file of the dataset, which holds one object.

    Raises
    ------
    InputError
        Absent, not fetched, too large or too deep to be a sidecar, no JSON, or no object.
    """
    with_content(path)
    if path.stat().st_size > _LARGEST:
        raise InputError(
            f"{path.stat().st_size / 1e6:.0f} MB; expected a JSON file of at most {_LARGEST / 1e6:.0f} MB: is it another kind of file?"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise InputError("JSON with too many lists or objects inside one another; correct it") from error
    except ValueError as error:
        raise InputError(f"not JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise InputError(f"holds a {type(content).__name__}; expected a JSON object of keys and values: correct it")
    return content


@functools.lru_cache(maxsize=64)  # those of the upper levels are asked for again and again
def _read_once(path: Path, changed: int) -> dict[str, Any]:
    return read_object(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        with_content(path)
        return _read_once(path, path.stat().st_mtime_ns)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
