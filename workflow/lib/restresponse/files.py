"""Reading and writing of every kind of file the workflow makes: whole or not at all.

Each file is written under a temporary name that is unique to its process, in the folder it will live in, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.errors import DamagedFile

if TYPE_CHECKING:
    import nibabel
    import pandas

_TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]{8}-(.+)", re.DOTALL)  # process that writes, name it will have


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path with the same suffixes as `path`; rename it to `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{os.getpid()}-{os.urandom(4).hex()}-{path.name}"
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes the place of `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{os.getpid()}-{os.urandom(4).hex()}-{path.name}"
    temporary.mkdir()
    try:
        yield temporary
        for attempt in range(5):
            shutil.rmtree(path, ignore_errors=True)
            try:
                temporary.rename(path)
                break
            except OSError as error:  # a job that a killed run left behind put its own there in between
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 4:
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[None]:
    """Turn what a reader raises at a file that is cut short or damaged into a `DamagedFile` that names it and the remedy."""
    try:
        yield
    except (ValueError, EOFError, zlib.error, OSError) as error:
        if (
            isinstance(error, FileNotFoundError) or getattr(error, "errno", None) is not None
        ):  # absent, or the disk fails
            raise
        raise DamagedFile(path, f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("nibabel."):
            raise DamagedFile(path, f"{type(error).__name__}: {error}") from error
        raise


def clear_abandoned(paths: Iterable[str | Path]) -> None:
    """Remove what killed jobs left half-written of these files or folders; what a living process of this machine writes stays."""
    names: dict[Path, set[str]] = {}
    for path in map(Path, paths):
        names.setdefault(path.parent, set()).add(path.name)
    for parent, wanted in names.items():
        for entry in os.scandir(parent) if parent.is_dir() else ():
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None or found[2] not in wanted or _lives(int(found[1])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, another user's
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON; numpy scalars and arrays become numbers and lists, NaN becomes null."""
    write_text(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file that the workflow wrote."""
    with whole(path):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: str | Path, table: pandas.DataFrame) -> None:
    """Write a table as TSV, BIDS style: `n/a` for what is missing, no index."""
    with writing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.10g")


def read_table(path: str | Path, text_columns: tuple[str, ...] = ("participant_id",)) -> pandas.DataFrame:
    """Read a TSV written by `write_table` (`n/a` and empty cells are missing); `text_columns` are never turned into numbers."""
    with whole(path):
        _check_last_line(path)
        return parse_table(path, text_columns)


def parse_table(path: str | Path, text_columns: tuple[str, ...] = ()) -> pandas.DataFrame:
    """Read a TSV of any origin as `read_table` does; one that is no table is a `ValueError`."""
    import pandas as pd

    return pd.read_csv(
        path, sep="\t", na_values=["n/a", ""], keep_default_na=False, dtype=dict.fromkeys(text_columns, str)
    )


def _check_last_line(path: str | Path) -> None:
    """Raise `ValueError` where a table does not end with the end of a line: half of it reads as a shorter table."""
    with Path(path).open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 1, 0))
        if stream.read(1) != b"\n":
            raise ValueError(f"{size} bytes that do not end with the end of a line")


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write one array as `.npy`, C order, without pickle."""
    with writing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array), allow_pickle=False)


def read_array(path: str | Path, memory_map: bool = True) -> np.ndarray:
    """Open a `.npy` array, by default memory-mapped and read-only."""
    with whole(path):
        return np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)


def let_go(array: np.ndarray) -> None:
    """Take what was read of a memory-mapped array out of this process's memory; another array is left as it is.

    It is read again when it is asked for, from the system's cache where that still has it. Otherwise everything that was ever
    read of a mapped file counts as memory of the process.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def write_image(
    path: str | Path, data: np.ndarray, affine: np.ndarray, *, repetition_time: float | None = None
) -> None:
    """Write a NIfTI image of `data` (its own dtype) with `affine` (4, 4) as scanner-to-MNI sform and qform.

    Compression is the fastest level: it is not what a scan's time goes into. `repetition_time` is in s.
    """
    import nibabel as nib

    if data.dtype in (np.dtype(bool), np.dtype(np.int64), np.dtype(np.float64)):
        data = data.astype({"b": np.uint8, "i": np.int32, "f": np.float32}[data.dtype.kind])
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=4)
    image.set_qform(affine, code=4)
    image.header.set_xyzt_units("mm", "sec")
    if repetition_time is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], repetition_time))
    save_image(path, image)


def save_image(path: str | Path, image: nibabel.spatialimages.SpatialImage) -> None:
    """Write a nibabel image as it is, atomically, at the fastest level of compression."""
    from nibabel.openers import Opener

    with writing(path) as temporary:
        previous, Opener.default_compresslevel = Opener.default_compresslevel, 1
        try:
            image.to_filename(temporary)
        finally:
            Opener.default_compresslevel = previous


def digest_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
