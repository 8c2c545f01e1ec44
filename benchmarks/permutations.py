"""Time of the permutation null at the paper's size: made-up maps of 43 participants, 30 components, ten folds.

python benchmarks/permutations.py [PERMUTATIONS]       prints a table in Markdown
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "lib"))

import numpy as np

from restresponse.classifier.kernel import MapProducts, inner_products
from restresponse.classifier.permuted import Procedure, View, mean_fold_areas, rerun
from restresponse.classifier.selection import Selector
from restresponse.dual_regression import restrictions, spatial_gram
from restresponse.folds import assign_folds
from restresponse.metrics.permutations import permuted_labels

RESPONDERS, OTHERS, COMPONENTS, SCANS, VOXELS, FOLDS = 29, 14, 30, 340, 2000, 10
PENALTIES = [0.0001, 0.001, 0.01, 0.1, 1, 10, 100]


def main(n_permutations: int) -> None:
    """Time each protocol and arm and print its null."""
    rng = np.random.default_rng(1)
    n = RESPONDERS + OTHERS
    response = np.repeat([1, 0], [RESPONDERS, OTHERS])
    dealt = assign_folds({f"{i:02d}": int(value) for i, value in enumerate(response)}, FOLDS, 1, 1)
    tests = {fold: part["participant_id"].astype(int).to_numpy() for fold, part in dealt.groupby("fold")}
    labels = permuted_labels(response, list(tests.values()), 1, range(1, n_permutations + 1))
    cohorts = {name: _cohort(rng, n) for name in ("all", *tests)}
    print("| protocol | arm | CPU s | null, mean of fold AUCs ± SD |\n|---|---|---|---|")
    total = 0.0
    for protocol in ("clean", "paper"):
        paper = protocol == "paper"
        procedure = Procedure(PENALTIES, on_reported_folds=paper, selects_in_inner_folds=not paper, n_inner_folds=5)
        for arm in ("asc", "ssc"):
            views = {}
            for number, (fold, test) in enumerate(tests.items()):
                plain, refitted, selector = cohorts["all" if paper else fold]
                training = np.setdiff1d(np.arange(n), test)
                views[fold] = View(
                    plain if arm == "asc" else refitted,
                    training,
                    test,
                    None if arm == "asc" else selector,
                    np.arange(n) if paper else training,
                    number,
                )
            started = time.process_time()
            means, _ = mean_fold_areas(views, labels, rerun(views, labels, procedure))
            spent = time.process_time() - started
            total += spent
            print(f"| {protocol} | {arm} | {spent:.0f} | {means.mean():.3f} ± {means.std(ddof=1):.3f} |", flush=True)
    print(f"| all | | {total:.0f} | {n_permutations} permutations |")


def _cohort(rng: np.random.Generator, n: int) -> tuple[MapProducts, MapProducts, Selector]:
    """Products of a cohort's maps as they are and refitted on a selection, and its selector."""
    components = rng.standard_normal((COMPONENTS, VOXELS))
    amplitudes = 1 + 0.3 * rng.standard_normal((n, COMPONENTS))
    maps = amplitudes[:, :, None] * components + rng.standard_normal((n, COMPONENTS, VOXELS))
    gram, sums = inner_products(list(maps))
    spatial = spatial_gram(components)
    covariances = np.stack([np.cov(rng.standard_normal((SCANS, COMPONENTS)), rowvar=False) for _ in range(n)])
    restrict = lambda selected: restrictions(covariances, spatial, selected)  # noqa: E731
    return (
        MapProducts(gram, sums, VOXELS),
        MapProducts(gram, sums, VOXELS, restrict),
        Selector(amplitudes, 0.1),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
