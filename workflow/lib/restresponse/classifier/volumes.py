"""The first preprocessed volumes of each participant on the classifier's grid: the channels of an arm of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.classifier.inputs import ClassifierGrid
from restresponse.errors import InputError
from restresponse.files import whole, write_array, writing_folder
from restresponse.images import included_scans
from restresponse.provenance import write_sidecar

_AT_ONCE = 20  # volumes read together: enough for speed, little memory


def extract_batch(*, bold: Mapping[str, Mapping[str, str | Path]], folder: str | Path, **settings: Any) -> None:
    """Volumes of each participant of `bold` (participant -> scan -> image): `{participant}.npy` and `.json` in `folder`.

    `settings` are the further arguments of `extract_volumes`.
    """
    with writing_folder(folder) as temporary:
        for participant, images in bold.items():
            extract_volumes(
                bold=images,
                participant=participant,
                volumes=temporary / f"{participant}.npy",
                record=temporary / f"{participant}.json",
                **settings,
            )


def extract_volumes(
    *,
    bold: Mapping[str, str | Path],
    inclusion: str | Path,
    mask: str | Path,
    participant: str,
    n_volumes: int,
    voxel_size: float | None,
    volumes: str | Path,
    record: str | Path,
) -> None:
    """Write the first `n_volumes` volumes of one of a participant's included scans, `(n_kept, n_voxels)` float32.

    The scan is the first included one that has as many; where none has, the longest, and an arm that asks for more than
    there are leaves the participant out. No rows without an included scan. `bold` holds a path for each scan.
    """
    import nibabel as nib

    target = ClassifierGrid.of(mask, voxel_size)
    images = {}
    for scan in included_scans(inclusion, list(bold)):
        with whole(bold[scan]):
            images[scan] = nib.load(bold[scan], keep_file_open=True)
    lengths = {scan: image.shape[3] for scan, image in images.items()}
    chosen = next(
        (scan for scan in lengths if lengths[scan] >= n_volumes), max(lengths, key=lengths.__getitem__, default=None)
    )
    kept = min(n_volumes, lengths[chosen]) if chosen else 0
    rows = np.zeros((kept, target.n_voxels), np.float32)
    for start in range(0, kept, _AT_ONCE):
        stop = min(start + _AT_ONCE, kept)
        with whole(bold[chosen]):
            block = np.asarray(images[chosen].dataobj[..., start:stop], np.float32)
        if block.shape[:3] != target.source_mask.shape:
            raise InputError(
                f"{bold[chosen]} has shape {block.shape[:3]}; expected {target.source_mask.shape}: it was made on "
                "another grid, remove it and run again"
            )
        for index in range(start, stop):
            rows[index] = target.from_volume(block[..., index - start])
    write_array(volumes, rows)
    write_sidecar(
        record,
        applied_to=[participant] if chosen else [],
        sources=[bold[chosen]] if chosen else [],
        parameters={"n_volumes": n_volumes, "voxel_size": voxel_size},
        scan=chosen,
        n_volumes=kept,
        n_available=lengths,
        n_voxels=target.n_voxels,
    )
