"""Whether the programs that the chosen engines call are named and found, checked before any job and at the start of each."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from restresponse.engines import fsl_installation
from restresponse.errors import InputError

CLASSES = 6  # of SPM's tissue maps: grey and white matter, CSF, bone, soft tissue, air
_WAY_OUT = (
    "SPM standalone needs no MATLAB licence (https://www.fil.ion.ucl.ac.uk/spm/docs/installation/standalone/: the program and "
    "the MATLAB Runtime, engines.spm.command: run_spm12.sh RUNTIME_FOLDER script); the embedded engine needs no program at "
    "all (anatomical.engine and functional.engine: embedded)"
)


def unnamed(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence for each stage of a validated config whose engine has no command."""
    for stage in ("anatomical", "functional"):
        if config[stage]["engine"] == "spm" and not config["engines"]["spm"]["command"]:
            yield f"engines.spm.command: found null, but {stage}.engine is spm; expected the command that runs SPM: {_WAY_OUT}"


def check_found(config: Mapping[str, Any]) -> None:
    """Raise `InputError` where a chosen engine's program is not found on this machine.

    For runs whose jobs run here: a container or another machine has programs of its own.
    """
    chosen = {config["anatomical"]["engine"], config["functional"]["engine"]}
    if "spm" in chosen:
        spm_settings(config["engines"]["spm"])
    if "fsl" in chosen:
        fsl_installation.check()


def spm_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `engines.spm` with absolute paths, their program and tissue maps found on this machine.

    Relative paths start in the working directory; a batch runs in a folder of its own.

    Raises
    ------
    InputError
        No command, or its program is not found or cannot be executed; a folder without SPM's tissue maps, or with others.
    """
    command, folder = settings.get("command"), settings.get("folder")
    if not command:
        raise InputError(f"the engine spm has no command: set engines.spm.command; {_WAY_OUT}")
    try:
        program, *arguments = shlex.split(command)
    except ValueError as error:
        raise InputError(
            f"engines.spm.command is {command!r}; expected a program and its arguments, e.g. run_spm12.sh /opt/mcr script: "
            "correct its quotes"
        ) from error
    found = shutil.which(program)
    if found is None:
        raise InputError(
            f"the program of SPM, {program} (engines.spm.command: {command}), is not found or cannot be executed on this "
            f"machine; expected SPM standalone or MATLAB: give its whole path or put its folder on PATH; {_WAY_OUT}"
        )
    if folder and not (Path(folder) / "tpm" / "TPM.nii").is_file():
        raise InputError(
            f"engines.spm.folder is {folder}, which has no file tpm/TPM.nii; expected the folder of SPM, with spm.m and the "
            "tissue maps: correct it, or set it to null where the program knows its own"
        )
    if folder:
        _check_maps(Path(folder) / "tpm" / "TPM.nii")
    return {
        **settings,
        "command": shlex.join([str(Path(found).absolute()), *arguments]),
        "folder": str(Path(folder).absolute()) if folder else None,
    }


def wrong_maps(path: Path) -> str | None:
    """What a file of tissue maps is in place of SPM's six classes, read off its header; None where it is those."""
    import nibabel as nib

    try:
        shape = nib.load(path).shape
    except (
        OSError,
        EOFError,
        ValueError,
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
    ) as error:
        return f"cannot be read as an image ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    return None if len(shape) == 4 and shape[3] == CLASSES else f"has the shape {shape}"


def _check_maps(path: Path) -> None:
    if found := wrong_maps(path):
        raise InputError(
            f"the tissue maps {path} are not SPM's: the file {found}; expected the {CLASSES} classes of its TPM.nii, one a volume: set "
            "engines.spm.folder to a folder of SPM that has them, or to null where the program knows its own"
        )
