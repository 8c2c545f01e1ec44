"""Whether the programs that the chosen engines call are named and found, checked before any job and at the start of each."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from restresponse.engines import fsl_installation
from restresponse.errors import InputError

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
        spm_command(config["engines"]["spm"])
    if "fsl" in chosen:
        fsl_installation.check()


def spm_command(settings: Mapping[str, Any]) -> str:
    """The command of the settings `engines.spm`, found on this machine.

    Raises
    ------
    InputError
        No command, or its program is not found or cannot be executed.
    """
    command = settings.get("command")
    if not command:
        raise InputError(f"the engine spm has no command: set engines.spm.command; {_WAY_OUT}")
    try:
        program = shlex.split(command)[0]
    except (ValueError, IndexError) as error:
        raise InputError(
            f"engines.spm.command is {command!r}; expected a program and its arguments, e.g. run_spm12.sh /opt/mcr script: "
            "correct its quotes"
        ) from error
    if shutil.which(program) is None:
        raise InputError(
            f"the program of SPM, {program} (engines.spm.command: {command}), is not found or cannot be executed on this "
            f"machine; expected SPM standalone or MATLAB: give its whole path or put its folder on PATH; {_WAY_OUT}"
        )
    return command
