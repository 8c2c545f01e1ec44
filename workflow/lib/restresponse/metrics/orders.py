"""The numbers of components set beside each other: how stable, how well matched to networks, how well predicted from. For the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restresponse.files import read_array, read_table, write_table
from restresponse.metrics.stability import align_components

if TYPE_CHECKING:
    import pandas

STABLE = 0.9  # of the index of ICASSO, above which a component counts as stable
COLUMNS = (
    "order", "mean_stability", "least_stability", "n_stable", "n_matched", "mean_match_r",
    "protocol", "arm", "model", "auc", "low", "high",
)  # fmt: skip
ALIGNED = ("order", "component", "network", "study_component", "study_network", "r")


def write_orders(
    *,
    components: Sequence[str | Path],
    matches: Sequence[str | Path],
    maps: Sequence[str | Path],
    metrics: str | Path,
    orders: Sequence[int],
    arms: Mapping[str, int],
    table: str | Path,
    alignment: str | Path,
) -> None:
    """Write a row for each order and each (protocol, arm, model) that reads it; one without, where none does.

    Parameters
    ----------
    components, matches, maps : tables of cohort `all`, and its components (n_components, n_voxels), of each of `orders`
    metrics : `metrics.tsv`; of it the mean of the fold AUCs and its interval
    orders : numbers of components
    arms : arm of components -> its number of components
    table : to write, with the columns of `COLUMNS`
    alignment : to write, with the columns of `ALIGNED`: which of the first order's components each of another order is
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
    write_table(alignment, aligned(orders, maps, matches))


def aligned(orders: Sequence[int], maps: Sequence[str | Path], matches: Sequence[str | Path]) -> pandas.DataFrame:
    """Each component of the other orders beside the one of the first order that it is, one to one (Hungarian method on |r|).

    Of a higher order some are none of the study's: they have no `study_component`. For the report, read by no fit.
    """
    import pandas as pd

    study, names = read_array(maps[0]), _networks(matches[0])
    rows = []
    for order, path, matched in zip(orders[1:], maps[1:], matches[1:], strict=True):
        found, correlation = align_components(read_array(path), study)
        own = _networks(matched)
        for number, (index, r) in enumerate(zip(found, correlation, strict=True)):
            other = (int(index) + 1, names[index]) if index >= 0 else (None, None)
            rows.append((order, number + 1, own[number], *other, r))
    return pd.DataFrame(rows, columns=list(ALIGNED)).astype({"study_component": "Int64"})


def _networks(matches: str | Path) -> list[str | None]:
    """Name of the network that each component is matched to."""
    table = read_table(matches, text_columns=("network",))
    return [name if isinstance(name, str) else None for name in table["network"]]
