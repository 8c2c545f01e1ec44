"""Group PCA of many participants: memory and time of every kind of job, on made-up reduced maps.

    python benchmarks/group_ica.py merged FOLDER --participants 100 300 1000 --voxels 2000
    python benchmarks/group_ica.py exact FOLDER --participants 50 100 150 --voxels 2000

Each job runs in a process of its own, whose peak memory and CPU seconds the kernel counts. Prints tables in Markdown.
`merged` runs the tree and the passes of the cohort of everyone and gives the certificate; with `--compare` also the
distance to the group PCA from all inner products. `exact` runs the latter alone. One thread.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse  # noqa: E402
import contextlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import scipy.linalg  # noqa: E402, F401  the children share what is imported here

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "workflow" / "lib"), str(ROOT / "tests" / "unit")]

from merged_cohort import exact, lay_out_paths, merged, merged_jobs  # noqa: E402

from restresponse.files import read_json, write_json, writing  # noqa: E402
from restresponse.group_ica.layout import Layout  # noqa: E402
from restresponse.group_ica.reduction import reduce_series, variance_normalise  # noqa: E402

N_COMPONENTS, N_DIMENSIONS, N_VOLUMES = 30, 64, 120


def measured(job: Callable[[], Any]) -> dict[str, float]:
    """Peak memory (MB) and CPU seconds of a job in a process of its own."""
    child = os.fork()
    if not child:
        status = 1
        try:
            with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
                job()
            status = 0
        finally:
            os._exit(status)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"a job ended with {status}")
    return {"peak_mb": usage.ru_maxrss / 1024, "cpu_s": usage.ru_utime + usage.ru_stime}


def write_reduced(path: Path, seed: int, n_voxels: int) -> None:
    """Reduced maps of one participant: thirty sparse networks that all have in common, own deviations, smooth noise."""
    from scipy.ndimage import gaussian_filter1d

    common, own = np.random.default_rng(0), np.random.default_rng((1, seed))
    networks = np.zeros((N_COMPONENTS, n_voxels), np.float32)
    for row, amplitude in zip(networks, np.linspace(1.5, 0.5, N_COMPONENTS), strict=True):
        row[common.choice(n_voxels, n_voxels // 15, replace=False)] = amplitude * common.gamma(4, 0.5, n_voxels // 15)
    networks += 0.2 * own.standard_normal(networks.shape, np.float32)
    noise = gaussian_filter1d(own.standard_normal((N_VOLUMES, n_voxels), np.float32), 1.5, axis=1)
    series = own.standard_normal((N_VOLUMES, N_COMPONENTS), np.float32) @ networks + 6 * noise
    reduced, _ = reduce_series(variance_normalise(series)[0], N_DIMENSIONS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, reduced)


def data(folder: Path, n_participants: int, n_voxels: int, settings: dict[str, int]) -> Layout:
    """The layout of a cohort under `folder`, which becomes the working directory; its reduced maps are made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    layout, paths = lay_out_paths([f"sub-{index:05d}" for index in range(n_participants)], batch=16, **settings)
    for seed, path in enumerate(map(Path, paths.values())):
        if not path.is_file():
            write_reduced(path, seed, n_voxels)
    return layout


def run_merged(layout: Layout, n_dimensions: int, compare: bool) -> list[dict[str, Any]]:
    """Rows of the kinds of jobs of the merged path."""
    jobs = [(kind, measured(job)) for kind, job in merged_jobs(layout, n_dimensions=n_dimensions)]

    def components() -> None:
        pca = merged(layout, N_COMPONENTS)
        facts = dict(pca.facts)
        if compare:
            wanted = exact(layout, N_COMPONENTS)
            first, second = (np.linalg.qr(maps.T)[0] for maps in (pca.maps, wanted.maps))
            facts["1 - cos"] = 1 - np.linalg.svd(first.T @ second, compute_uv=False).min()
            facts["eigenvalues off by"] = np.max(np.abs(pca.eigenvalues / wanted.eigenvalues - 1))
        write_json("facts.json", facts)

    jobs.append(("components (PCA)", measured(components)))
    table = pd.DataFrame([{"job": kind, **row} for kind, row in jobs])
    return [
        {
            "job": kind,
            "jobs": len(part),
            "peak_mb": round(part["peak_mb"].max()),
            "cpu_s": round(part["cpu_s"].sum(), 1),
        }
        for kind, part in table.groupby("job", sort=False)
    ]


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", choices=("merged", "exact"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--participants", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--exact-limit", type=int, default=64, help="participants of a part")
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--compare", action="store_true")
    given = parser.parse_args()
    folder, start = given.folder.resolve(), Path.cwd()
    print("| participants | voxels | job | jobs | peak MB | CPU s, sum |\n|---|---|---|---|---|---|")
    for count in given.participants:
        os.chdir(start)
        settings = {"exact_limit": min(given.exact_limit, count - 1), "passes": given.passes}
        layout = data(folder / f"{given.voxels}", count, given.voxels, settings)
        if given.path == "merged":
            rows = run_merged(layout, given.dimensions, given.compare)
        else:
            rows = [{"job": "exact", "jobs": 1, **measured(lambda laid=layout: exact(laid, N_COMPONENTS))}]
        for row in rows:
            peak, seconds = round(row["peak_mb"]), round(row["cpu_s"], 1)
            print(f"| {count} | {given.voxels} | {row['job']} | {row['jobs']} | {peak} | {seconds} |", flush=True)
        if given.path == "merged":
            print(f"{count} participants: {read_json('facts.json')}", flush=True)


if __name__ == "__main__":
    main()
