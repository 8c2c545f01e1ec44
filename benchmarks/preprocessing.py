"""Accuracy, CPU time and memory of preprocessing on phantoms of the paper's size, against what was planted in them.

python benchmarks/preprocessing.py FOLDER [--seeds 201 202 203] [--engines embedded] [--distortion 4] [--peer simpleitk ants]

Makes the phantoms below FOLDER (1.8 x 1.8 x 4 mm, 120 volumes, a T1w of 0.9 mm, head motion scaled so that it reaches 3 mm or
3 deg), preprocesses each in a process of its own, and prints a table in Markdown. What is already in FOLDER is used again,
except the preprocessing. FSL is found as the engine finds it; SPM's command is in RESTRESPONSE_SPM_COMMAND (and its folder in
RESTRESPONSE_SPM_FOLDER, where the command does not know it; the priors in RESTRESPONSE_SPM_PRIORS). `--together` runs the first two seeds one after the other and then at once, and gives the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "lib"))
import restresponse.adapter  # noqa: F401  isort: skip  one BLAS thread, before numpy is loaded

import numpy as np
from preprocessing_errors import errors

PARTICIPANT = "sub-01"
LARGEST = 3.0  # mm and deg that the head's motion reaches
REPETITION_TIME = 2.6  # s
DENOISING = {
    "wm_components": 5, "csf_components": 5, "motion_parameters": 12, "outlier_displacement": 0.9,
    "outlier_global_signal": 5, "detrend": True, "bandpass_low": 0.008, "bandpass_high": 0.09, "bandpass": "simultaneous",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Make the phantoms, run the engines, print the table."""
    given = _parser().parse_args(arguments)
    if given.child:
        child(Path(given.folder), given.engines[0], given.voxel_size, given.unwarp)
        return
    rows: list[dict[str, str]] = []
    folders = {seed: make(Path(given.folder), seed, given) for seed in given.seeds}
    for engine in given.engines:
        for seed, folder in folders.items():
            measured = run([(folder, engine)], given.voxel_size, given.unwarp)[0]
            rows += rows_of(engine, seed, measured, errors(folder, folder / engine))
    show(rows)
    for peer in given.peer or ():
        import preprocessing_peers

        print(preprocessing_peers.compare(peer, folders[given.seeds[0]], given.engines[0]))
    if given.together:
        two = [(folders[seed], given.engines[0]) for seed in given.seeds[:2]]
        alone = sum(run([one], given.voxel_size, given.unwarp)[0]["wall"] for one in two) / 2
        both = max(one["wall"] for one in run(two, given.voxel_size, given.unwarp))
        print(
            f"\ntwo scans at once: {both:.0f} s; one alone (mean of the two): {alone:.0f} s; ratio {both / alone:.2f}"
        )


def make(folder: Path, seed: int, given: argparse.Namespace) -> Path:
    """The phantom of a seed; its motion is scaled to reach `LARGEST`."""
    from restresponse.phantom.participant import generator_of
    from restresponse.phantom.signals import draw_motion

    own = folder / f"seed-{seed}"
    duration = given.volumes * REPETITION_TIME
    unscaled = np.abs(draw_motion(generator_of(seed, 0, "motion"), duration, 1.0)(np.arange(0, duration, 0.2)))
    factor = min(10.0, LARGEST / max(unscaled[:, :3].max(), np.rad2deg(unscaled[:, 3:].max())))
    command = [
        sys.executable,
        "-m",
        "restresponse.phantom",
        str(own / "bids"),
        "--participants",
        "1",
        "--responders",
        "1",
    ]
    command += ["--volumes", str(given.volumes), "--repetition-time", str(REPETITION_TIME), "--seed", str(seed)]
    command += ["--bold-voxel-size", *map(str, given.bold_voxel_size), "--t1w-voxel-size", str(given.t1w_voxel_size)]
    command += ["--motion", f"{factor:.4f}"] + ([] if given.field_map == "none" else ["--field-map", given.field_map])
    command += [] if given.distortion is None else ["--distortion", str(given.distortion)]
    path = Path(__file__).resolve().parents[1] / "workflow" / "lib"
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(path)}, stdout=sys.stderr)
    return own


def run(works: list[tuple[Path, str]], voxel_size: float, unwarp: str) -> list[dict[str, Any]]:
    """Preprocess phantoms at once, each in a process of its own; seconds, memory and steps of each."""
    started, processes = time.monotonic(), []
    memory: list[list[tuple[float, float]]] = [[] for _ in works]
    for folder, engine in works:
        command = [
            sys.executable,
            __file__,
            str(folder),
            "--child",
            "--engines",
            engine,
            "--voxel-size",
            str(voxel_size),
            "--unwarp",
            unwarp,
        ]
        processes.append(subprocess.Popen(command, stdout=sys.stderr))
    watchers = [
        threading.Thread(target=_watch, args=(process, memory[index])) for index, process in enumerate(processes)
    ]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    results = []
    for (folder, engine), process, moments in zip(works, processes, memory, strict=True):
        if process.returncode != 0:
            sys.exit(f"preprocessing of {folder} with {engine} ended with status {process.returncode}; see above")
        content = json.loads((folder / engine / "measured.json").read_text())
        ended = max(end for _, _, end in content["windows"])  # what is measured after that is no part of it
        peak = max(used for when, used in moments if when <= ended)
        peaks = _peaks(content["windows"], moments)
        results.append({**content, "peak": peak, "peaks": peaks, "wall": ended - started})
    return results


def _peaks(windows: list[list[Any]], moments: list[tuple[float, float]]) -> dict[str, float]:
    """Greatest memory (MB) while each step ran, by its name; one that was over between two looks has none."""
    peaks: dict[str, float] = {}
    for name, start, end in windows:
        for when, used in moments:
            if start <= when <= end:
                peaks[name] = max(peaks.get(name, 0.0), used)
    return peaks


def _watch(process: subprocess.Popen, moments: list[tuple[float, float]]) -> None:
    """Memory (MB) of a process and its children, looked at 10 times a second."""
    import psutil

    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in (root, *root.children(recursive=True)):
                total += one.memory_info().rss
        except psutil.Error:  # a child has ended meanwhile
            pass
        moments.append((time.monotonic(), total / 1e6))
        time.sleep(0.1)


def child(folder: Path, engine: str, voxel_size: float, unwarp: str) -> None:
    """Anatomical, functional, denoising of one phantom; CPU seconds of this process and its children."""
    from restresponse.anatomical import normalise_anatomical
    from restresponse.files import read_json, write_json
    from restresponse.functional.denoising import denoise_scan
    from restresponse.functional.preprocess import preprocess_scan

    own, out = folder / "bids" / PARTICIPANT, folder / engine
    _keep_shift(out)
    engine_settings = settings_of(engine)
    anatomical, functional, denoised = outputs(out)
    cpu, stages, times = [_cpu()], ["start"], [time.monotonic()]
    windows = _windows()

    def done(stage: str) -> None:
        cpu.append(_cpu())
        stages.append(stage)
        times.append(time.monotonic())
        windows.append((stage, times[-2], times[-1]))

    done("imports")
    normalise_anatomical(
        own / "anat" / f"{PARTICIPANT}_T1w.nii.gz", anatomical, engine=engine, engine_settings=engine_settings,
        bias_correction=True, segmentation_iterations=20, voxel_size=voxel_size,
    )  # fmt: skip
    done("anatomical")
    stem = own / "func" / f"{PARTICIPANT}_task-rest_bold"
    sidecar = read_json(stem.with_suffix(".json"))
    preprocess_scan(
        stem.with_suffix(".nii.gz"), anatomical, functional, repetition_time=sidecar["RepetitionTime"],
        slice_times=sidecar["SliceTiming"], engine=engine, engine_settings=engine_settings, voxel_size=voxel_size, slice_timing=True, smoothing_fwhm=5,
        unwarp=unwarp, phase_encoding_direction=sidecar["PhaseEncodingDirection"],
        total_readout_time=sidecar.get("TotalReadoutTime"), field_map=_field_map(folder / "bids"),
    )  # fmt: skip
    done("functional")
    denoise_scan(
        functional["image"], functional["confounds"], functional["record"], denoised["image"], denoised["record"],
        denoised["design"], denoised["design_facts"], scan=f"{PARTICIPANT}_task-rest", repetition_time=sidecar["RepetitionTime"], settings=DENOISING,
    )  # fmt: skip
    done("denoising")
    records = {"anatomical": read_json(anatomical["record"]), "functional": read_json(functional["record"])}
    for name, record in records.items():
        if record["status"] != "done":
            sys.exit(f"{name} failed: {record['reason']}")
    spent = {stage: after - before for stage, before, after in zip(stages[1:], cpu, cpu[1:], strict=False)}
    kept = sum(path.stat().st_size for path in (functional["image"], denoised["image"]))
    steps = {name: record["steps"] for name, record in records.items()}
    measured = {"cpu": spent, "cpu_all": cpu[-1], "kept_mb": kept / 1e6, "steps": steps, "windows": windows}
    measured["compression"] = _compression([functional["image"], denoised["image"]])
    write_json(out / "measured.json", measured)


def _compression(series: list[Path]) -> float:
    """CPU seconds that writing the series once more takes; their voxels are in memory before."""
    import nibabel as nib

    from restresponse.files import save_image

    total = 0.0
    for path in series:
        image = nib.load(path)
        stored = nib.Nifti1Image(np.asanyarray(image.dataobj.get_unscaled()), image.affine, image.header)
        stored.header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)
        start, again = _cpu(), path.with_name("again.nii.gz")
        save_image(again, stored)
        total += _cpu() - start
        again.unlink()
    return total


def _windows() -> list[tuple[str, float, float]]:
    """A list to which every step of an engine adds its name and the system's clock at its start and end, in s."""
    from restresponse.engines import Engine

    windows: list[tuple[str, float, float]] = []
    step = Engine.step

    @contextmanager
    def timed(self: Engine, name: str, *rest: Any) -> Any:
        start = time.monotonic()
        with step(self, name, *rest) as facts:
            yield facts
        windows.append((name, start, time.monotonic()))

    Engine.step = timed
    return windows


def _field_map(dataset: Path) -> dict[str, Any] | None:
    """The field map of the phantom's scan, as the scans table has it."""
    from restresponse.dataset.discovery import Image
    from restresponse.dataset.fieldmaps import FieldMaps
    from restresponse.dataset.sidecars import Sidecars

    stem = f"{PARTICIPANT}_task-rest"
    image = Image(stem, "bold", dataset / PARTICIPANT / "func" / f"{stem}_bold.nii.gz", {"sub": "01", "task": "rest"})
    sidecars = Sidecars(dataset)
    return FieldMaps(dataset, sidecars).of(image, sidecars.of(image.path.parent, f"{stem}_bold")[0])[0]


def settings_of(engine: str) -> dict[str, Any]:
    """The engine's part of the config's section `engines`."""
    if engine != "spm":
        return {}
    command = os.environ.get("RESTRESPONSE_SPM_COMMAND", "")
    return {
        "command": command, "use_mcr": "matlab" not in command, "folder": os.environ.get("RESTRESPONSE_SPM_FOLDER"),
        "priors": os.environ.get("RESTRESPONSE_SPM_PRIORS", "template"),
    }  # fmt: skip


def _keep_shift(out: Path) -> None:
    """Have the distortion that was found copied beside the results: the working folder, where it is, is removed."""
    from restresponse.functional import preprocess

    correct = preprocess.unwarped

    def keeping(*arguments: Any) -> Any:
        distortion, mask, coregistration = correct(*arguments)
        if distortion is not None:
            shutil.copyfile(distortion.shift, out / "shift.nii")
        return distortion, mask, coregistration

    preprocess.unwarped = keeping


def outputs(out: Path) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """Paths of what anatomical, functional and denoising write in a folder."""
    tissues = ("GM", "WM", "CSF")
    names = ("T1w", "brain_mask", *tissues, "warp", "T1w_MNI", *(f"{tissue}_MNI" for tissue in tissues))
    anatomical = {name: out / f"{name}.nii.gz" for name in names}
    anatomical |= {"affine": out / "affine.mat", "record": out / "anatomical.json"}
    functional = {"image": out / "bold.nii.gz", "mask": out / "mask.nii.gz", "confounds": out / "confounds.tsv"}
    functional |= {"confounds_facts": out / "confounds.json", "record": out / "functional.json"}
    denoised = {"image": out / "denoised.nii.gz", "record": out / "denoised.json"}
    denoised |= {"design": out / "design.tsv", "design_facts": out / "design.json"}
    return anatomical, functional, denoised


def rows_of(engine: str, seed: int, measured: dict[str, Any], found: dict[str, str]) -> list[dict[str, str]]:
    """Rows of the table: each step of the records, with the error that belongs to it, then the stages' CPU and the whole."""
    rows = []

    def peak(name: str) -> str:
        return f"{measured['peaks'][name]:.0f}" if name in measured["peaks"] else ""

    for stage, steps in measured["steps"].items():
        for step in steps:
            if step["seconds"] is None:
                continue
            spent = f"{step['cpu_seconds']:.1f}" if step.get("cpu_seconds") is not None else ""
            error, wall = found.get(step["step"], ""), f"{step['seconds']:.1f}"
            rows.append(_row(seed, engine, step["step"], error, spent, wall, peak(step["step"])))
        whole = f"*{stage}, with reading and writing*"
        rows.append(_row(seed, engine, whole, "", f"{measured['cpu'][stage]:.1f}", "", peak(stage)))
    spent = f"{measured['cpu']['denoising']:.1f}"
    rows.append(_row(seed, engine, "*denoising*", "", spent, "", peak("denoising")))
    kept = f"{measured['kept_mb']:.0f} MB kept in two series, their compression {measured['compression']:.1f} CPU s"
    rows.append(
        _row(
            seed,
            engine,
            "**all**",
            kept,
            f"{measured['cpu_all']:.1f}",
            f"{measured['wall']:.1f}",
            f"{measured['peak']:.0f}",
        )
    )
    return rows


def _row(seed: int, engine: str, step: str, error: str, cpu: str, wall: str = "", peak: str = "") -> dict[str, str]:
    return {
        "step": step, "engine": engine, "seed": str(seed), "error": error, "CPU s": cpu, "wall s": wall, "peak MB": peak
    }  # fmt: skip


def show(rows: list[dict[str, str]]) -> None:
    """Print rows as a table in Markdown."""
    columns = list(rows[0])
    print(" | ".join(["", *columns, ""]).strip())
    print("|" + "---|" * len(columns))
    for row in rows:
        print(" | ".join(["", *(row[column] for column in columns), ""]).strip())


def _cpu() -> float:
    """CPU seconds of this process and of its ended children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", help="where phantoms and results go")
    add("--seeds", type=int, nargs="+", default=[201, 202, 203])
    add("--engines", nargs="+", default=["embedded"])
    add("--volumes", type=int, default=120)
    add("--bold-voxel-size", type=float, nargs=3, default=[1.8, 1.8, 4.0], help="mm")
    add("--t1w-voxel-size", type=float, default=0.9, help="mm")
    add("--voxel-size", type=float, default=2.0, help="mm, of the grid in MNI space")
    add("--distortion", type=float, default=None, help="mm, greatest susceptibility distortion; handed to the phantom")
    add("--field-map", choices=("none", "phasediff", "epi"), default="none", help="what the phantom has in fmap/")
    add(
        "--unwarp",
        choices=("auto", "fieldmap", "registration", "motion", "none"),
        default="auto",
        help="functional.unwarp",
    )
    add("--peer", nargs="*", help="programs to compare a step with: simpleitk (coregistration), ants (normalisation)")
    add("--together", action="store_true", help="also time two scans at once")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
