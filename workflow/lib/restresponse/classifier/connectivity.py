"""Connectivity between 32 fixed nodes, motion and global signal of each participant: what the baselines know of a scan.

The nodes are those of CONN's HCP-ICA atlas, which are embedded: nothing about them was fitted on this cohort, so that the
same numbers serve every fold. Time courses of a dual regression would have to be made again for each fold's components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_array, writing_folder
from restresponse.images import included_scans, masked_series, read_mask
from restresponse.layout import denoised_files, functional_files
from restresponse.networks import RADIUS, blobs, network_nodes
from restresponse.provenance import write_sidecar

MEASURES = ("mean_framewise_displacement", "global_signal")


def node_weights(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Weights `(n_nodes, n_voxels)` that average a series over each node: a Gaussian, cut at two standard deviations."""
    centres = np.array([position for _, _, position in network_nodes()])
    maps = blobs(np.eye(len(centres)), centres, np.full(len(centres), RADIUS), mask.shape, affine)
    weights = maps.reshape(len(centres), -1)[:, mask.ravel()].astype(np.float64)
    weights[weights < np.exp(-2)] = 0.0
    total = weights.sum(axis=1, keepdims=True)
    if not np.all(total > 0):
        names = [node for _, node, _ in network_nodes()]
        raise InputError(
            f"no voxel of the mask is near the node {names[int(np.argmin(total))]}; expected a mask in MNI152 space of at "
            "most 12 mm: lower functional.voxel_size"
        )
    return weights / total


def connectivity(courses: np.ndarray) -> np.ndarray:
    """Fisher's z of the correlations between time courses `(n_scans, n_nodes)`: the upper triangle, row by row.

    A node without signal is correlated with none.
    """
    centred = courses - courses.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    upper = np.triu_indices(courses.shape[1], 1)
    return np.arctanh(np.clip((unit.T @ unit)[upper], -0.999999, 0.999999))


def measure_batch(
    *,
    preprocessed: Sequence[str | Path],
    denoised: str | Path,
    scans: Mapping[str, Sequence[str]],
    quality: str | Path,
    inclusion: str | Path,
    mask: str | Path,
    folder: str | Path,
) -> None:
    """Write `{participant}.npy` (connectivity, no values without an included scan) and its sidecar, which has `MEASURES`.

    Parameters
    ----------
    preprocessed : folder of each scan, in the order of `scans`
    denoised, quality : folders of the batch
    scans : participant -> scans
    inclusion : table of scan, participant_id, included
    mask : group mask
    folder : to write
    """
    inside, affine = read_mask(mask)
    weights = node_weights(inside, affine)
    folder_of = dict(zip([scan for names in scans.values() for scan in names], preprocessed, strict=True))
    with writing_folder(folder) as temporary:
        for participant, names in scans.items():
            found, rows, read = [], [], []
            for scan in included_scans(inclusion, names):
                image = denoised_files(denoised, scan)["image"]
                confounds = functional_files(folder_of[scan], scan)["confounds"]
                read += [image, confounds]
                series = masked_series(image, inside)
                found.append(connectivity(series.astype(np.float64) @ weights.T))
                displacement = read_json(f"{quality}/{scan}.json").get("mean_framewise_displacement")
                spread = global_signal_spread(confounds)
                rows.append(dict(zip(MEASURES, (displacement, spread), strict=True)))
            write_array(temporary / f"{participant}.npy", np.mean(found, axis=0) if found else np.zeros(0))
            write_sidecar(
                temporary / f"{participant}.json",
                applied_to=[participant] if found else [],
                sources=read,
                **{name: _mean([row[name] for row in rows]) for name in MEASURES},
            )


def global_signal_spread(confounds: str | Path) -> float | None:
    """Standard deviation in time of the global signal before denoising, in percent of its mean; None where not known."""
    table = read_table(confounds)
    if "global_signal" not in table or table.empty:
        return None
    values = table["global_signal"].to_numpy(np.float64)
    mean = float(np.nanmean(values))
    return 100 * float(np.nanstd(values)) / mean if mean > 0 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None
