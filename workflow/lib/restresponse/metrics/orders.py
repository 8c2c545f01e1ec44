"""The numbers of components set beside each other: how stable, how well matched to networks, how well predicted from. For the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from restresponse.files import read_table, write_table

STABLE = 0.9  # of the index of ICASSO, above which a component counts as stable
COLUMNS = (
    "order", "mean_stability", "least_stability", "n_stable", "n_matched", "mean_match_r",
    "protocol", "arm", "model", "auc", "low", "high",
)  # fmt: skip


def write_orders(
    *,
    components: Sequence[str | Path],
    matches: Sequence[str | Path],
    metrics: str | Path,
    orders: Sequence[int],
    arms: Mapping[str, int],
    table: str | Path,
) -> None:
    """Write a row for each order and each (protocol, arm, model) that reads it; one without, where none does.

    Parameters
    ----------
    components, matches : tables of cohort `all`, of each of `orders`
    metrics : `metrics.tsv`; of it the mean of the fold AUCs and its interval
    orders : numbers of components
    arms : arm of components -> its number of components
    table : to write, with the columns of `COLUMNS`
    """
    import pandas as pd

    scores = read_table(metrics, text_columns=("protocol", "arm", "model", "metric", "scope"))
    scores = scores[(scores["metric"] == "auc") & (scores["scope"] == "mean") & (scores["model"] != "constant")]
    scores = scores.assign(order=scores["arm"].map(arms)).rename(columns={"value": "auc"})
    facts = []
    for order, found, matched in zip(orders, components, matches, strict=True):
        stability, match = read_table(found, text_columns=()), read_table(matched, text_columns=("network",))
        named = match["matched"].astype(str).str.lower() == "true"
        facts.append(
            {
                "order": order,
                "mean_stability": stability["stability"].mean(),
                "least_stability": stability["stability"].min(),
                "n_stable": int((stability["stability"] > STABLE).sum()),
                "n_matched": int(named.sum()),
                "mean_match_r": match.loc[named, "match_r"].mean(),
            }
        )
    joined = pd.DataFrame(facts).merge(scores, on="order", how="left")
    write_table(table, joined[list(COLUMNS)])
