"""Small BIDS trees for the tests of `dataset`: images of zeros, sidecars as asked for."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from restresponse.config import validate
from restresponse.dataset import read_dataset
from restresponse.errors import InputError

TR = 2.6
N_SLICES = 4
TIMES = [0.0, 0.65, 1.3, 1.95]


def write_nifti(path: Path, shape: tuple[int, ...], repetition_time: float = TR, unit: str = "sec") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4))
    if len(shape) == 4:
        image.header["pixdim"][4] = repetition_time
        image.header.set_xyzt_units("mm", unit)
    image.to_filename(path)
    return path


def write_sidecar(path: Path, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def add_scan(
    bids: Path,
    stem: str,
    *,
    sidecar: dict | None = None,
    shape: tuple[int, ...] = (3, 3, N_SLICES, 5),
    extension: str = ".nii.gz",
) -> Path:
    folder = bids.joinpath(*[part for part in stem.split("_") if part.startswith(("sub-", "ses-"))])
    if sidecar is not None:
        write_sidecar(folder / "func" / f"{stem}_bold.json", **sidecar)
    return write_nifti(folder / "func" / f"{stem}_bold{extension}", shape)


def add_t1w(bids: Path, stem: str) -> Path:
    folder = bids.joinpath(*[part for part in stem.split("_") if part.startswith(("sub-", "ses-"))])
    return write_nifti(folder / "anat" / f"{stem}_T1w.nii.gz", (3, 3, 3))


def start(bids: Path, table: str = "", **root_sidecar: object) -> Path:
    bids.mkdir(parents=True, exist_ok=True)
    (bids / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.8.0"}')
    if root_sidecar:
        write_sidecar(bids / "task-rest_bold.json", **root_sidecar)
    (bids / "participants.tsv").write_text(table or "participant_id\tpain_pre\tpain_post\nsub-01\t8\t4\nsub-02\t8\t7\n")
    return bids


def two_participants(folder: Path) -> Path:
    """Two participants, one scan each, timing in the sidecar at the root."""
    root = start(folder, RepetitionTime=TR, SliceTiming=TIMES, PhaseEncodingDirection="j-")
    for participant in ("sub-01", "sub-02"):
        add_scan(root, f"{participant}_task-rest")
        add_t1w(root, participant)
    return root


def default_settings() -> dict:
    """The section `dataset` of the default config."""
    return copy.deepcopy(validate({}, ".")["dataset"])


def problem_lines(bids: Path, settings: dict) -> list[str]:
    with pytest.raises(InputError) as raised:
        read_dataset(bids, settings)
    headline, *lines = str(raised.value).splitlines()
    return [line.removeprefix("  - ") for line in lines] or [headline]


def the_problem(bids: Path, settings: dict) -> str:
    [line] = problem_lines(bids, settings)
    return line
