"""The header of a NIfTI image, read without its voxels: a few hundred bytes, so that a thousand scans are looked at in a moment."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from restresponse.errors import InputError

_BYTES_OF_TYPE = {
    2: 1,
    4: 2,
    8: 4,
    16: 4,
    64: 8,
    256: 1,
    512: 2,
    768: 4,
    1024: 8,
    1280: 8,
}  # real numbers, by NIfTI datatype code
_MOST_COMPRESSED = 1040  # times that deflate makes anything smaller, at the very most
_START = 2048  # bytes of a file that are read at first: more than any header takes, compressed or not
_SMALL = 1000  # bytes below which a file may be a pointer
_SECONDS_OF_UNIT = {8: 1.0, 16: 1e-3, 24: 1e-6}
_POINTERS = (b"/annex/objects/", b"version https://git-lfs")


@dataclass(frozen=True)
class Header:
    """What the checks need of a NIfTI header.

    Attributes
    ----------
    shape : tuple of int, one number a dimension (trailing dimensions of length 1 left out, at least three kept)
    repetition_time : float or None, s; None where the header does not tell
    """

    shape: tuple[int, ...]
    repetition_time: float | None


def read_header(path: str | Path) -> Header:
    """Read and check the header of a NIfTI-1 or NIfTI-2 image, `.nii` or `.nii.gz`.

    Raises
    ------
    InputError
        Saying why the file is no image that can be read: absent, not fetched, empty, cut short, not NIfTI, not of numbers.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            size, start = os.fstat(stream.fileno()).st_size, stream.read(_START)
            _not_elsewhere(size, start)
            if path.name.endswith(".gz"):
                start = _inflated(start) or _through_gzip(stream)
    except FileNotFoundError:
        with_content(path)
        raise
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, PermissionError):
            raise InputError("no permission to read the file; correct its mode") from error
        raise InputError(
            "the file is cut short or not compressed as its name says (.nii.gz); copy or convert it again"
        ) from error
    return _parsed(start[:540], path, size)


def _inflated(start: bytes) -> bytes:
    """The header out of the first bytes of a compressed file; empty where they do not hold it."""
    try:
        raw = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, 540)
    except zlib.error:
        return b""
    return raw if len(raw) == 540 else b""


def _through_gzip(stream: BinaryIO) -> bytes:
    """The header by the library that knows all forms of a compressed file, and says what is wrong with a damaged one."""
    stream.seek(0)
    with gzip.open(stream) as inflated:
        return inflated.read(540)


def with_content(path: Path) -> None:
    """Raise an `InputError` unless `path` is a file with content of its own, not a link or a pointer to something elsewhere."""
    if not path.exists():
        if path.is_symlink():
            raise InputError(
                "a link whose target is not here (a dataset of datalad or git-annex?); fetch the content with datalad get"
            )
        raise InputError("no such file; restore it")
    size = path.stat().st_size
    if size < _SMALL:
        with path.open("rb") as stream:
            _not_elsewhere(size, stream.read(40))


def _not_elsewhere(size: int, start: bytes) -> None:
    """Raise an `InputError` where a file of `size` bytes is empty, or its `start` that of a pointer."""
    if size == 0:
        raise InputError("the file is empty (0 bytes); copy or convert it again")
    if size < _SMALL and start.startswith(_POINTERS):
        raise InputError(
            "a pointer to content that is not here (git-annex or Git LFS); fetch the content with datalad get or git lfs pull"
        )


def _parsed(raw: bytes, path: Path, n_bytes: int) -> Header:
    if len(raw) < 348:
        raise InputError(
            f"only {len(raw)} bytes where a NIfTI header has 348; the file is cut short: copy or convert it again"
        )
    for order in "<>":
        size = struct.unpack_from(f"{order}i", raw)[0]
        if size == 348 and raw[344:347] == b"n+1":
            n_dims, *dims = struct.unpack_from(f"{order}8h", raw, 40)
            datatype = struct.unpack_from(f"{order}h", raw, 70)[0]
            tr, offset, units = (
                struct.unpack_from(f"{order}f", raw, 92)[0],
                struct.unpack_from(f"{order}f", raw, 108)[0],
                raw[123],
            )
            break
        if size == 540 and raw[4:7] == b"n+2" and len(raw) >= 540:
            n_dims, *dims = struct.unpack_from(f"{order}8q", raw, 16)
            datatype = struct.unpack_from(f"{order}h", raw, 12)[0]
            tr, offset = struct.unpack_from(f"{order}d", raw, 136)[0], struct.unpack_from(f"{order}q", raw, 168)[0]
            units = struct.unpack_from(f"{order}i", raw, 500)[0]
            break
    else:
        raise InputError(
            "not a single-file NIfTI image (its header has no NIfTI mark); convert it again, e.g. with dcm2niix"
        )
    if not math.isfinite(offset) or not 1 <= n_dims <= 7 or any(length < 1 for length in dims[:n_dims]):
        raise InputError(
            f"the header gives {n_dims} dimensions of lengths {dims}; the file is damaged: copy or convert it again"
        )
    if datatype not in _BYTES_OF_TYPE:
        raise InputError(
            f"voxels of NIfTI datatype {datatype}, not real numbers (complex or colour?); expected integers or floats: convert it again"
        )
    shape = dims[:n_dims] + [1] * (3 - n_dims)
    expected = int(offset) + math.prod(shape) * _BYTES_OF_TYPE[datatype]
    if path.name.endswith(".gz") and n_bytes * _MOST_COMPRESSED < expected:
        raise InputError(
            f"{n_bytes} bytes, which cannot hold the {expected} that the header promises; the file is cut short or the header damaged: "
            "copy or convert it again"
        )
    if not path.name.endswith(".gz") and n_bytes < expected:
        raise InputError(
            f"{n_bytes} bytes where the header promises {expected}; the file is cut short: copy or convert it again"
        )
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return Header(tuple(shape), _seconds(tr, units) if n_dims > 3 else None)


def _seconds(value: float, units: int) -> float | None:
    """Repetition time in s; 0 and exactly 1 without a unit are what programs write that do not know it."""
    factor = _SECONDS_OF_UNIT.get(units & 0x38)
    if not math.isfinite(value) or value <= 0 or (factor is None and value == 1):
        return None
    return value * (factor if factor is not None else 1e-3 if value > 100 else 1.0)
