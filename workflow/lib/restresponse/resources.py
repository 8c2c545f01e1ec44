"""What a job asks of the machine at each of its attempts."""

from __future__ import annotations


def memory_of_attempt(mem_mb: int, attempt: int) -> int:
    """Memory in MiB to ask for: as measured at first, twice as much at each attempt after one that failed.

    Parameters
    ----------
    mem_mb : what the job needs, in MiB
    attempt : 1 for the first
    """
    return mem_mb * 2 ** (attempt - 1)
