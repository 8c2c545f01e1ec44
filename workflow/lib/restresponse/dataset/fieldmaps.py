"""Field maps of the dataset: which images belong to a scan, by IntendedFor or B0FieldIdentifier, and whether they are whole.

Looked at are all folders `fmap/` of the participant, that of the scan's session first, and the EPIs of its own `func/`. Nothing here stops a run that can do without: what is wrong is a note, unless the config asks for field maps and a scan has no whole one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restresponse.dataset.discovery import Image
from restresponse.dataset.header import read_header
from restresponse.dataset.sidecars import Sidecars, entities_of
from restresponse.errors import InputError
from restresponse.voxel_axes import direction_along

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")
UNITS = {"Hz": "Hz", "rad/s": "rad/s", "T": "T", "Tesla": "T", "hz": "Hz"}
_IMAGE = re.compile(r"_(phasediff|phase1|phase2|magnitude|magnitude1|magnitude2|fieldmap|epi)\.nii(\.gz)?$")
_EPI_OF_FUNC = re.compile(r"_(sbref|bold)\.nii(\.gz)?$")
_NAME = re.compile(r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_[A-Za-z0-9]+\.nii(\.gz)?")
_LONGEST_READOUT = 1.0  # s


@dataclass
class FieldMaps:
    """The field maps of a dataset.

    Attributes
    ----------
    root : of the dataset
    sidecars : reader of its sidecars
    """

    root: Path
    sidecars: Sidecars
    _folders: dict[Path, dict[str, dict[str, Path]]] = field(default_factory=dict)
    _ignored: dict[Path, list[str]] = field(default_factory=dict)

    def of(self, run: Image, sidecar: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str], list[str]]:
        """The field map of a scan.

        Returns
        -------
        field_map : as `restresponse.functional.fieldmaps` reads it; None where there is none that is whole
        troubles : what is wrong with those that were found, a sentence each
        notes : what a user should know besides
        """
        own = run.path.parent.parent / "fmap"
        near = dict.fromkeys((own, _participant_of(own) / "fmap"))
        far = [folder / "fmap" for folder in sorted(_participant_of(own).glob("ses-*")) if folder / "fmap" not in near]
        sources = set(_listed(sidecar.get("B0FieldSource")))
        chosen, home, linked, epis, notes = None, own, [], [], []
        troubles: list[str] = []
        of_others: list[str] = []  # in other sessions' folders, which matters to a scan without a field map alone
        of_epis: list[str] = []
        for folder in (*near, *far):
            said = troubles if folder in near else of_others
            mine = {
                stem: files
                for stem, files in self._in(folder).items()
                if self._belongs(run, sources, folder, files, said, folder in near)
            }
            made = [
                self._made(kind, folder, stem, files, said)
                for kind in ("fieldmap", "phasediff", "phases")  # the first that is whole is used
                for stem, files in mine.items()
            ]
            more = [files["epi"] for files in mine.values() if "epi" in files]
            if folder == own:
                more += self._in_func(run, sources, said)
            if more and (chosen is None or folder in near):
                epis, of_epis = epis + more, []
                made.append(self._epis(run, epis, sidecar, of_epis))
            linked += [path for files in mine.values() for path in files.values()] + more
            if chosen is None:
                chosen, home = next((one for one in made if one), None), folder
        troubles += of_epis
        known = {name for path in linked for name in _listed(self._sidecar(path, []).get("B0FieldIdentifier"))}
        if unknown := sorted(sources - known):
            troubles.append(
                f"B0FieldSource of its sidecar names {', '.join(map(repr, unknown))}, the B0FieldIdentifier of no other image that is looked at; "
                f"expected that of a field map in an fmap/ folder of {run.participant}, or of an sbref or bold beside the scan: correct the sidecar, or add the map"
            )
        if chosen is None:
            troubles += of_others
            if linked and not troubles and sidecar.get("PhaseEncodingDirection") in DIRECTIONS:
                names = ", ".join(dict.fromkeys(path.name for path in linked))
                troubles.append(
                    f"{linked[0].parent}: {names} are for the scan and make no field map; expected a phase difference, two phases or a field "
                    "with its magnitude, or an EPI that is read out against the scan: add what is missing"
                )
        elif home in far:
            notes.append(
                f"{run.stem}: its field map is another session's, in {home}, as IntendedFor or B0FieldSource says"
            )
        for folder in near:
            notes += self._unused(folder, chosen is None and not troubles)
        return chosen, list(dict.fromkeys(troubles)), notes

    def _unused(self, folder: Path, without: bool) -> list[str]:
        """What a user should know of images in a folder that are no scan's; those for no scan matter to one `without` a field map."""
        stems, notes = self._in(folder), []
        if ignored := self._ignored[folder]:
            notes.append(
                f"{folder}: {len(ignored)} images with names that BIDS does not allow (e.g. {ignored[0]}) are no field maps here"
            )
        aimless = [stem for stem, files in stems.items() if not self._names_a_scan(files.values(), folder)]
        if without and aimless:
            notes.append(
                f"{folder}: the images {', '.join(f'{stem}_*' for stem in aimless)} name no functional scan that they are for; expected "
                "IntendedFor or B0FieldIdentifier in their sidecars: until then no scan is unwarped by them"
            )
        return notes

    def _in_func(self, run: Image, sources: set[str], troubles: list[str]) -> list[Path]:
        """EPIs beside the scan that the scan's B0FieldSource names, single volumes first."""
        found = []
        for path in sorted(run.path.parent.iterdir()) if sources else ():
            match = _EPI_OF_FUNC.search(path.name)
            if path == run.path or not match or not _NAME.fullmatch(path.name):
                continue
            entities = entities_of(path.name)
            if f"sub-{entities['sub']}" != run.participant or entities.get("part", "mag") != "mag":
                continue
            if sources & set(_listed(self._sidecar(path, troubles).get("B0FieldIdentifier"))):
                found.append((match[1] == "bold", path))
        return [path for _, path in sorted(found)]

    def _in(self, folder: Path) -> dict[str, dict[str, Path]]:
        """Images of a folder `fmap`: by stem without suffix, by suffix."""
        if folder not in self._folders:
            stems: dict[str, dict[str, Path]] = {}
            ignored = []
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            for name in names:
                if not name.endswith((".nii", ".nii.gz")):
                    continue
                if not _NAME.fullmatch(name) or f"sub-{entities_of(name)['sub']}" != _participant_of(folder).name:
                    ignored.append(name)
                elif match := _IMAGE.search(name):
                    stems.setdefault(name[: match.start()], {})[match[1]] = folder / name
            self._folders[folder], self._ignored[folder] = stems, ignored
        return self._folders[folder]

    def _sidecar(self, path: Path, troubles: list[str]) -> dict[str, Any]:
        try:
            return self.sidecars.of(path.parent, path.name.split(".", 1)[0])[0]
        except InputError as error:
            troubles.append(f"{path}: {error}")
            return {}

    def _belongs(
        self,
        run: Image,
        sources: set[str],
        folder: Path,
        files: Mapping[str, Path],
        troubles: list[str],
        near: bool,
    ) -> bool:
        """Whether any image of a stem says that it is for the scan; of the targets that are `near` or the scan's, all must be there."""
        for path in files.values():
            content = self._sidecar(path, troubles)
            if sources & set(_listed(content.get("B0FieldIdentifier"))):
                return True
            for target in _listed(content.get("IntendedFor")):
                place = self._target(target, folder)
                if place is None or not place.exists():
                    if near or (place is not None and place.parent == run.path.parent):
                        troubles.append(
                            f"{path}: IntendedFor names {target!r}, which is not there; expected a scan as bids::sub-…/func/….nii.gz, or "
                            "relative to the participant's folder: correct the sidecar"
                        )
                elif place.resolve() == run.path.resolve():
                    return True
        return False

    def _names_a_scan(self, paths: Iterable[Path], folder: Path) -> bool:
        for path in paths:
            content = self._sidecar(path, [])
            targets = [self._target(target, folder) for target in _listed(content.get("IntendedFor"))]
            if _listed(content.get("B0FieldIdentifier")) or any(
                target is not None and target.parent.name == "func" for target in targets
            ):
                return True
        return False

    def _target(self, target: str, folder: Path) -> Path | None:
        if target.startswith("bids:"):
            dataset, _, path = target.removeprefix("bids:").partition(":")
            return self.root / path if not dataset else None
        return (self.root if target.startswith("sub-") else _participant_of(folder)) / target

    def _made(
        self, kind: str, folder: Path, stem: str, files: Mapping[str, Path], troubles: list[str]
    ) -> dict[str, Any] | None:
        """A field map of a kind from the images of one stem, or None where there is none or it is not whole."""
        wanted = {"fieldmap": ("fieldmap", "magnitude"), "phasediff": ("phasediff",), "phases": ("phase1", "phase2")}[
            kind
        ]
        have = [suffix for suffix in wanted if suffix in files]
        if not have or (kind == "fieldmap" and "fieldmap" not in files):
            return None
        missing = [suffix for suffix in wanted if suffix not in files]
        if kind != "fieldmap" and not {"magnitude1", "magnitude2"} & files.keys():
            missing.append("magnitude1")
        if missing:
            there = " and ".join(files[suffix].name for suffix in have)
            troubles.append(
                f"{folder}: {there} without its partner; expected {' and '.join(f'{stem}_{suffix}.nii[.gz]' for suffix in missing)} "
                "beside it: add it, or take the field map away"
            )
            return None
        names = [
            *wanted,
            *(suffix for suffix in ("magnitude1", "magnitude2") if suffix in files and kind != "fieldmap"),
        ]
        if not _readable([files[name] for name in names], 3, troubles):
            return None
        made: dict[str, Any] = {"kind": kind, "files": {name: str(files[name]) for name in names}}
        if kind == "fieldmap":
            units = self._sidecar(files["fieldmap"], troubles).get("Units")
            if units not in UNITS:
                troubles.append(
                    f"{files['fieldmap']}: Units is {units!r}; expected Hz, rad/s or T: correct the sidecar"
                )
                return None
            return made | {"units": UNITS[units]}
        if kind == "phasediff":
            content = self._sidecar(files["phasediff"], troubles)
            times = {name: content.get(name) for name in ("EchoTime1", "EchoTime2")}
            where = dict.fromkeys(times, files["phasediff"])
        else:
            times = {name: self._sidecar(files[name], troubles).get("EchoTime") for name in ("phase1", "phase2")}
            where = {name: files[name] for name in times}
        bad = [name for name, value in times.items() if not _is_time(value)]
        for name in bad:
            said = "is not there" if times[name] is None else f"is {times[name]!r}"
            troubles.append(
                f"{where[name]}: {name if kind == 'phasediff' else 'EchoTime'} {said}; expected the echo's time in s, e.g. 0.00492: correct the sidecar"
            )
        first, second = times.values()
        if bad:
            return None
        if not second > first:
            troubles.append(
                f"{folder}: the echoes of {stem} are at {first} and {second} s; expected the second later: correct the sidecars"
            )
            return None
        return made | {"echo_times": [first, second]}

    def _epis(
        self,
        run: Image,
        epis: list[Path],
        sidecar: Mapping[str, Any],
        troubles: list[str],
    ) -> dict[str, Any] | None:
        """EPIs of the scan's axis, the first of each way, one of which at least is read out the other way round."""
        direction = sidecar.get("PhaseEncodingDirection")
        if direction not in DIRECTIONS:
            return None  # a scan without a direction is told of by itself
        files, directions, readouts = {}, {}, {}
        ways: list[str] = []
        for path in epis:
            content = self._sidecar(path, troubles)
            own, said = content.get("PhaseEncodingDirection"), []
            if "_bold.nii" in path.name and own in DIRECTIONS and _on_axes_of(run.path, own, path) == direction:
                continue  # a series read out like the scan, which stands for that way itself
            readout = total_readout_time(content, path, said)
            if own not in DIRECTIONS:
                said.append(
                    f"{path}: PhaseEncodingDirection is {own!r}; expected one of {', '.join(DIRECTIONS)}: add it to the sidecar"
                )
            elif readout is None and not said:
                said.append(f"{path}: no TotalReadoutTime; expected the read-out's time in s: add it to the sidecar")
            troubles += said
            if said or not _readable([path], None, troubles):
                continue
            way = _on_axes_of(run.path, own, path)
            if way[0] != direction[0]:
                troubles.append(
                    f"{path}: read out along {way} of the scan's voxel axes, the scan along {direction}; expected the scan's axis: correct "
                    "PhaseEncodingDirection, which speaks of the file's own axes, or IntendedFor"
                )
            if way[0] != direction[0] or way in ways:
                continue
            ways.append(way)
            name = f"epi{len(files) + 1}"
            files[name], directions[name], readouts[name] = str(path), own, readout
        if all(way == direction for way in ways):
            if files:
                troubles.append(
                    f"{epis[0].parent}: {', '.join(Path(path).name for path in files.values())} without its partner; expected an EPI that is read "
                    f"out against the scan's {direction}: add it, or take the field map away"
                )
            return None
        return {"kind": "epi", "files": files, "directions": directions, "readouts": readouts}


def total_readout_time(
    sidecar: Mapping[str, Any], place: Path | str, troubles: list[str], lines: int | None = None
) -> float | None:
    """Total readout time in s, or None where it is not known.

    TotalReadoutTime; else EffectiveEchoSpacing times ReconMatrixPE (or else `lines`, the image's voxels along that axis) less 1.
    """
    value, name = sidecar.get("TotalReadoutTime"), "TotalReadoutTime"
    lines = sidecar.get("ReconMatrixPE", lines)
    if value is None and "EffectiveEchoSpacing" in sidecar and lines is not None:
        spacing, name = sidecar["EffectiveEchoSpacing"], "EffectiveEchoSpacing"
        value = spacing * (lines - 1) if _is_number(spacing) and _is_number(lines) else spacing
    if value is None:
        return None
    if not _is_number(value) or not 0 < value < _LONGEST_READOUT:
        unit = " (milliseconds?)" if _is_number(value) and value >= _LONGEST_READOUT else ""
        troubles.append(
            f"{place}: {name} makes a read-out of {value!r} s{unit}; expected a time in s between 0 and {_LONGEST_READOUT:g}: correct the sidecar"
        )
        return None
    return round(float(value), 8)


def _participant_of(folder: Path) -> Path:
    """The participant's folder of a folder `fmap`, whose parent it is or a session's."""
    return folder.parent if folder.parent.name.startswith("sub-") else folder.parent.parent


def _on_axes_of(scan: Path, direction: str, path: Path) -> str:
    """A direction on an image's voxel axes as one on the scan's; as it is where a header does not tell."""
    import nibabel as nib

    try:
        own, target = (nib.load(image).affine for image in (path, scan))
        return direction_along(direction, own, target)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError):
        return direction


def _readable(paths: list[Path], dimensions: int | None, troubles: list[str]) -> bool:
    whole = True
    for path in paths:
        try:
            shape = read_header(path).shape
        except InputError as error:
            troubles.append(f"{path}: {error}")
            whole = False
            continue
        if dimensions and len(shape) != dimensions:
            troubles.append(f"{path}: {len(shape)} dimensions {shape}; expected a 3D image: convert it again")
            whole = False
    return whole


def _listed(value: Any) -> list[str]:
    """A string or a list of strings as a list."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1
