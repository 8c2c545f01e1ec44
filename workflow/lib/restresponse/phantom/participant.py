"""One participant of the cohort: draws head, networks and motion from its own seeds, scans, and writes images, sidecars and truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restresponse.files import save_image, write_array, write_json, write_table, write_text
from restresponse.networks import network_names
from restresponse.phantom import anatomy, bold, field_maps, networks, signals
from restresponse.phantom.distortion import DIRECTION, READOUT, STEP, Distortion, draw_distortion
from restresponse.phantom.settings import EFFECT_SIGNS, CohortSettings

MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_STREAMS = (
    "warp",
    "networks",
    "time_courses",
    "motion",
    "physiology",
    "coregistration",
    "t1w",
    "matrix",
    "head",
    "scan",
    "table",
    "distortion",
    "field_map",
)


def generator_of(seed: int, index: int, stream: str) -> np.random.Generator:
    """The random numbers of one purpose in one participant: nothing else moves them."""
    return np.random.default_rng([seed, index, _STREAMS.index(stream)])


def make_participant(
    bids: Path, truth: Path, participant: str, index: int, responder: bool, settings: CohortSettings
) -> None:
    """Write one participant's T1w, BOLD and sidecars below `bids`, and what was planted below `truth`, its participant.json last."""

    def draw(stream: str) -> np.random.Generator:
        return generator_of(settings.seed, index, stream)

    warp = anatomy.draw_warp(draw("warp"))
    own = truth / participant
    _write_t1w(bids / participant / "anat" / f"{participant}_T1w", warp, settings, draw("t1w"))

    moved = draw("coregistration")
    middle = anatomy.apply(warp.affine, np.array([[0.0], [-18.0], [6.0]]))[:, 0]
    to_bold = anatomy.rigid(moved.normal(0, (1.5, 1.5, 2.0)), np.deg2rad(moved.normal(0, (1.5, 0.8, 0.8))), middle)
    matrix = bold.draw_matrix(
        draw("matrix"), np.array(settings.bold_voxel_size), settings.repetition_time, warp, to_bold
    )
    planted = networks.draw_networks(draw("networks"), responder, settings.effect, settings.effect_on, EFFECT_SIGNS)
    maps, maps_affine = planted.maps(2.0)
    head = bold.make_head(matrix, warp, to_bold, maps / 100, maps_affine, draw("head"))
    distortion = None
    if settings.distortion > 0:
        around = bold.parallel(matrix, STEP)
        distortion = draw_distortion(
            draw("distortion"), settings.distortion, *around, float(matrix.voxel_size[1]), warp, to_bold
        )

    duration = settings.volumes * settings.repetition_time
    starts = np.arange(settings.volumes) * settings.repetition_time
    middles = starts + settings.repetition_time / 2
    courses = signals.draw_harmonics(draw("time_courses"), duration, signals.BAND, len(network_names())).scaled(middles)
    motion = signals.draw_motion(draw("motion"), duration, settings.motion)
    physiology = signals.draw_physiology(draw("physiology"), duration)
    stem = bids / participant / "func" / f"{participant}_task-rest_bold"
    parameters = bold.acquire(
        stem.with_suffix(".nii.gz"),
        matrix,
        head,
        settings.volumes,
        settings.repetition_time,
        courses,
        physiology,
        motion,
        settings.noise,
        draw("scan"),
        distortion,
    )
    write_json(stem.with_suffix(".json"), _bold_sidecar(matrix, settings))
    folder, intended_for = bids / participant / "fmap", f"bids::{participant}/func/{stem.name}.nii.gz"
    if settings.field_map == "phasediff":
        field_maps.write_phase_difference(
            folder, participant, intended_for, distortion, warp, to_bold, settings.noise, draw("field_map")
        )
    elif settings.field_map == "epi":
        field_maps.write_reversed_pair(
            folder, participant, intended_for, distortion, matrix, head, settings.noise, draw("field_map")
        )

    _write_motion(own, parameters, motion.inside_jerk(starts, settings.repetition_time))
    _write_time_courses(own, courses, middles, starts)
    _write_places(own, warp, to_bold)
    if distortion:
        _write_distortion(own, distortion)
    maps, maps_affine = planted.maps(settings.truth_voxel_size)
    write_maps(own / "networks.nii.gz", maps, maps_affine)
    write_json(
        own / "participant.json",
        {
            "participant_id": participant,
            "responder": responder,
            "networks": list(network_names()),
            "amplitudes_percent": planted.amplitudes,
            "node_weights": planted.weights,
            "node_centres": planted.centres,
            "node_radii": planted.radii,
            "jerk_times": motion.jerk_times if settings.motion > 0 else [],
            "centre": matrix.centre,
            "slice_times": matrix.slice_times,
            "repetition_time": settings.repetition_time,
            "frequencies": courses.frequencies,
        },
    )


def write_maps(path: Path, maps: np.ndarray, affine: np.ndarray) -> None:
    """Write maps (K, X, Y, Z) as one NIfTI (X, Y, Z, K) in MNI space."""
    from restresponse.files import write_image

    write_image(path, np.ascontiguousarray(np.moveaxis(maps, 0, -1), np.float32), affine)


def _write_t1w(stem: Path, warp: anatomy.Warp, settings: CohortSettings, generator: np.random.Generator) -> None:
    import nibabel as nib

    data, affine = anatomy.t1w_image(warp, settings.t1w_voxel_size, settings.noise, generator)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    save_image(stem.with_suffix(".nii.gz"), image)
    sidecar = {
        "Modality": "MR",
        "MagneticFieldStrength": 3,
        "RepetitionTime": 2.3,
        "EchoTime": 0.003,
        "InversionTime": 0.9,
        "FlipAngle": 9,
    }
    write_json(stem.with_suffix(".json"), sidecar)


def _bold_sidecar(matrix: bold.Matrix, settings: CohortSettings) -> dict:
    readout = {"TotalReadoutTime": READOUT} if settings.distortion > 0 or settings.field_map != "none" else {}
    return {
        "TaskName": "rest",
        "Instructions": "Keep still, eyes open.",
        "Modality": "MR",
        "MagneticFieldStrength": 3,
        "RepetitionTime": settings.repetition_time,
        "EchoTime": 0.03,
        "FlipAngle": 80,
        "SliceTiming": matrix.slice_times,
        "PhaseEncodingDirection": DIRECTION,
    } | readout


def _write_distortion(own: Path, distortion: Distortion) -> None:
    from restresponse.files import write_image

    write_image(own / "distortion.nii.gz", distortion.displacement[..., 0], distortion.affine)


def _write_motion(own: Path, parameters: np.ndarray, jerk: np.ndarray) -> None:
    import pandas as pd

    table = pd.DataFrame(parameters.mean(axis=1), columns=MOTION_COLUMNS)
    table.insert(0, "volume", np.arange(len(table)))
    table["jerk"] = jerk.astype(int)
    write_table(own / "motion.tsv", table)
    write_array(own / "motion_slices.npy", parameters)


def _write_time_courses(own: Path, courses: signals.Harmonics, middles: np.ndarray, starts: np.ndarray) -> None:
    import pandas as pd

    for name, times in (("middle", middles), ("start", starts)):
        write_table(own / f"time_courses_{name}.tsv", pd.DataFrame(courses(times), columns=network_names()))
    write_array(own / "time_courses_harmonics.npy", np.vstack([courses.weights, courses.offset]))


def _write_places(own: Path, warp: anatomy.Warp, to_bold: np.ndarray) -> None:
    write_array(own / "displacement.npy", warp.displacement)
    write_array(own / "displacement_inverse.npy", warp.inverse_displacement())
    for name, matrix in (
        ("affine", warp.affine),
        ("displacement_affine", anatomy.displacement_affine()),
        ("coregistration", to_bold),
    ):
        write_text(own / f"{name}.txt", "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in matrix))
