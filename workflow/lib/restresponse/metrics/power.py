"""What a sample of this size can show: the smallest AUC it tells from its null, and how many participants an interval needs.

Reference: Hanley & McNeil 1982 (standard error of an AUC).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "protocol", "arm", "model", "null_mean", "null_sd", "mann_whitney_sd", "critical", "detectable", "half_width",
    "participants_at_0.70", "participants_at_0.80", "participants_at_0.90",
)  # fmt: skip
POWER, HALF_WIDTH = 0.8, 0.1
TARGETS = (0.7, 0.8, 0.9)


def auc_deviation(auc: float, n_responders: int, n_others: int) -> float:
    """Hanley and McNeil's standard deviation of an AUC from sampling participants alone."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n_responders - 1) * (first - auc**2) + (n_others - 1) * (second - auc**2)
    return float(np.sqrt(variance / (n_responders * n_others)))


def power_table(
    null: pandas.DataFrame, permutations: pandas.DataFrame, n_responders: int, n_others: int, confidence: float
) -> pandas.DataFrame:
    """One row a linear model with a null, from its means of fold AUCs.

    `critical`: the AUC that a share of 1 - (1 - confidence)/2 of its null stays below. `detectable`: the true AUC that exceeds
    it in four of five studies, where cross-validation adds to Hanley and McNeil's deviation what it adds to the null's (the ratio
    of the two, squared, is the factor on the number of participants). `participants_at_…`: for an interval of ± `half_width`
    around that AUC, with this cohort's share of responders.
    """
    import pandas as pd
    from scipy import optimize, stats

    rows = []
    z, z_power = stats.norm.ppf((1 + confidence) / 2), stats.norm.ppf(POWER)
    alone = float(np.sqrt((n_responders + n_others + 1) / (12 * n_responders * n_others)))
    for row in permutations[permutations["scope"] == "mean"].itertuples():
        drawn = null[
            (null["protocol"] == row.protocol)
            & (null["arm"] == row.arm)
            & (null["model"] == row.model)
            & (null["permutation"] > 0)
        ]["mean"]
        critical, factor = float(np.quantile(drawn, (1 + confidence) / 2)), row.null_sd / alone

        def shortfall(auc: float, critical: float = critical, factor: float = factor) -> float:
            return auc - z_power * factor * auc_deviation(auc, n_responders, n_others) - critical

        reachable = critical < 1 and shortfall(1.0) > 0
        detectable = float(optimize.brentq(shortfall, critical, 1.0)) if reachable else np.nan
        wanted = [participants_needed(auc, HALF_WIDTH / (z * factor), n_responders, n_others) for auc in TARGETS]
        rows.append(
            (
                *(row.protocol, row.arm, row.model, row.null_mean, row.null_sd, alone, critical, detectable),
                *(HALF_WIDTH, *wanted),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def participants_needed(auc: float, deviation: float, n_responders: int, n_others: int) -> int:
    """The least number of participants, in the proportion given, at which Hanley and McNeil's deviation is `deviation`."""
    share = n_responders / (n_responders + n_others)
    low, high = 4, 10**7
    while low < high:
        middle = (low + high) // 2
        responders = max(1, round(share * middle))
        enough = auc_deviation(auc, responders, max(1, middle - responders)) <= deviation
        low, high = (low, middle) if enough else (middle + 1, high)
    return low
