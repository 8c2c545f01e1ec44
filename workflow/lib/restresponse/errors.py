"""The one error for input that cannot be used: it says what was found, what is expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used. The message is for the user: found, expected, remedy."""

    @classmethod
    def from_problems(cls, headline: str, problems: Iterable[str]) -> InputError:
        """Build one error that lists every problem found, one a line."""
        listed = list(problems)
        return cls(
            "\n".join(
                [f"{headline} ({len(listed)} problem{'s' if len(listed) != 1 else ''}):", *(f"  - {p}" for p in listed)]
            )
        )
