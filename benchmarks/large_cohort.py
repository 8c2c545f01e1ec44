"""What a cohort of any size costs: the short steps measured on one participant at the paper's size, and what follows from them.

python benchmarks/large_cohort.py FOLDER [--participants 43 1000 10000] [--volumes 343] [--voxel-size 2]

Prints two tables in Markdown: CPU seconds, peak memory and bytes kept of each step (one scan of noise in the template's brain,
30 components; each step in a process of its own), and core-hours and disk of whole cohorts with ten folds. Preprocessing is
measured by `preprocessing.py`, training by the workflow itself (`metrics/timing.tsv`); neither is repeated here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "lib"))
import restresponse.adapter  # noqa: F401  isort: skip  one BLAS thread, before numpy is loaded

import numpy as np
import yaml

SCAN, BATCH, N_COMPONENTS, REPETITION_TIME = "sub-01_task-rest", "batch-01", 30, 2.6
CONFIG = yaml.safe_load((Path(__file__).resolve().parents[1] / "config" / "config.yaml").read_text())
N_FOLDS = CONFIG["folds"]["n_folds"]


def prepare(folder: Path, n_volumes: int, voxel_size: float) -> None:
    """Template mask, one preprocessed scan of noise with its confounds and record, and 30 group maps."""
    import pandas as pd

    from restresponse.files import write_array, write_image, write_json, write_table
    from restresponse.functional.confounds import confounds
    from restresponse.functional.preprocess import write_series
    from restresponse.grid import brain_mask, grid
    from restresponse.layout import functional_files

    rng = np.random.default_rng(1)
    brain, (shape, affine) = brain_mask(voxel_size), grid(voxel_size)
    write_image(folder / "mask.nii.gz", brain, affine)
    series = np.zeros((*shape, n_volumes), np.float32)
    for volume in range(n_volumes):
        series[brain, volume] = 1000 + 30 * rng.standard_normal(brain.sum(), np.float32)
    files = functional_files(folder / "preprocessed", SCAN)
    write_series(files["image"], series, affine, REPETITION_TIME)
    write_image(files["mask"], brain, affine)
    motion = np.cumsum(0.001 * rng.standard_normal((n_volumes, 6)), axis=0)  # mm and rad
    masks = {"brain": brain} | {
        name: brain & (np.arange(shape[0])[:, None, None] % 5 == index) for index, name in enumerate(("WM", "CSF"))
    }
    write_table(files["confounds"], confounds(series, affine, REPETITION_TIME, motion, masks))
    write_json(files["record"], {"status": "done", "reason": None, "steps": [], "repetition_time": REPETITION_TIME})
    write_array(folder / "components.npy", rng.standard_normal((N_COMPONENTS, int(brain.sum())), np.float32))
    write_json(folder / "components.json", {"fitted_on": ["sub-01"], "labels_of": []})
    table = pd.DataFrame([{"scan": SCAN, "participant_id": "sub-01", "included": True, "reason": None}])
    write_table(folder / "inclusion.tsv", table)


def steps(folder: Path, n_volumes: int) -> dict[str, tuple[Callable[[], None], str, int]]:
    """Rule -> its call for one participant, what it writes, and for how many cohorts it is done."""
    from restresponse.classifier.volumes import extract_batch
    from restresponse.dual_regression import regress_batch
    from restresponse.functional.denoising import denoise_batch
    from restresponse.group_ica.reduction import reduce_batch
    from restresponse.layout import denoised_images, preprocessed_images
    from restresponse.quality.measures import measure_batch

    scans = {"sub-01": [SCAN]}
    common = {"mask": folder / "mask.nii.gz", "inclusion": folder / "inclusion.tsv"}
    denoised, measures = folder / "denoised", folder / "scans"
    return {
        "functional_denoise": (
            lambda: denoise_batch(
                {SCAN: folder / "preprocessed"},
                denoised,
                repetition_times={SCAN: REPETITION_TIME},
                settings=CONFIG["functional"]["denoising"],
            ),
            "denoised",
            1,
        ),
        "quality_measure": (
            lambda: measure_batch(
                scans=scans,
                preprocessed=[folder / "preprocessed"],
                denoised=denoised,
                group_mask=common["mask"],
                folder=measures,
            ),
            "scans",
            1,
        ),
        "group_ica_reduce": (
            lambda: reduce_batch(
                bold=denoised_images(denoised, scans), n_dimensions=64, folder=folder / "reduced", **common
            ),
            "reduced",
            1,
        ),
        "dual_regression_maps": (
            lambda: regress_batch(
                bold=denoised_images(denoised, scans),
                measures=measures,
                components=folder / "components.npy",
                component_facts=folder / "components.json",
                normalise_time_courses=True,
                folder=folder / "maps",
                **common,
            ),
            "maps",
            1 + N_FOLDS,
        ),
        "classifier_volumes": (
            lambda: extract_batch(
                bold=preprocessed_images([folder / "preprocessed"], scans),
                n_volumes=n_volumes,
                voxel_size=None,
                folder=folder / "volumes",
                **common,
            ),
            "volumes",
            1,
        ),
    }


def measured(folder: Path, rule: str, n_volumes: int) -> tuple[float, float]:
    """CPU seconds of a step, imports not counted, and its peak memory in MB, in this process."""
    call = steps(folder, n_volumes)[rule][0]
    start = time.process_time()
    call()
    return time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def size_mb(folder: Path) -> float:
    """Megabytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Measure the steps, print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--participants", type=int, nargs="+", default=[43, 1000, 10000])
    parser.add_argument("--volumes", type=int, default=343)
    parser.add_argument("--voxel-size", type=float, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    own = multiprocessing.get_context("spawn")
    with own.Pool(1, maxtasksperchild=1) as pool:
        pool.apply(prepare, (given.folder, given.volumes, given.voxel_size))
        print("| rule | CPU s a participant | peak MB | MB kept | times |\n|---|---|---|---|---|")
        seconds, kept = 0.0, size_mb(given.folder / "preprocessed")
        print(f"| (preprocessed scan) | | | {kept:.0f} | 1 |")
        for rule, (_, output, times) in steps(given.folder, given.volumes).items():
            cpu, peak = pool.apply(measured, (given.folder, rule, given.volumes))
            size = size_mb(given.folder / output)
            seconds, kept = seconds + times * cpu, kept + times * size
            print(f"| {rule} | {cpu:.1f} | {peak:.0f} | {size:.0f} | {times} |", flush=True)
    print("\n| participants | core-hours of these steps | TB kept |\n|---|---|---|")
    for n in given.participants:
        print(f"| {n:,} | {n * seconds / 3600:,.1f} | {n * kept / 1e6:,.2f} |")


if __name__ == "__main__":
    main()
