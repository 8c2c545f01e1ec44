"""Group ICA from images on disk against nilearn's CanICA, in one run: time, memory, and the planted networks found again.

    python benchmarks/canica.py FOLDER --rounds 3 --cores 1
    python benchmarks/canica.py further FOLDER

Makes FOLDER where it is empty: 20 scans x 150 volumes x some 70,000 voxels in the mask, 30 sparse networks that overlap, spatially
smooth noise whose spread differs between voxels. Each round runs CanICA and then the jobs of the workflow (reduction, inner
products, components) for every normalisation, each job a fresh process of one thread, as many at once as there are cores;
CanICA gets as many threads. Prints a table in Markdown: medians over the rounds. CanICA sets its maps to zero where they are weak;
ours are scored as they are and inside |z| > 2, where the workflow reads them. With `--unthresholded` CanICA runs once
more, without that threshold and not timed. `further` is a fold of two scans fewer on the inner products of the last run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if sys.argv[1:2] == ["further"]:  # one thread, as a job has; to be said before numpy is loaded
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "lib"))

N_SCANS, N_VOLUMES, N_NETWORKS, BATCH = 20, 150, 30, 8
BOX, VOXEL_SIZE = (48, 56, 50), 3.0  # voxels, mm
NORMALISATIONS = ("unit_norm", "residual", "none")
NOISE = 1.5  # mean spread of the noise; a network's peak is about 1 and its time course has unit variance
THRESHOLD = 2.0  # components.threshold of the config
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def make_data(folder: Path) -> None:
    """Write the images, the mask, the table of inclusions and the planted maps."""
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    from restresponse.files import write_array, write_image, write_table

    rng, affine = np.random.default_rng(7), np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0])
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in BOX), indexing="ij"))
    mask = (grid**2).sum(axis=0) < 0.999
    places = np.argwhere(mask)
    networks = np.zeros((N_NETWORKS, len(places)))
    for row in networks:  # two to four blobs, cut off where they are weak
        for _ in range(rng.integers(2, 5)):
            distance = np.square(places - places[rng.integers(len(places))]).sum(axis=1)
            row += rng.uniform(0.6, 1.2) * np.exp(-0.5 * distance / rng.uniform(2.0, 4.0) ** 2)
        row[row < 0.1] = 0.0
    spread = np.exp(0.5 * _unit(gaussian_filter(rng.standard_normal(BOX), 5)[mask]))
    write_array(folder / "networks.npy", networks)
    write_array(folder / "spread.npy", spread)
    write_image(folder / "mask.nii.gz", mask, affine)
    names = [f"sub-{index:02d}" for index in range(1, N_SCANS + 1)]
    for name in names:
        own = networks * rng.uniform(0.7, 1.3, (N_NETWORKS, 1))
        courses = _unit(gaussian_filter1d(rng.standard_normal((N_VOLUMES, N_NETWORKS)), 1.0, axis=0), axis=0)
        image = np.zeros((*BOX, N_VOLUMES), np.float32, order="F")
        for volume, course in enumerate(courses):
            noise = _unit(gaussian_filter(rng.standard_normal(BOX, np.float32), 1.0)[mask])
            image[mask, volume] = 1000 + 10 * (course @ own + NOISE * spread * noise)
        write_image(folder / f"{name}.nii", image, affine, repetition_time=2.0)
    import pandas as pd

    write_table(
        folder / "inclusion.tsv", pd.DataFrame({"scan": names, "participant_id": names, "included": True, "reason": ""})
    )


def _unit(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    return (values - values.mean(axis=axis, keepdims=True)) / values.std(axis=axis, keepdims=True)


def canica(folder: Path, seed: int, threshold: str | None) -> None:
    """CanICA with its own defaults but for the mask, the order and no smoothing, and the threshold where it is None; its maps."""
    import warnings

    from nilearn.decomposition import CanICA

    warnings.filterwarnings("ignore", category=FutureWarning)
    images = sorted(map(str, folder.glob("sub-*.nii")))
    mask = str(folder / "mask.nii.gz")
    model = CanICA(n_components=N_NETWORKS, mask=mask, smoothing_fwhm=None, random_state=seed, threshold=threshold).fit(
        images
    )
    np.save(folder / "canica.npy", model.components_)


def job(kind: str, folder: Path, given: dict[str, Any]) -> None:
    """One job of the workflow, called as its rule calls it."""
    import restresponse.adapter  # noqa: F401  one thread

    if kind == "reduce":
        from restresponse.group_ica.reduction import reduce_batch

        reduce_batch(mask=folder / "mask.nii.gz", inclusion=folder / "inclusion.tsv", n_dimensions=64, **given)
    elif kind == "gram":
        from restresponse.group_ica.group_pca import compute_tile

        compute_tile(**given)
    else:
        from restresponse.group_ica.cohort import fit_cohort

        given["tiles"] = {tuple(pair): path for pair, path in given["tiles"]}
        out = folder / "group"
        fit_cohort(
            cohort="all", folds=None, mask=folder / "mask.nii.gz", n_components=N_NETWORKS, restarts=20,
            subsample=20000, tolerance=1e-8, max_iterations=1000, components=out / "components.npy",
            image=out / "components.nii.gz", table=out / "components.tsv", sidecar=out / "components.json", **given,
        )  # fmt: skip


def measured(arguments: list[str], threads: int) -> dict[str, float]:
    """Wall and CPU seconds and peak memory (MB) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=os.environ | dict.fromkeys(THREADS, str(threads)),
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise RuntimeError(f"{arguments[:2]} ended with {process.returncode}")
    wall = time.perf_counter() - start
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}


def ours(folder: Path, normalisation: str, seed: int, cores: int) -> dict[str, float]:
    """The jobs of the workflow, one stage after another: seconds of each stage and of all, peak of any job."""
    from restresponse.batches import batches_of, files_of

    names = sorted(path.stem for path in folder.glob("sub-*.nii"))
    batches = batches_of(names, BATCH)
    place = folder / "participants"
    reduced = files_of([str(place / batch) for batch in batches], batches, "_reduced.npy")
    tiles = {(a, b): str(folder / f"{a}_{b}.npy") for a, b in itertools.combinations_with_replacement(batches, 2)}
    stages = {
        "reduce": [
            {
                "bold": {name: {name: str(folder / f"{name}.nii")} for name in members},
                "folder": str(place / batch),
                "normalisation": normalisation,
            }
            for batch, members in batches.items()
        ],
        "gram": [
            {"first": [reduced[n] for n in batches[a]], "second": [reduced[n] for n in batches[b]], "tile": tile}
            for (a, b), tile in tiles.items()
        ],
        "components": [
            {
                "reduced": reduced,
                "members": batches,
                "tiles": [[pair, path] for pair, path in tiles.items()],
                "seed": seed,
            }
        ],
    }
    total: dict[str, float] = {"wall": 0.0, "cpu": 0.0, "peak": 0.0}
    for kind, jobs in stages.items():
        start = time.perf_counter()
        with ThreadPoolExecutor(cores) as pool:
            found = list(
                pool.map(lambda given, kind=kind: measured(["job", kind, str(folder), json.dumps(given)], 1), jobs)
            )
        total["wall"] += time.perf_counter() - start
        total[f"cpu {kind}"] = sum(row["cpu"] for row in found)
        total["cpu"] += total[f"cpu {kind}"]
        total["peak"] = max(total["peak"], *(row["peak"] for row in found))
    return total


def further(folder: Path) -> None:
    """A fold without two of the scans, on what the last run left: CPU seconds beside the first run's, and three seeds."""
    import pandas  # noqa: F401  what is imported is not the fold's cost
    import scipy.cluster.hierarchy
    import scipy.linalg  # noqa: F401

    import restresponse.adapter  # noqa: F401  one thread
    from restresponse.batches import batches_of, files_of
    from restresponse.group_ica.cohort import exact_pca
    from restresponse.group_ica.fastica import assigned, decompose

    names = sorted(path.stem for path in folder.glob("sub-*.nii"))
    batches, fold = batches_of(names, BATCH), "rep-1_fold-01"
    rows = [f"1\t{fold}\t{name}\n" for name in (names[2], names[-4])]
    (folder / "folds.tsv").write_text("repeat\tfold\tparticipant_id\n" + "".join(rows))
    reduced = files_of([str(folder / "participants" / batch) for batch in batches], batches, "_reduced.npy")
    tiles = {(a, b): folder / f"{a}_{b}.npy" for a, b in itertools.combinations_with_replacement(batches, 2)}
    start = time.process_time()
    pca = exact_pca(
        cohort=fold, reduced=reduced, tiles=tiles, members=batches, folds=folder / "folds.tsv", n_components=N_NETWORKS
    )
    middle = time.process_time()
    found = [decompose(pca.maps, seed=0)]
    print(f"a fold: group PCA {middle - start:.2f} CPU s, FastICA {time.process_time() - middle:.2f} CPU s", flush=True)
    found += [decompose(pca.maps, seed=seed) for seed in (1, 2)]
    units = [one.sources / np.linalg.norm(one.sources, axis=1, keepdims=True) for one in found]
    for one, unit in zip(found[1:], units[1:], strict=True):
        least = np.einsum("kv,kv->k", units[0], unit[assigned(units[0], unit)]).min()
        print(f"another seed: least matched correlation {least:.7f}, least stability {one.stability.min():.4f}")


def recovery(folder: Path, found: np.ndarray) -> dict[str, float]:
    """Mean and least matched |correlation| with the maps as planted and with them divided by the noise's spread."""
    from scipy.optimize import linear_sum_assignment

    networks, spread = np.load(folder / "networks.npy"), np.load(folder / "spread.npy")
    scores = {}
    for name, truth in (("planted", networks), ("over spread", networks / spread)):
        similarity = np.abs(np.corrcoef(truth, found)[: len(truth), len(truth) :])
        matched = similarity[linear_sum_assignment(-similarity)]
        scores[f"r {name}"], scores[f"least r {name}"] = matched.mean(), matched.min()
    return scores


def main() -> None:
    """Run the comparison, or the part of it that a process of its own is for."""
    if sys.argv[1] == "canica":
        return canica(Path(sys.argv[2]), int(sys.argv[3]), None if "unthresholded" in sys.argv else "auto")
    if sys.argv[1] == "further":
        return further(Path(sys.argv[2]))
    if sys.argv[1] == "job":
        return job(sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--unthresholded", action="store_true")
    parser.add_argument("--normalisations", nargs="+", default=NORMALISATIONS)
    given = parser.parse_args()
    folder = given.folder.resolve()
    if not (folder / "inclusion.tsv").is_file():
        make_data(folder)
    rows = []
    for seed in range(given.rounds):
        cost = measured(["canica", str(folder), str(seed)], given.cores)
        rows.append({"what": "CanICA", **cost, **recovery(folder, np.load(folder / "canica.npy"))})
        print(rows[-1], file=sys.stderr, flush=True)
        for normalisation in given.normalisations:
            cost = ours(folder, normalisation, seed, given.cores)
            found = np.load(folder / "group/components.npy")
            rows.append({"what": normalisation, **cost, **recovery(folder, found)})
            inside = np.where(np.abs(found) > THRESHOLD, found, 0.0)
            rows.append({"what": f"{normalisation}, inside", **recovery(folder, inside)})
            print(*rows[-2:], file=sys.stderr, flush=True)
    if given.unthresholded:
        measured(["canica", str(folder), "0", "unthresholded"], given.cores)
        rows.append({"what": "CanICA, unthresholded", **recovery(folder, np.load(folder / "canica.npy"))})
    table = pd.DataFrame(rows).groupby("what", sort=False).median().round(3)
    print("| " + " | ".join(["what", *table.columns]) + " |\n" + "|---" * (len(table.columns) + 1) + "|")
    for what, row in table.iterrows():
        print("| " + " | ".join([str(what), *(f"{value:.4g}" for value in row)]) + " |")
    return None


if __name__ == "__main__":
    main()
