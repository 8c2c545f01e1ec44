"""participants.tsv as people write it: byte order marks, carriage returns, stray spaces and blank lines are read; the rest is a problem."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restresponse.dataset.header import with_content
from restresponse.dataset.problems import Problems
from restresponse.errors import InputError

MISSING = "n/a"
_MISSING_AS_WRITTEN = {"", "n/a", "na", "nan", "null", "none"}
_LARGEST = 100_000_000  # bytes of participants.tsv
_PARTICIPANT = re.compile(r"sub-[A-Za-z0-9]+")


def read_participants(path: str | Path, problems: Problems) -> list[dict[str, str]]:
    """Read participants.tsv: one dict a row, every value as text without surrounding spaces, `n/a` where the cell is empty.

    What is wrong is added to `problems`; the rows that can be read are returned all the same.
    """
    path = Path(path)
    try:
        with_content(path)
        if path.stat().st_size > _LARGEST:
            raise InputError(
                f"{path.stat().st_size / 1e6:.0f} MB; expected a table of at most {_LARGEST / 1e6:.0f} MB: is it another kind of file?"
            )
        text = path.read_bytes().decode("utf-8-sig")
        lines = [
            [cell.strip() for cell in cells] for cells in csv.reader(io.StringIO(text, newline=None), delimiter="\t")
        ]
    except UnicodeDecodeError:
        problems.add(
            str(path),
            "not UTF-8 text (saved by a spreadsheet program?); expected tab-separated UTF-8: save it again as such",
        )
        return []
    except csv.Error as error:
        problems.add(
            str(path), f"no table that can be read ({error}; a quotation mark without its fellow?); correct it"
        )
        return []
    except InputError as error:
        problems.add(str(path), str(error))
        return []
    numbered = [(number, cells) for number, cells in enumerate(lines, start=1) if any(cells)]
    if len(numbered) < 2:
        problems.add(
            str(path), "no participant in it; expected a header with participant_id and one line a participant"
        )
        return []
    columns = numbered[0][1]
    while columns and not columns[-1]:  # tabs at the end of the header
        columns.pop()
    if not _usable_header(path, columns, problems):
        return []
    rows: list[dict[str, str]] = []
    for number, cells in numbered[1:]:
        while len(cells) > len(columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(columns):
            problems.add(
                f"{path}, line {number}",
                f"{len(cells)} cells where the header has {len(columns)}; expected one cell a column, separated by one tab",
            )
            continue
        rows.append({column: cell or MISSING for column, cell in zip(columns, cells, strict=True)})
    _check_identifiers(path, rows, problems)
    return rows


def _usable_header(path: Path, columns: list[str], problems: Problems) -> bool:
    if "participant_id" not in columns:
        separator = next(
            (
                name
                for name, mark in (("commas", ","), ("semicolons", ";"), ("spaces", " "))
                if len(columns) == 1 and mark in columns[0]
            ),
            None,
        )
        if separator:
            problems.add(
                str(path),
                f"the columns are separated by {separator}; expected tabs: save it again as tab-separated text",
            )
        else:
            near = difflib.get_close_matches("participant_id", [c.lower() for c in columns], n=1, cutoff=0.5)
            hint = f"; rename {columns[[c.lower() for c in columns].index(near[0])]}" if near else ""
            problems.add(str(path), f"no column participant_id; found {', '.join(columns)}{hint}")
        return False
    repeated = sorted({column for column in columns if columns.count(column) > 1 or not column})
    if repeated:
        problems.add(
            str(path),
            f"columns without a name or with the same name ({', '.join(map(repr, repeated))}); expected each name once",
        )
    return not repeated


def _check_identifiers(path: Path, rows: list[dict[str, str]], problems: Problems) -> None:
    identifiers = [row["participant_id"] for row in rows]
    odd = sorted({name for name in identifiers if not _PARTICIPANT.fullmatch(name)})
    if odd:
        problems.add(
            str(path),
            f"participant_id {', '.join(odd[:8])}{' …' if len(odd) > 8 else ''}; expected sub- and letters or digits, e.g. sub-01",
        )
    twice = sorted(name for name, times in Counter(identifiers).items() if times > 1)
    if twice:
        problems.add(
            str(path),
            f"{', '.join(twice)} on more than one line; expected one line a participant: put visits into columns",
        )


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value: empty, `n/a` or one of the marks that programs write for it."""
    return cell.strip().lower() in _MISSING_AS_WRITTEN


def same_value(cell: str, value: Any) -> bool:
    """Whether a cell of the table holds a value of the config, compared as text; `1`, `1.0` and 1 are the same number."""
    if isinstance(value, bool):  # YAML reads yes, no, on and off as true and false
        return cell.lower() in (("true", "yes", "on") if value else ("false", "no", "off"))
    if cell == str(value).strip():
        return True
    try:
        return float(cell) == float(value)
    except ValueError:
        return False


def is_included(row: Mapping[str, str], include: Mapping[str, Any]) -> bool:
    """Whether a participant's row matches every column of the filter `dataset.include`."""
    return all(
        any(same_value(row[column], value) for value in (wanted if isinstance(wanted, list) else [wanted]))
        for column, wanted in include.items()
    )


def check_filter(path: str | Path, rows: list[dict[str, str]], include: Mapping[str, Any], problems: Problems) -> None:
    """Add what is wrong with the filter `dataset.include`: a column that is not there, a value that no participant has."""
    columns = list(rows[0]) if rows else []
    for column, wanted in include.items() if rows else ():
        if column not in columns:
            problems.add(
                "dataset.include",
                f"no column {column} in {path}; expected one of {', '.join(columns)}{near_miss(column, columns)}",
            )
            continue
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not any(same_value(row[column], value) for row in rows):
                found = sorted({row[column] for row in rows})
                shown = f"{', '.join(found[:8])}{' …' if len(found) > 8 else ''}"
                problems.add(
                    "dataset.include",
                    f"no participant has {column}: {value} in {path}; values found: {shown}{near_miss(str(value), found)}",
                )


def near_miss(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where a known name is near to `name`, else nothing."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
