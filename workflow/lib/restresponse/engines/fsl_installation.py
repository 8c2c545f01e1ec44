"""Where FSL is, which of its programs are needed, and what is said where it is not found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from restresponse.errors import InputError

PROGRAMS = (
    "applywarp", "bet", "convertwarp", "fast", "flirt", "fnirt", "fslmaths", "fugue", "mcflirt", "robustfov", "slicetimer",
)  # fmt: skip
_SCHEDULE = Path("etc") / "flirtsch" / "bbr.sch"


def folder() -> Path | None:
    """The folder of FSL: FSLDIR, or the folder above the `bin` that holds flirt; None where neither is there."""
    if os.environ.get("FSLDIR"):
        return Path(os.environ["FSLDIR"])
    flirt = shutil.which("flirt")
    return Path(flirt).resolve().parent.parent if flirt else None


def search_path() -> str:
    """PATH with FSL's own programs after the user's."""
    home = folder()
    parts = [os.environ.get("PATH", ""), str(home / "bin") if home else ""]
    return os.pathsep.join(part for part in parts if part)


def environment() -> dict[str, str]:
    """Environment of FSL's programs: uncompressed images, one thread."""
    home = folder()
    found = {"FSLDIR": str(home)} if home else {}
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return found | one | {"PATH": search_path(), "FSLOUTPUTTYPE": "NIFTI"}


def version() -> str | None:
    """FSL's version as its own file has it; None where it is not said."""
    home = folder()
    try:
        lines = (home / "etc" / "fslversion").read_text().split() if home else []
    except OSError:
        lines = []
    return lines[0] if lines else None


def schedule() -> Path:
    """FLIRT's schedule for boundary-based registration. Raises `FileNotFoundError`, which is no scan's, where it is not in FSL's folder."""
    home = folder()
    if home is None or not (home / _SCHEDULE).is_file():
        raise FileNotFoundError(_sentence(f"{_SCHEDULE} is not in FSL's folder ({home or 'FSLDIR is not set'})"))
    return home / _SCHEDULE


def check() -> None:
    """Raise `InputError` where a program of FSL is not found: which, how to get FSL, which engine needs none."""
    path = search_path()
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise InputError(_sentence(f"{', '.join(missing)} not found on PATH or in FSLDIR ({folder() or 'not set'})"))
    try:
        schedule()
    except FileNotFoundError as error:
        raise InputError(str(error)) from None


def _sentence(found: str) -> str:
    return (
        f"the engine fsl needs FSL: {found}; expected FSL 6 installed, FSLDIR set and its programs on PATH: install it "
        "(https://fsl.fmrib.ox.ac.uk/fsl/docs, free for non-commercial use) and source its etc/fslconf/fsl.sh, or set "
        "anatomical.engine and functional.engine to embedded, which needs no FSL"
    )
