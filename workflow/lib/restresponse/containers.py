"""The images that rules run in with `--use-singularity`: where they are, whether they are there, what they may reach.

Nothing here matters without containers: the same rules then run in the environment of the host.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restresponse import __version__
from restresponse.errors import InputError

if TYPE_CHECKING:
    from restresponse.dataset import Dataset

KINDS = ("python", "gpu", "spm", "fsl")
_ADDRESS = re.compile(r"[a-z]+://")


def kind_of(engine: str) -> str:
    """The kind of image that a preprocessing engine runs in."""
    return "python" if engine == "embedded" else engine


def kinds_used(config: Mapping[str, Any]) -> list[str]:
    """The kinds of image that the rules of a validated config name, in the order of `KINDS`."""
    used = {"python", *(kind_of(config[stage]["engine"]) for stage in ("anatomical", "functional"))}
    if config["classifier"]["gpu"]:
        used.add("gpu")
    return [kind for kind in KINDS if kind in used]


def images(containers: Mapping[str, str | None], checkout: str | Path) -> dict[str, str | None]:
    """The image of each kind as an absolute path or an address.

    Parameters
    ----------
    containers : section `containers` of a validated config. `{version}` stands for the version of restresponse and
        `{python}` for the minor version of Python; a relative path starts in the working directory or, where it is not
        there, in the checkout, in which `make container` writes.
    checkout : folder of the Snakefile.
    """
    minor = ".".join(platform.python_version_tuple()[:2])
    found: dict[str, str | None] = {}
    for kind, image in containers.items():
        if image is not None:
            image = image.replace("{version}", __version__).replace("{python}", minor)
            if not _ADDRESS.match(image):
                path = Path(image).expanduser()
                image = str(
                    next((p for p in (Path.cwd() / path, Path(checkout) / path) if p.exists()), checkout / path)
                )
        found[kind] = image
    return found


def check_images(images: Mapping[str, str | None], used: Iterable[str]) -> None:
    """Raise `InputError` where an image that a rule names is missing, with the command that makes it.

    What stands at an address is not looked for: Snakemake pulls it before the first job.
    """
    problems = []
    for kind in used:
        image = images[kind]
        if image is None or _ADDRESS.match(image):
            continue
        if re.search(r"[^\w@%+=:,./~-]", image):
            problems.append(
                f"containers.{kind}: {image} holds a space or a sign that a command line reads otherwise; expected letters, "
                "digits and ./_- alone: move the image and name its new path"
            )
        elif not Path(image).exists():
            stage = "" if kind == "python" else f" STAGE={kind}"
            problems.append(
                f"containers.{kind}: no image {image}; expected the file that `make container{stage}` makes in the checkout's "
                f"folder containers, or another image's path or docker:// address: make it, or run without --use-singularity"
            )
    if problems:
        raise InputError.from_problems("The containers cannot be used", problems)


def apptainer_arguments(config: Mapping[str, Any], dataset: Dataset) -> str:
    """What Apptainer is given beside Snakemake's own arguments: no privileges, the data read-only, GPUs where they are used.

    Parameters
    ----------
    config : a validated config.
    dataset : what was read of it; the folders of images that are links to other places are bound too.

    Raises
    ------
    InputError
        A path with a sign that Apptainer's `--bind` cannot take.
    """
    arguments = ["--no-privs", *(["--nv"] if config["classifier"]["gpu"] else [])]
    for source, target in _binds(config, _files(dataset)):
        if any(sign in f"{source}{target}" for sign in ":,\n"):
            raise InputError(
                f"{target} (or what it links to, {source}) has a colon, a comma or a line break in its path, which Apptainer cannot "
                "bind; expected a path without: rename the folder, or run without --use-singularity"
            )
        arguments += ["--bind", f"{source}:{target}:ro"]
    return shlex.join(arguments)


def forget_the_hosts_programs() -> None:
    """Take FSLDIR out of the environment that jobs inherit: inside, the image's own value would give way to it."""
    os.environ.pop("FSLDIR", None)


def _files(dataset: Dataset) -> Iterator[str]:
    from restresponse.functional.unwarping import files_of, read_field_map

    yield from dataset.anatomicals.values()
    for row in dataset.scans:
        yield from (row[column] for column in ("bold", "mask", "confounds") if row[column] != "n/a")
        yield from files_of(read_field_map(row["fieldmap"]))


def _binds(config: Mapping[str, Any], files: Iterable[str]) -> list[tuple[Path, Path]]:
    """Sources on the host and targets in the container, outer folders before inner ones."""
    sections = (("dataset", ("bids_dir", "derivatives")), ("components", ("template", "template_labels")))
    given = [Path(path) for section, keys in sections for key in keys if (path := config[section][key])]
    sources = {}
    for path in given:
        real, target = path.resolve(), Path(os.path.normpath(path.absolute()))
        sources[real] = real
        if not target.is_relative_to(Path.cwd()):  # a link in the working directory is seen inside as it is
            sources[target] = real
    elsewhere: dict[str, set[Path]] = {}
    for file in {Path(os.path.realpath(file)) for file in files}:
        if not any(folder in sources for folder in file.parents):
            elsewhere.setdefault(file.parts[1], set()).add(file.parent)
    for folders in elsewhere.values():
        common = Path(os.path.commonpath(folders))
        sources[common] = common
    return sorted(((source, target) for target, source in sources.items() if source.exists()), key=lambda bind: bind[1])
