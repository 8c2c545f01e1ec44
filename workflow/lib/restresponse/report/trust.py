"""How far to trust the results, in sentences and rows: the null, the baselines, what a sample of this size can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.baselines import NETWORK
from restresponse.metrics.collect import BASELINE, CLEAN

if TYPE_CHECKING:
    import pandas

_WORDS = {
    "motion": "motion alone (mean framewise displacement)",
    "global_signal": "the global signal alone",
    "pain_before": "pain before treatment alone",
    "clinical": "clinical columns alone",
    "connectivity": "connectivity between 32 nodes (linear support vector machine)",
}


def words_of(baseline: str) -> str:
    """A baseline in words."""
    return _WORDS.get(baseline, f"the amplitude of one network alone ({baseline.removeprefix(NETWORK)})")


def baseline_sentence(comparisons: pandas.DataFrame, lead: tuple[str, str] | None, confidence: float) -> list[str]:
    """The leading classifier beside the best baseline: a claim for it stands only with this sentence."""
    found = comparisons[(comparisons["protocol"] == CLEAN) & (comparisons["other_arm"] == BASELINE)]
    if lead is not None:
        found = found[(found["arm"] == lead[0]) & (found["model"] == lead[1])]
    if lead is None or found.empty:
        return []
    row = found.iloc[0]
    if row["low"] > 0:
        comment = "the classifier is above it"
    elif row["high"] < 0:
        comment = "the classifier is below it"
    else:
        comment = "this run does not show that the classifier adds anything to it"
    return [
        f"The best of the baselines, which never see a map of it, is {words_of(row['other_model'])}: mean AUC "
        f"{row['other_auc']:.2f}. The classifier's is {row['difference']:+.2f} from that ({confidence:.0%} interval "
        f"{row['low']:+.2f} to {row['high']:+.2f}): {comment}."
    ]


def null_sentences(permutations: pandas.DataFrame) -> list[str]:
    """What the clean procedure gives on permuted labels, and which linear models exceed it; none without a null."""
    part = permutations[(permutations["protocol"] == CLEAN) & (permutations["scope"] == "mean")]
    if part.empty:
        return []
    best = part.sort_values("p", kind="stable").iloc[0]
    n = int(best["n_permutations"])
    text = (
        f"On labels permuted within folds, {n} times, the whole clean procedure of {best['model']} on {best['arm']} gives a "
        f"mean AUC of {best['null_mean']:.2f} ± {best['null_sd']:.2f}; its own {best['auc']:.2f} has p = {best['p']:.3f}"
    )
    if len(part) > 1:
        text += f", and {best['p_maxt']:.3f} after counting that it is the best of {len(part)} that were tried"
        if best["n_maxt"] < n:
            text += f" (on the {int(best['n_maxt'])} permutations that all of them have)"
    leaky = permutations[(permutations["protocol"] != CLEAN) & (permutations["scope"] == "mean")]
    rows = [
        f"{row.model} on {row.arm} under {row.protocol} {row.null_mean:.2f}"
        for row in leaky.itertuples()
        if row.null_mean > 0.5 + 3 * row.null_mean_error
    ]
    if rows:
        text += f". On the same permuted labels, where there is nothing to find, a leak still gets: {', '.join(rows)}"
    return [text + "."]


def null_cells(permutations: pandas.DataFrame) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(protocol, arm, model) -> the rows of its null, mean of folds and pooled."""
    cells: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in permutations.itertuples():
        cells.setdefault((row.protocol, row.arm, row.model), {})[row.scope] = row
    return cells


def baseline_rows(metrics: pandas.DataFrame) -> list[dict[str, Any]]:
    """One row a baseline, best mean of fold AUCs first; networks by themselves are ranked among them."""
    part = metrics[metrics["arm"] == BASELINE]
    rows = []
    for model, values in part.groupby("model", sort=False):
        cells = {(row.metric, row.scope): row for row in values.itertuples()}
        rows.append(
            {
                "words": words_of(model),
                "network": model.startswith(NETWORK),
                "mean_auc": cells["auc", "mean"],
                "pooled_auc": cells["auc", "pooled"],
                "balanced_accuracy": cells["balanced_accuracy", "pooled"],
                "n": int(cells["auc", "mean"].n),
            }
        )
    return sorted(rows, key=lambda row: -np.nan_to_num(row["mean_auc"].value, nan=-1.0))


def comparison_rows(comparisons: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table with the second classifier in words."""
    rows = comparisons.replace({np.nan: None}).to_dict("records")
    for row in rows:
        of_baseline = row["other_arm"] == BASELINE
        row["other"] = words_of(row["other_model"]) if of_baseline else f"{row['other_model']} on {row['other_arm']}"
    return rows


def calibration_rows(calibration: pandas.DataFrame, variance: pandas.DataFrame) -> list[dict[str, Any]]:
    """Calibration and spread of each classifier, baselines left out."""
    own = calibration[calibration["arm"] != BASELINE].merge(variance, on=["protocol", "arm", "model"], how="left")
    return own.replace({np.nan: None}).to_dict("records")


def power_sentences(power: pandas.DataFrame, confidence: float) -> list[str]:
    """What a sample of this size can show, from the clean null of the first linear model."""
    part = power[power["protocol"] == CLEAN]
    if part.empty:
        return [
            "No null was measured (metrics.permutations is 0, or no linear model ran under the clean protocol): what a sample "
            "of this size can show is not known."
        ]
    row = part.iloc[0]
    text = [
        f"From the null of {row['model']} on {row['arm']}: on labels that mean nothing its mean AUC has a standard deviation of "
        f"{row['null_sd']:.2f}, {row['null_sd'] / row['mann_whitney_sd']:.1f} times that of sampling participants alone "
        f"({row['mann_whitney_sd']:.2f}). Only {(1 - confidence) / 2:.1%} of it lies above {row['critical']:.2f}."
    ]
    if np.isfinite(row["detectable"]):
        text.append(
            f"A true AUC of {row['detectable']:.2f} would exceed that in four of five studies of this size; a smaller effect "
            "would be missed more often than that."
        )
    else:
        text.append("No true AUC, not even 1, would exceed that in four of five studies of this size.")
    needed = ", ".join(f"{int(row[f'participants_at_{auc}'])} for {auc}" for auc in ("0.70", "0.80", "0.90"))
    text.append(
        f"For a {confidence:.0%} interval of ± {row['half_width']:g} around the AUC a study would need, with this share of "
        f"responders, about this many participants: {needed}."
    )
    return text


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says about the null."""
    n, networks = (config["metrics"][name] for name in ("permutations", "network_permutations"))
    return {"n": n, "least_p": 1 / (n + 1), "networks": networks, "least_p_networks": 1 / (networks + 1)}
