"""The results of `anatomical` and `functional` as a BIDS derivatives dataset: fMRIPrep's layout and names, with sidecars.

Images and tables are relative links to the files of those stages; descriptions are written here, from their records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from restresponse import __version__
from restresponse.dataset.sidecars import read_object
from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_json, write_text
from restresponse.functional.unwarping import files_of, read_field_map

BIDS_VERSION = "1.9.0"
MISSING = "n/a"
_IGNORED = "# of fMRIPrep's names, those that BIDS does not have yet\n*_timeseries.tsv\n*_timeseries.json\n*_cohort-*\n"
_TISSUES = ("GM", "WM", "CSF")
_LAYOUT = """# Preprocessed resting-state fMRI

Written by restresponse {version} in the layout of BIDS derivatives. Images and tables are links to the files in `../anatomical` and
`../functional`; to take the dataset elsewhere, copy what they point to (`rsync -aL` or `cp -rL`). Scans that failed are not here:
`../quality/inclusion.tsv` has every scan with its reason. The transforms between T1w and MNI space are in `../anatomical`.

- `*_desc-preproc_bold`: in MNI space, smoothed, zero outside the template's brain
- `*_desc-denoised_bold`: the same after denoising, mean of zero in time
- `*_desc-brain_mask`: the brain of the scan or of the T1w image itself
- `*_desc-confounds_timeseries`: one row a volume
- `*_desc-preproc_T1w`, `*_probseg`: bias-corrected T1w image and tissues, as acquired and in MNI space

The sidecar of an image has `Sources` (`raw` and `preprocessed` are explained by DatasetLinks in `dataset_description.json`) and the
steps it went through with their parameters. The sidecar of a table says the same of each of its columns: `Sources`, and `ParametersIn`,
the sidecar that has the parameters. It has no entries of its own beside the columns: pandas and others take every entry for a column.

A BIDS validator finds no error in what it looks at. It does not look at the `*_timeseries` tables and their sidecars: BIDS has no such
name, and `.bidsignore` lists them (fMRIPrep's lists its `*_timeseries.tsv` too), with the names of templates that have a cohort.
"""


def export_derivatives(
    scans: str | Path,
    folder: str | Path,
    *,
    batches: Mapping[str, Sequence[str]],
    bids_dir: str | Path | None,
    derivatives: str | Path | None,
    voxel_size: float,
) -> None:
    """Lay out `results/derivatives` from what the stages wrote beside it.

    Parameters
    ----------
    scans : the table of scans, `results/dataset/scans.tsv`
    folder : the dataset to make, in the results folder; it appears when it is whole
    batches : the scans of each folder of denoised ones
    bids_dir, derivatives : the datasets that were read, as the config names them
    voxel_size : of the functional grid, mm
    """
    folder, results = Path(folder), Path(folder).parent
    rows = [row for row in _rows(scans) if row["set_aside"] != "True"]
    building = results / f".{os.getpid()}-derivatives"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        sources = _Sources(building, {"raw": bids_dir, "preprocessed": derivatives})
        grid = {
            "res": f"{voxel_size:g}".replace(".", "p"),
            "Resolution": f"{voxel_size:g} mm isotropic, bounding box -90 -126 -72 to 90 90 108 mm",
        }
        for row in {row["anat"]: row for row in rows if row["anat"] != MISSING}.values():
            _export_anatomical(building, results, row, sources, grid)
        place = {scan: results / f"functional/denoised/{batch}" for batch, scans in batches.items() for scan in scans}
        for row in rows:
            _export_scan(building, results, place[row["scan"]], row, sources, grid)
        write_json(building / "dataset_description.json", _description(sources))
        write_text(building / ".bidsignore", _IGNORED)
        write_text(building / "README.md", _LAYOUT.format(version=__version__))
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


class _Sources:
    """The datasets that were read, and files of them as BIDS URIs."""

    def __init__(self, dataset: Path, folders: Mapping[str, str | Path | None]) -> None:
        self.folders = {name: Path(folder).expanduser() for name, folder in folders.items() if folder is not None}
        self.links = {name: Path(os.path.relpath(path, dataset)).as_posix() for name, path in self.folders.items()}
        self.used: set[str] = set()

    def uri(self, path: str) -> list[str]:
        """`bids:raw:sub-01/…` of a file of one of the datasets, in a list; empty for `n/a`."""
        inner_first = sorted(
            self.folders.items(), key=lambda item: -len(item[1].parts)
        )  # bids/derivatives/… lies in both
        for name, folder in inner_first:
            if path != MISSING and Path(path).is_relative_to(folder):
                self.used.add(name)
                return [f"bids:{name}:{Path(path).relative_to(folder).as_posix()}"]
        return []


def _rows(scans: str | Path) -> list[dict[str, str]]:
    with Path(scans).open(encoding="utf-8") as stream:
        columns = tuple(stream.readline().rstrip("\n").split("\t"))
    return read_table(scans, text_columns=columns).fillna(MISSING).to_dict("records")


def _description(sources: _Sources) -> dict[str, Any]:
    generated = [{"Name": "restresponse", "Version": __version__}]
    used = [name for name in sources.folders if name in sources.used]
    datasets = []
    for name in used:
        content = _read_description(sources.folders[name] / "dataset_description.json")
        datasets.append(
            {"URL": sources.links[name]} | ({"DOI": content["DatasetDOI"]} if content.get("DatasetDOI") else {})
        )
        if name == "preprocessed" and isinstance(content.get("GeneratedBy"), list):
            generated += content["GeneratedBy"]
    return {
        "Name": "Resting-state fMRI preprocessed by restresponse",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": generated,
        "SourceDatasets": datasets,
        "DatasetLinks": {name: sources.links[name] for name in used},
    }


def _read_description(path: Path) -> dict[str, Any]:
    """A dataset's description; one that is absent or damaged says nothing."""
    try:
        return read_object(path)
    except (OSError, InputError):
        return {}


def _export_anatomical(
    dataset: Path, results: Path, row: Mapping[str, str], sources: _Sources, grid: Mapping[str, str]
) -> None:
    anat = row["anat"]
    made, folder = results / "anatomical" / anat, _folder(dataset, anat, "anat")
    record = read_json(made / f"{anat}.json")
    if record["status"] != "done":
        return
    raw, own = sources.uri(row["t1w"]), _uri(dataset, folder, f"{anat}_desc-preproc_T1w.nii.gz")
    native = {"SpatialReference": own[0]}
    standard = {"Resolution": grid["Resolution"], "SpatialReference": record["spaces"]["MNI152"]}
    facts = {"SkullStripped": False, "ProcessingSteps": _steps(record)}
    mask = {"Description": "Brain of the T1w image.", "Sources": raw, "Type": "Brain"}
    mask |= {"ProcessingSteps": _steps(record, "brain extraction")}
    _add(made / f"{anat}_desc-brain_mask.nii.gz", folder, f"{anat}_desc-brain_mask", mask | native)
    for name, source, description, read, space in (
        (anat, anat, "on its own voxels", raw, native),
        (
            f"{anat}_space-{record['spaces']['label']}_res-{grid['res']}",
            f"{anat}_space-MNI152",
            "in MNI space",
            own,
            standard,
        ),
    ):
        said = {"Description": f"T1w image without its bias field, {description}.", "Sources": read}
        _add(made / f"{source}_desc-preproc_T1w.nii.gz", folder, f"{name}_desc-preproc_T1w", said | space | facts)
        for tissue in _TISSUES:
            said = {"Description": f"Probability of {tissue}, 0 to 1, {description}.", "Sources": own} | space
            said |= {"ProcessingSteps": _steps(record, "segmentation")}
            _add(made / f"{source}_label-{tissue}_probseg.nii.gz", folder, f"{name}_label-{tissue}_probseg", said)


def _export_scan(
    dataset: Path, results: Path, cleaned: Path, row: Mapping[str, str], sources: _Sources, grid: Mapping[str, str]
) -> None:
    scan = row["scan"]
    made, folder = results / "functional" / scan, _folder(dataset, scan, "func")
    record, denoised = read_json(made / f"{scan}.json"), read_json(cleaned / f"{scan}_desc-denoised.json")
    if record["status"] != "done":
        return
    own = row["space"] == MISSING
    anat = row["anat"]
    label = reference = row["space"]
    if own:
        spaces = read_json(results / f"anatomical/{anat}/{anat}.json")["spaces"]
        label, reference = spaces["label"], spaces["MNI152"]
    name = f"{scan}_space-{label.replace(':', '_')}_res-{grid['res']}"  # MNIPediatricAsym:cohort-1
    space = {"Resolution": grid["Resolution"], "SpatialReference": reference}
    steps = _steps(record)
    series = {"TaskName": row["task"], "RepetitionTime": float(row["repetition_time"]), "SkullStripped": True}
    timed = [step["Tool"] != "none" for step in steps if step["Step"] == "slice timing"]
    series |= {"SliceTimingCorrected": timed[0]} if timed else {}
    paths = [row[column] for column in ("bold", "t1w", "mask", "confounds")]
    if any(step["Step"] == "field map" for step in steps):
        paths += files_of(read_field_map(row["fieldmap"]))
    read = [uri for path in paths for uri in sources.uri(path)]
    image = {"Description": "Preprocessed BOLD series, smoothed as the steps say, 0 outside the template's brain."}
    _add(
        made / f"{scan}_space-MNI152_desc-preproc_bold.nii.gz",
        folder,
        f"{name}_desc-preproc_bold",
        image | {"Sources": read} | space | series | {"ProcessingSteps": steps},
    )
    seen = (
        row["bold"] if row["mask"] == MISSING else row["mask"]
    )  # a mask that came with the scan was not made of it here
    mask = {"Description": "Brain of the scan itself.", "Sources": sources.uri(seen), "Type": "Brain"}
    mask |= {"ProcessingSteps": _steps(record, "functional mask", "resampling")}
    _add(made / f"{scan}_space-MNI152_desc-brain_mask.nii.gz", folder, f"{name}_desc-brain_mask", mask | space)
    taken = _uri(dataset, folder, f"{name}_desc-preproc_bold.nii.gz", f"{scan}_desc-confounds_timeseries.tsv")
    came = sources.uri(row["confounds"])
    images, computed = [uri for uri in read if uri not in came], record.get("computed_confounds", ())
    for table in sorted(made.glob(f"{scan}_desc-*_timeseries.tsv")):
        how = _uri(dataset, folder, f"{name}_desc-preproc_bold.json")
        _add_table(table, folder, lambda column: images if own or column in computed else came, how)
    for table in sorted(cleaned.glob(f"{scan}_desc-*_timeseries.tsv")):
        how = _uri(dataset, folder, f"{name}_desc-denoised_bold.json") if denoised["status"] == "done" else []
        _add_table(table, folder, lambda column: [] if column == "linear_trend" else taken[1:], how)
    if denoised["status"] != "done":
        return
    image = {"Description": "The preprocessed series after denoising, mean of 0 in time.", "Sources": taken}
    denoising = {
        "Settings": denoised["settings"],
        "Regressors": denoised["regressors"],
        "OutlierVolumes": denoised["outlier_volumes"],
        "ResidualDegreesOfFreedom": denoised["dof_residual"],
    }
    _add(
        cleaned / f"{scan}_space-MNI152_desc-denoised_bold.nii.gz",
        folder,
        f"{name}_desc-denoised_bold",
        image | space | series | {"Denoising": denoising},
    )


def _steps(record: Mapping[str, Any], *last: str) -> list[dict[str, Any]]:
    """The steps of a record without how long they took; all, or up to the last one of these names, none where there is none."""
    keys = {"Step": "step", "Tool": "tool", "Version": "version", "Parameters": "parameters", "Description": "method"}
    steps = [{name: step[key] for name, key in keys.items() if step[key] is not None} for step in record["steps"]]
    ends = [number for number, step in enumerate(steps, start=1) if not last or step["Step"] in last]
    return steps[: max(ends, default=0)]


def _folder(dataset: Path, stem: str, kind: str) -> Path:
    """sub-01/[ses-1/]kind of an image's name."""
    return dataset.joinpath(*[part for part in stem.split("_") if part.startswith(("sub-", "ses-"))], kind)


def _uri(dataset: Path, folder: Path, *names: str) -> list[str]:
    return [f"bids::{(folder / name).relative_to(dataset).as_posix()}" for name in names]


def _add(made: Path, folder: Path, stem: str, facts: Mapping[str, Any]) -> None:
    """A link to an image and its sidecar."""
    _link(made, folder / f"{stem}.nii.gz")
    write_json(folder / f"{stem}.json", facts)


def _add_table(table: Path, folder: Path, made_of: Callable[[str], list[str]], how: list[str]) -> None:
    """A link to a table, and what each of its columns is, of what it was made and in whose sidecar the parameters are.

    All of it is said of the columns: readers of fMRIPrep's file take every entry for a column, and pandas reads no other.
    """
    _link(table, folder / table.name)
    facts, place = table.with_suffix(".json"), folder / table.with_suffix(".json").name
    if facts.stat().st_size == 0:  # of a scan that failed in denoising
        _link(facts, place)
        return
    said = {"ParametersIn": how} if how else {}
    columns = read_json(facts).items()
    write_json(
        place,
        {
            name: entry | {"Sources": made_of(name)} | said if isinstance(entry, dict) else entry
            for name, entry in columns
        },
    )


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))
