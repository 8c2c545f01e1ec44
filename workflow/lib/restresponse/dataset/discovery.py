"""The images of a raw BIDS dataset: every BOLD run and T1w image under sub-*/[ses-*/], whatever entities their names have.

Nothing else is looked at: derivatives/, sourcedata/, code/, hidden files and other folders of a participant stay unread.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from restresponse.dataset.problems import Problems
from restresponse.dataset.sidecars import entities_of

_LABEL = re.compile(r"[A-Za-z0-9]+")
_NAME = re.compile(r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_(bold|T1w)\.nii(\.gz)?")


@dataclass(frozen=True)
class Image:
    """One image of the dataset.

    Attributes
    ----------
    stem : name without suffix and extension, `sub-01_ses-1_task-rest_run-1`
    suffix : `bold` or `T1w`
    path : as it is reached from the working directory
    entities : `{"sub": "01", "ses": "1", ...}`
    """

    stem: str
    suffix: str
    path: Path
    entities: dict[str, str]

    @property
    def participant(self) -> str:
        return f"sub-{self.entities['sub']}"

    @property
    def session(self) -> str | None:
        return self.entities.get("ses")


def find_images(bids_dir: Path, problems: Problems) -> list[Image]:
    """List the BOLD and T1w images of the dataset in the order of their names; names that cannot be used become problems."""
    images: list[Image] = []
    for participant in _folders(bids_dir, "sub-", problems):
        images += _images_in(participant, participant.name, None, problems)
        for session in _folders(participant, "ses-", problems):
            images += _images_in(session, participant.name, session.name, problems)
    by_name: dict[tuple[str, str], Image] = {}
    for image in images:
        other = by_name.setdefault((image.stem, image.suffix), image)
        if other is not image:
            problems.add(
                str(image.path),
                f"the same image as {other.path.name} beside it; expected one of the two: remove the other",
            )
    return sorted(by_name.values(), key=lambda image: (image.stem, image.suffix))


def _folders(parent: Path, prefix: str, problems: Problems) -> list[Path]:
    found = []
    with os.scandir(parent) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
    for name in names:
        if _LABEL.fullmatch(name.removeprefix(prefix)):
            found.append(parent / name)
        else:
            problems.add(
                str(parent / name),
                f"a folder name that BIDS does not allow; expected {prefix} and letters or digits: rename it, or move it out of the dataset",
            )
    return found


def _images_in(folder: Path, participant: str, session: str | None, problems: Problems) -> list[Image]:
    images = []
    for kind, suffix in (("anat", "T1w"), ("func", "bold")):
        try:
            with os.scandir(folder / kind) as entries:
                names = [entry.name for entry in entries if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if not name.endswith((f"_{suffix}.nii", f"_{suffix}.nii.gz")):
                continue
            path = folder / kind / name
            if not _NAME.fullmatch(name):
                problems.add(
                    str(path),
                    "a name that BIDS does not allow; expected letters and digits in key-label pairs, e.g. sub-01_task-rest_run-1_bold.nii.gz: rename it",
                )
                continue
            stem = name.split(".", 1)[0].rsplit("_", 1)[0]
            entities = entities_of(stem)
            if f"sub-{entities['sub']}" != participant or entities.get("ses") != (
                session and session.removeprefix("ses-")
            ):
                where = "/".join(filter(None, (participant, session)))
                problems.add(
                    str(path),
                    f"the name is not of the folder it lies in; expected {'_'.join(filter(None, (participant, session)))}_… in {where}: rename or move it",
                )
                continue
            images.append(Image(stem, suffix, path, entities))
    return images
