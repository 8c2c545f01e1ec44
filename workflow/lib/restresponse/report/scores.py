"""Rows of the tables of scores: the mean AUC under each protocol, and every metric beside its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from restresponse.metrics.collect import CONSTANT

if TYPE_CHECKING:
    import pandas

METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "brier", "pr_auc")


def headline_rows(metrics: pandas.DataFrame, optimism: pandas.DataFrame, protocols: Sequence[str]) -> dict[str, Any]:
    """One row an arm and model: the mean AUC under each protocol."""
    chosen = metrics[(metrics["metric"] == "auc") & (metrics["scope"] == "mean")]
    cells = {(row.protocol, row.arm, row.model): row for row in chosen.itertuples()}
    pairs = dict.fromkeys((row.arm, row.model) for row in chosen.itertuples())
    return {
        "protocols": protocols,
        "rows": [
            {"arm": arm, "model": model, "cells": [cells.get((protocol, arm, model)) for protocol in protocols]}
            for arm, model in pairs
        ],
    }


def metric_rows(
    metrics: pandas.DataFrame, null: Mapping[tuple[str, str, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row a (protocol, arm, model): both AUCs, each with its null, the pooled metrics with intervals, the confusion table."""
    rows = []
    for (protocol, arm, model), part in metrics.groupby(["protocol", "arm", "model"], sort=False):
        cells = {(row.metric, row.scope): row for row in part.itertuples()}
        rows.append(
            {
                "protocol": protocol,
                "arm": arm,
                "model": model,
                "constant": model == CONSTANT,
                "n": int(cells["auc", "mean"].n),
                "null": null.get((protocol, arm, model), {}),
                "mean_auc": cells["auc", "mean"],
                "pooled_auc": cells["auc", "pooled"],
                "pooled": [cells[name, "pooled"] for name in METRICS],
                "confusion": [cells[name, "pooled"].value for name in ("tp", "fn", "fp", "tn")],
                "folds": [cells[key] for key in cells if key[1] not in ("mean", "pooled")],
            }
        )
    return rows


def order_rows(orders: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table of the numbers of components, None for what is missing."""
    return orders.astype(object).where(orders.notna(), None).to_dict("records")
