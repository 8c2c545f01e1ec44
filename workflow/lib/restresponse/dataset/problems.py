"""A collection of problems, so that all are told at once and the same one of many scans in a single line."""

from __future__ import annotations

from restresponse.errors import InputError

_NAMED = 8  # places named before "and n more"


class Problems:
    """Problems found so far, each with the place where it is, in the order found."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, place: str, problem: str) -> None:
        """Record that `place` (a file, a scan, a column) has `problem` (what was found, expected, what to do)."""
        places = self._places.setdefault(problem, [])
        if place not in places:
            places.append(place)

    def lines(self) -> list[str]:
        """One line for each problem: its places, then what it is."""
        return [f"{_listed(places)}: {problem}" for problem, places in self._places.items()]

    def raise_any(self, headline: str) -> None:
        """Raise one `InputError` that lists every problem, if there is any."""
        if self._places:
            raise InputError.from_problems(headline, self.lines())


def _listed(places: list[str]) -> str:
    named = ", ".join(places[:_NAMED])
    return named if len(places) <= _NAMED else f"{named} and {len(places) - _NAMED} more"
