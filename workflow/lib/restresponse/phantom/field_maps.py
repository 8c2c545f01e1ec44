"""BIDS field maps of a participant's `fmap/` folder: a phase difference with two magnitudes, or two EPIs read out both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from restresponse.files import save_image, write_json
from restresponse.networks import network_names
from restresponse.phantom import bold
from restresponse.phantom.anatomy import Warp, apply, rigid, sampled, soft_step, tissue_template
from restresponse.phantom.distortion import DIRECTION, READOUT, Distortion

ECHO_TIMES = (0.00492, 0.00738)  # s
VOXEL_SIZE = 3.0  # mm, of the gradient-echo field map
FULL_CIRCLE = 4096  # steps of the stored phase in a half turn, as Siemens scanners write it
_EXTENT = np.array([192.0, 216.0, 168.0])  # mm
_NOISE = 0.015  # of white matter's signal


def field_map_files(kind: str, participant: str) -> list[str]:
    """Names, without ending, of the images that a kind of field map consists of."""
    suffixes = {"none": (), "phasediff": ("magnitude1", "magnitude2", "phasediff"), "epi": ("dir-AP_epi", "dir-PA_epi")}
    return [f"{participant}_{suffix}" for suffix in suffixes[kind]]


def write_phase_difference(
    folder: Path,
    participant: str,
    intended_for: str,
    distortion: Distortion | None,
    warp: Warp,
    to_bold: np.ndarray,
    noise: float,
    generator: np.random.Generator,
) -> None:
    """Write `magnitude1`, `magnitude2` and `phasediff` of a head that lies a little otherwise than in the BOLD scan."""
    shape = tuple(int(n) for n in np.ceil(_EXTENT / VOXEL_SIZE))
    middle = apply(to_bold @ warp.affine, np.array([[0.0], [-18.0], [3.0]]))[:, 0]
    moved = rigid(generator.normal(0, 0.5, 3), np.deg2rad(generator.normal(0, 0.4, 3)), middle)
    affine = np.diag([VOXEL_SIZE] * 3 + [1.0])
    affine[:3, 3] = middle - VOXEL_SIZE * (np.array(shape) - 1) / 2
    at_rest = np.linalg.inv(moved) @ affine  # voxel -> BOLD world, the head as in the BOLD scan
    tissues, _ = sampled(warp, tissue_template(), shape, np.linalg.inv(to_bold) @ at_rest)
    grey, white, fluid, depth = np.moveaxis(tissues, -1, 0)
    head = 0.9 * grey + 0.8 * white + fluid
    head += np.clip(1 - grey - white - fluid, 0, 1) * 0.4 * (1 - soft_step(depth - 0.5, 2.0))
    head += 0.7 * soft_step(depth - 6, 2.0) * (1 - soft_step(depth - 12, 2.0))
    places = apply(at_rest, np.indices(shape, np.float64).reshape(3, -1))
    hertz = distortion.hertz(places).reshape(shape) if distortion else np.zeros(shape)
    deviation = noise * _NOISE
    echoes = [
        head * np.exp(-echo / 0.05 + 2j * np.pi * hertz * echo)
        + deviation * (generator.standard_normal(shape) + 1j * generator.standard_normal(shape))
        for echo in ECHO_TIMES
    ]
    phase = np.angle(echoes[1] * echoes[0].conj())
    stored = np.clip(np.rint(phase / np.pi * FULL_CIRCLE), -FULL_CIRCLE, FULL_CIRCLE - 1)
    shared = {"Modality": "MR", "MagneticFieldStrength": 3, "IntendedFor": [intended_for]}
    first, second = ({"EchoTime": echo} for echo in ECHO_TIMES)
    _write(folder / f"{participant}_magnitude1", np.rint(1000 * np.abs(echoes[0])), affine, shared | first)
    _write(folder / f"{participant}_magnitude2", np.rint(1000 * np.abs(echoes[1])), affine, shared | second)
    both = dict(zip(("EchoTime1", "EchoTime2"), ECHO_TIMES, strict=True))
    _write(folder / f"{participant}_phasediff", stored, affine, shared | both | {"Units": "arbitrary"})


def write_reversed_pair(
    folder: Path,
    participant: str,
    intended_for: str,
    distortion: Distortion | None,
    matrix: bold.Matrix,
    head: bold.Head,
    noise: float,
    generator: np.random.Generator,
) -> None:
    """Write `dir-AP_epi` as the BOLD scan is read out and `dir-PA_epi` the other way round, one volume each."""
    moved = np.concatenate([generator.normal(0, 0.3, 3), np.deg2rad(generator.normal(0, 0.2, 3))])
    n_networks = len(network_names())
    for name, direction, shown in (
        ("dir-AP", DIRECTION, distortion),
        ("dir-PA", DIRECTION.rstrip("-"), distortion.reversed() if distortion else None),
    ):
        stem = folder / f"{participant}_{name}_epi"
        bold.acquire(
            stem.with_suffix(".nii.gz"), matrix, head, 1, 2.6, _always(np.zeros(n_networks)),
            _always(np.zeros(head.changes.shape[3] - n_networks)), _always(moved), noise, generator, shown,
        )  # fmt: skip
        sidecar = {"Modality": "MR", "MagneticFieldStrength": 3, "EchoTime": 0.03, "IntendedFor": [intended_for]}
        write_json(
            stem.with_suffix(".json"), sidecar | {"PhaseEncodingDirection": direction, "TotalReadoutTime": READOUT}
        )


def _always(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Signals or motion that do not change in time."""
    return lambda times: np.broadcast_to(values, (*np.shape(times), len(values)))


def _write(stem: Path, data: np.ndarray, affine: np.ndarray, sidecar: dict) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(data.astype(np.int16), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    save_image(stem.with_suffix(".nii.gz"), image)
    write_json(stem.with_suffix(".json"), sidecar)
