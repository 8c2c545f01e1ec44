"""Coverage: does the interval of a clean AUC hold what its fold models reach on fresh participants, where there is an effect?

python benchmarks/planted_effects.py [SEEDS] [EFFECT]       prints a table in Markdown

Cohorts of the paper's size in which responders have more of some networks. Each fold's model of the clean protocol is also
applied to 500 fresh participants; the mean of the ten AUCs there is what the interval should hold.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "lib"))

import numpy as np

from restresponse.classifier.kernel import Channels
from restresponse.classifier.linear import Split, choose_penalty, fit, inner_splits
from restresponse.classifier.scores import areas_under_curve
from restresponse.classifier.selection import Selector
from restresponse.folds import assign_folds
from restresponse.metrics.intervals import mean_auc_interval, participant_weights, wilson
from restresponse.metrics.scores import Sample, mean_fold_auc

RESPONDERS, OTHERS, FRESH, COMPONENTS, VOXELS, FOLDS, INNER = 29, 14, 500, 30, 20, 10, 5
AMPLITUDE, PLANTED = 0.5, 6  # standard deviation of a participant's strength in a network; networks with an effect
PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1, 10, 100)
RESAMPLES, CONFIDENCE = 2000, 0.95
REACHED = 0.80, 0.92  # mean AUC of the fold models on fresh participants that the effect is set for
ARMS = ("all components", "selected components")


class Products(NamedTuple):
    """Inner products of maps within each component, which is what channels are made of where no map is refitted."""

    products: np.ndarray
    sums: np.ndarray

    def channels(self, selected: np.ndarray | None) -> Channels:
        """Channels of the selected components."""
        index = np.arange(COMPONENTS) if selected is None else selected
        return Channels(self.products[index], self.sums[:, index], VOXELS)


class Found(NamedTuple):
    """One cohort under one arm: what was estimated, its interval, and what the fold models reach on fresh participants."""

    value: float
    low: float
    high: float
    fresh: float

    @property
    def covered(self) -> bool:
        """Whether the interval holds the AUC on fresh participants."""
        return self.low <= self.fresh <= self.high


def planted_areas(seed: int, effect: float, penalties: tuple[float, ...] = PENALTIES) -> dict[str, Found]:
    """Clean AUC of one cohort with an effect (in standard deviations of a strength) in each arm, and on fresh participants."""
    rng = np.random.default_rng([seed, 7])
    n = RESPONDERS + OTHERS
    response = np.repeat([1, 0], [RESPONDERS, OTHERS])
    fresh_response = (np.arange(FRESH) < round(FRESH * RESPONDERS / n)).astype(int)
    everyone = np.concatenate([response, fresh_response])
    strength = AMPLITUDE * rng.standard_normal((n + FRESH, COMPONENTS))
    strength[:, :PLANTED] += effect * AMPLITUDE * everyone[:, None]
    maps = strength[:, :, None] + rng.standard_normal((n + FRESH, COMPONENTS, VOXELS))
    by_component = maps.transpose(1, 0, 2)
    products = Products(np.matmul(by_component, by_component.transpose(0, 2, 1)), maps.sum(axis=2))
    cohort = Products(
        products.products[:, :n, :n], products.sums[:n]
    )  # what is chosen is chosen without the fresh ones
    dealt = assign_folds({f"{i:02d}": int(value) for i, value in enumerate(response)}, FOLDS, 1, seed)
    tests = {fold: part["participant_id"].astype(int).to_numpy() for fold, part in dealt.groupby("fold")}
    fresh, found = np.arange(n, n + FRESH), {}
    for arm in ARMS:
        choose = Selector(maps[:n].mean(axis=2), 0.1).on if arm.startswith("selected") else None
        score, fold_of, reached = np.zeros((1, n)), np.empty((1, n), object), []
        for number, (fold, test) in enumerate(tests.items()):
            training = np.setdiff1d(np.arange(n), test)
            labels = np.full(n + FRESH, -1)  # no label but those of the training participants
            labels[training] = response[training]
            selected = choose(training, labels[training]) if choose else None
            splits = inner_splits(
                cohort, training, labels[:n], INNER, seed + 1000 * number, selected=selected, choose=choose
            )
            penalty, _ = choose_penalty(splits, labels[:n], penalties)
            fitted = fit(Split(products, training, test, selected), labels, penalty)
            score[0, test], fold_of[0, test] = fitted.scores[test], fold
            reached.append(areas_under_curve(fresh_response, fitted.scores[None, fresh])[0])
        sample = Sample(np.arange(n).astype(str), response == 1, score, fold_of.astype(str))
        value = mean_fold_auc(sample)
        weights = participant_weights(sample.response, RESAMPLES, seed)
        found[arm] = Found(value, *mean_auc_interval(sample, value, weights, CONFIDENCE), float(np.mean(reached)))
    return found


def main(n_seeds: int, effect: float) -> None:
    """Print the table."""
    rows = [planted_areas(seed, effect) for seed in range(n_seeds)]
    print(
        f"| arm | AUC on {FRESH} fresh participants (range; within {REACHED[0]:.2f}-{REACHED[1]:.2f}) | clean AUC ± SD | mean "
        "difference ± SE | SD of the difference | width | covered | 95 % interval | missed above, below |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for arm in ARMS:
        values = np.array([row[arm] for row in rows])
        value, low, high, fresh = values.T
        covered = sum(row[arm].covered for row in rows)
        within = ((fresh >= REACHED[0]) & (fresh <= REACHED[1])).mean()
        difference = value - fresh
        bounds = wilson(covered, n_seeds, 0.95)
        print(
            f"| {arm} | {fresh.mean():.3f} ({fresh.min():.2f}-{fresh.max():.2f}; {within:.0%}) | {value.mean():.3f} ± "
            f"{value.std(ddof=1):.3f} | {difference.mean():+.3f} ± {difference.std(ddof=1) / np.sqrt(n_seeds):.3f} | "
            f"{difference.std(ddof=1):.3f} | {(high - low).mean():.2f} | {covered} of {n_seeds} | {bounds[0]:.0%}-{bounds[1]:.0%} | "
            f"{(fresh > high).sum()}, {(fresh < low).sum()} |"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
