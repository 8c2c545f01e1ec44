"""What every script of a rule does around its one call: one BLAS thread, a log that holds prints and traceback.

Import this module first in a script: the thread counts must be set before numpy is loaded.
"""

from __future__ import annotations

import os

for _name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
):
    os.environ[_name] = "1"  # results must not depend on the number of cores
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("NIPYPE_NO_ET", "1")  # no version check over the network
os.environ.setdefault("NO_ET", "1")

import contextlib  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, TextIO  # noqa: E402

from restresponse.errors import InputError  # noqa: E402


class _Tee:
    """A text stream that writes to two."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self._streams = (first, second)

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams[0], name)


@contextlib.contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Run a rule's call: what it prints and any traceback go to the rule's log and to the terminal.

    An `InputError` ends the job with its sentence alone; any other error with its traceback.
    """
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        outputs = _Tee(sys.stdout, stream), _Tee(sys.stderr, stream)
        with contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1]):
            try:
                yield
            except InputError as error:
                print(f"{snakemake.rule}: {error}", file=sys.stderr)
                sys.exit(1)
            except Exception:
                traceback.print_exc()
                sys.exit(1)
