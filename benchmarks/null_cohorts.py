"""Cohorts of pure noise at the paper's size: what each protocol reports where there is nothing to find.

python benchmarks/null_cohorts.py [SEEDS] [FIGURE.svg]       prints a table in Markdown
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "lib"))

import numpy as np

from restresponse.classifier.kernel import MapProducts, inner_products
from restresponse.classifier.permuted import Procedure, View, mean_fold_areas, rerun
from restresponse.classifier.selection import Selector
from restresponse.folds import assign_folds

RESPONDERS, OTHERS, COMPONENTS, VOXELS, FOLDS, INNER = 29, 14, 30, 20, 10, 5
AMPLITUDE = 0.5  # standard deviation of a participant's strength in a network, in that of a voxel
PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1, 10, 100)
# protocol -> whether components are selected, on all labels, and the penalty is chosen on the reported folds
PROTOCOLS = {
    "clean, all components": (False, False, False),
    "clean, selected components": (True, False, False),
    "penalty chosen on the reported folds (L3)": (False, False, True),
    "components selected on all labels (L2)": (True, True, False),
    "paper: both": (True, True, True),
}


def null_areas(seed: int, penalties: tuple[float, ...] = PENALTIES) -> dict[str, tuple[float, float]]:
    """Mean of fold AUCs and pooled AUC of the linear model on one cohort of noise under each protocol."""
    rng = np.random.default_rng(seed)
    n = RESPONDERS + OTHERS
    response = np.repeat([1, 0], [RESPONDERS, OTHERS])
    dealt = assign_folds({f"{i:02d}": int(value) for i, value in enumerate(response)}, FOLDS, 1, seed)
    tests = {fold: part["participant_id"].astype(int).to_numpy() for fold, part in dealt.groupby("fold")}
    # Each participant has more or less of each network, as real maps do; none of it has to do with the labels.
    maps = AMPLITUDE * rng.standard_normal((n, COMPONENTS, 1)) + rng.standard_normal((n, COMPONENTS, VOXELS))
    products = MapProducts(*inner_products(list(maps)), VOXELS)
    selector = Selector(maps.mean(axis=2), 0.1)
    everyone, found = np.arange(n), {}
    for protocol, (selects, on_all, reported) in PROTOCOLS.items():
        views = {}
        for number, (fold, test) in enumerate(tests.items()):
            training = np.setdiff1d(everyone, test)
            selecting = everyone if on_all else training
            views[fold] = View(products, training, test, selector if selects else None, selecting, seed + 1000 * number)
        procedure = Procedure(
            penalties, on_reported_folds=reported, selects_in_inner_folds=not on_all, n_inner_folds=INNER
        )
        mean, pooled = mean_fold_areas(views, response[None], rerun(views, response[None], procedure))
        found[protocol] = float(mean[0]), float(pooled[0])
    return found


def main(n_seeds: int, figure: str | None) -> None:
    """Print the table and draw the distributions."""
    rows = [null_areas(seed) for seed in range(n_seeds)]
    print("| protocol | mean of fold AUCs | standard error | SD | 2.5-97.5 % | pooled AUC | 0.85 or more |")
    print("|---|---|---|---|---|---|---|")
    drawn = {}
    for protocol in PROTOCOLS:
        mean, pooled = np.array([row[protocol] for row in rows]).T
        low, high = np.quantile(mean, [0.025, 0.975])
        spread = mean.std(ddof=1)
        print(
            f"| {protocol} | {mean.mean():.3f} | {spread / np.sqrt(n_seeds):.3f} | {spread:.3f} | {low:.2f}-{high:.2f} | "
            f"{pooled.mean():.3f} | {(mean >= 0.85).mean():.1%} |"
        )
        drawn[protocol] = mean
    if figure:
        draw(drawn, figure)


def draw(areas: dict[str, np.ndarray], path: str) -> None:
    """One row a protocol: every cohort's mean of fold AUCs, and their mean."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "null cohorts"
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    panel = figure.subplots()
    rng = np.random.default_rng(0)
    for place, (protocol, values) in enumerate(areas.items()):
        colour = "#0072B2" if protocol.startswith("clean") else "#D55E00"
        panel.scatter(
            values, place + rng.uniform(-0.25, 0.25, len(values)), s=5, alpha=0.35, color=colour, linewidths=0
        )
        panel.plot([values.mean()] * 2, [place - 0.36, place + 0.36], color="#222222", linewidth=2)
    panel.axvline(0.5, color="#8a8a8a", linewidth=1)
    panel.set_yticks(range(len(areas)), list(areas), fontsize=8)
    panel.set(ylim=(len(areas) - 0.4, -0.6), xlim=(0, 1))
    panel.set_xlabel(f"mean of fold AUCs on pure noise, 29 + 14 participants (n = {len(values)} cohorts)", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, sys.argv[2] if len(sys.argv) > 2 else None)
