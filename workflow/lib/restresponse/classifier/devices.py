"""Which GPU a training job computes on: one that no other job of this machine holds, or the one a scheduler chose.

A device is held by a locked file. The kernel frees the lock when the process ends, however it ends, and it counts
between containers, which share the folder for temporary files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from restresponse.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ALLOCATIONS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "SGE_TASK_ID")  # set in the jobs of a scheduler
_POLL = 0.2  # s


@contextlib.contextmanager
def device(gpu: int) -> Iterator[str | None]:
    """Hold a GPU while a network is trained, and let this process see no other; to be called before TensorFlow is imported.

    The devices are those that `CUDA_VISIBLE_DEVICES` lists, else all that nvidia-smi lists; where none is free, the job
    waits for one. In a job of Slurm, LSF, PBS or SGE that was given one device, or says of none, nothing is changed.

    Parameters
    ----------
    gpu : GPUs the job computes on (a count, 0 or 1); 0 changes nothing

    Yields
    ------
    str or None
        The device, as `CUDA_VISIBLE_DEVICES` names it; None where none is wanted or nothing says which there are.

    Raises
    ------
    InputError
        Where `CUDA_VISIBLE_DEVICES` hides every GPU, or names one that is not there.
    """
    allocation = next((os.environ[name] for name in _ALLOCATIONS if os.environ.get(name)), "")
    given = os.environ.get(VISIBLE)
    if not gpu:
        if allocation and given:
            print(f"GPU {given} was given to this job and is not used: classifier.gpu is 0")
        yield None
        return
    if "tensorflow" in sys.modules:
        raise RuntimeError("a device must be chosen before tensorflow is imported, which looks for GPUs once")
    if allocation and (given is None or "," not in given):
        print(f"on GPU {given}, the scheduler's choice")
        yield given
        return
    there = {} if allocation else listed_devices(_nvidia_smi())
    devices = list(there) if given is None else named_devices(given, there)
    if not devices:  # TensorFlow may know better, and says so where it does not
        yield None
        return
    with _first_free(devices, allocation or "machine") as chosen:
        os.environ[VISIBLE] = chosen
        print(f"on GPU {chosen} of {', '.join(devices)}")
        try:
            yield chosen
        finally:
            del os.environ[VISIBLE]
            os.environ |= {} if given is None else {VISIBLE: given}


def listed_devices(listing: str) -> dict[str, str]:
    """UUID of each device in the output of `nvidia-smi -L`, by the name it is asked for with, in order.

    Where a GPU is divided (MIG), its parts take its place.
    """
    devices: dict[str, str] = {}
    whole = ""
    for line in listing.splitlines():
        if match := re.match(r"GPU (\d+): .*\(UUID: (GPU-[\w-]+)\)", line):
            whole = match[1]
            devices[whole] = match[2]
        elif match := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line):
            devices.pop(whole, None)
            devices[match[1]] = match[1]
    return devices


def named_devices(given: str, there: Mapping[str, str]) -> list[str]:
    """The devices that a value of `CUDA_VISIBLE_DEVICES` lists, by number, UUID or the beginning of one.

    `there` is of `listed_devices`; where it is empty, the names are not checked.
    """
    named = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    if not named or "-1" in named:
        raise InputError(
            f"{VISIBLE} is {given!r}, which hides GPUs, and classifier.gpu is 1; unset {VISIBLE} or list in it the GPUs "
            "to use, e.g. 0,1, or set classifier.gpu to 0"
        )
    missing = [
        name for name in named if name not in there and not any(uuid.startswith(name) for uuid in there.values())
    ]
    if there and missing:
        raise InputError(
            f"{VISIBLE} names GPU {', '.join(missing)}, and nvidia-smi lists {', '.join(there)} alone; list in "
            f"{VISIBLE} GPUs that are there, or unset it to use all"
        )
    return named


def _nvidia_smi() -> str:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


@contextlib.contextmanager
def _first_free(devices: Sequence[str], among: str) -> Iterator[str]:
    """Lock the first of `devices` that is free; a device of the same name in another allocation is another."""
    folder = _folder_of_locks()
    waiting = False
    while True:
        for name in devices:
            path = folder / re.sub(r"[^\w.-]", "_", f"{among}-{name}.lock")
            with path.open("a") as file:
                if _locked(file):
                    yield name
                    return
        if not waiting:
            print(f"waiting for a GPU: {', '.join(devices)} are held by other jobs", flush=True)
        waiting = True
        time.sleep(_POLL)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder_of_locks() -> Path:
    """A folder of this user's alone, the same for every job on this machine."""
    folder = Path(tempfile.gettempdir()) / f"restresponse-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder} is not a folder of this user's own, where the locks of GPUs are kept; remove it")
    return folder
