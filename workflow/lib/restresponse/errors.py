"""The errors whose sentence is for the user: input that cannot be used, and files of the workflow that are not whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Input that cannot be used. The message is for the user: found, expected, remedy."""

    @classmethod
    def from_problems(cls, headline: str, problems: Iterable[str]) -> InputError:
        """Build one error that lists every problem found, one a line."""
        listed = [printable(problem) for problem in problems]
        return cls(
            "\n".join(
                [f"{headline} ({len(listed)} problem{'s' if len(listed) != 1 else ''}):", *(f"  - {p}" for p in listed)]
            )
        )


class DamagedFile(RuntimeError):
    """A file of the workflow's own that is not whole: the machine's failure, which never counts as a scan's.

    Parameters
    ----------
    path : the file
    found : what is wrong with it
    """

    def __init__(self, path: object, found: object) -> None:
        part = Path(str(path))
        # the folder of a batch, of a scan or of a T1w image is made as one
        whole = part.parent if re.fullmatch(r"batch-\d+|sub-.*", part.parent.name) else part
        remove = shlex.join(["rm", "-r", str(whole)] if whole is not part else ["rm", str(whole)])
        super().__init__(
            f"{path} is not whole ({' '.join(str(found).split())[:200]}): a disk lost it, or it was changed after it was written. Remove it and run "
            f"the same command again, which makes it anew and whatever else depends on it:\n  {remove}"
        )


def printable(text: str, longest: int = 3000) -> str:
    """Text from a dataset as one line for a terminal or a log: what would move the cursor or break the line is written out."""
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text[: longest + 1]
    )
    return shown if len(shown) <= longest else f"{shown[:longest]} …"
