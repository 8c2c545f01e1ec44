"""The published study's figures, beside which the run's are set, and the settings in which the run differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from restresponse.metrics.optimism import CLEAN
from restresponse.report.summary import one

if TYPE_CHECKING:
    import pandas

# AUC, F1, accuracy and minutes a fold (two GeForce RTX 2080 Ti), as printed; None: not given.
FIGURES = {
    "asc": {"auc": 0.966, "f1": 0.95, "accuracy": 0.93, "minutes": 5.1},
    "ssc": {"auc": 0.85, "f1": 0.90, "accuracy": None, "minutes": 3.4},
    "rsp": {"auc": 0.44, "f1": 0.69, "accuracy": None, "minutes": 29.3},
}
SETTINGS = (
    ("functional.voxel_size", 2, "voxel size (mm)"),
    ("functional.smoothing_fwhm", 5, "smoothing (mm FWHM)"),
    ("folds.n_folds", 10, "outer folds"),
    ("group_ica.n_components", 30, "components"),
    ("group_ica.reduction", 64, "dimensions kept of each participant"),
)
NETWORK_SETTINGS = (
    ("learning_rate", 0.001, "learning rate"),
    ("epsilon", 0.1, "epsilon of Adam"),
    ("dropout", 0.3, "dropout"),
    ("batch_size", 4, "batch size"),
    ("epochs", 100, "epochs at most"),
)


def paper_rows(metrics: pandas.DataFrame, timing: pandas.DataFrame, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row an arm of the paper that a network of this run was given: the paper's figures and ours."""
    networks = [name for name, model in config["classifier"]["models"].items() if model["kind"] == "network"]
    rows = []
    for arm, published in FIGURES.items():
        given = config["classifier"]["arms"].get(arm, {}).get("models", [])
        for model in [name for name in networks if name in given]:
            times = timing[(timing["arm"] == arm) & (timing["model"] == model)]
            own = {
                protocol: {
                    "auc": one(metrics, protocol, arm, model, "auc", "mean"),
                    "f1": one(metrics, protocol, arm, model, "f1", "pooled"),
                    "accuracy": one(metrics, protocol, arm, model, "accuracy", "pooled"),
                    "minutes": _first(times.loc[times["protocol"] == protocol, "minutes_per_fold"]),
                }
                for protocol in ("paper", CLEAN)
                if protocol in config["classifier"]["protocols"]
            }
            rows.append({"arm": arm, "model": model, "published": published, "own": own})
    return rows


def differences_from_paper(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings whose value is not the paper's."""
    found = [(words, published, _lookup(config, key), key) for key, published, words in SETTINGS]
    classifier = config["classifier"]
    grid = classifier["voxel_size"] or config["functional"]["voxel_size"]
    found.append(("voxel size the classifier sees (mm)", 2, grid, "classifier.voxel_size"))
    for name, model in classifier["models"].items():
        if model["kind"] == "network":
            key = f"classifier.models.{name}."
            found += [
                (f"{words} of {name}", published, model[own], key + own) for own, published, words in NETWORK_SETTINGS
            ]
    return [
        {"setting": words, "published": published, "own": own, "key": key}
        for words, published, own, key in found
        if own != published
    ]


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _first(column: pandas.Series) -> float | None:
    return float(column.iloc[0]) if len(column) else None
