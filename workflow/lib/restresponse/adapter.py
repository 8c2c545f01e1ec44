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
import errno  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, TextIO  # noqa: E402

from restresponse.errors import DamagedFile, InputError  # noqa: E402
from restresponse.files import clear_abandoned  # noqa: E402


class _Tee:
    """A text stream that writes to the terminal and to a log; a log that cannot be written, on a full disk, stops nothing."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._terminal, self._log = terminal, log

    def write(self, text: str) -> int:
        self._terminal.write(text)
        with contextlib.suppress(OSError):
            self._log.write(text)
        self.flush()
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()
        with contextlib.suppress(OSError):
            self._log.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)


@contextlib.contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Run a rule's call: what it prints and any traceback go to the rule's log and to the terminal.

    An `InputError` or a `DamagedFile` ends the job with its sentence alone; any other error with its traceback, and with what
    to do where the machine failed.
    """
    log = Path(snakemake.log[0])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(snakemake.output)
        stream = log.open("w", encoding="utf-8")
    except OSError as error:
        print(f"{snakemake.rule}: {of_the_machine(error) or error}", file=sys.stderr)
        sys.exit(1)
    outputs = _Tee(sys.stdout, stream), _Tee(sys.stderr, stream)
    try:
        with contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1]):
            try:
                yield
            except (InputError, DamagedFile) as error:
                print(f"{snakemake.rule}: {error}", file=sys.stderr)
                sys.exit(1)
            except Exception as error:
                traceback.print_exc()
                if told := of_the_machine(error):
                    print(f"{snakemake.rule}: {told}", file=sys.stderr)
                sys.exit(1)
    finally:
        with contextlib.suppress(OSError):
            stream.close()


def of_the_machine(error: BaseException) -> str | None:
    """What to do where the machine failed and not the data or the program; None where it did not."""
    again = "run the same command again, which goes on from what is whole"
    if isinstance(error, MemoryError):
        return f"the job ran out of memory. Give it more (--set-resources RULE:mem_mb=…) or run fewer jobs at once, then {again}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full, or your quota is used up. Free some space, then {again}"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{error.filename or 'a file'} cannot be written or read. Correct its permissions or its mount, then {again}"
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
        return f"the disk failed at {error.filename or 'a file'}. See to it, then {again}"
    return None
