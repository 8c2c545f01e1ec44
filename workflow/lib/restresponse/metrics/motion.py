"""Whether responders and non-responders moved differently in the scanner: motion that differs is a confound.

Only the scans that are used and the participants who are classified count. Nothing before `metrics` reads this.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restresponse.files import read_json, read_table, write_table

if TYPE_CHECKING:
    import pandas

MEASURES = {  # measure -> how a participant's scans become one number
    "mean_framewise_displacement": "mean",
    "maximum_framewise_displacement": "max",
    "n_outliers": "mean",
    "dof_residual": "mean",
}
COLUMNS = (
    "measure", "all_responders", "all_nonresponders", "n_responders", "n_nonresponders", "mean_responders",
    "mean_nonresponders", "sd_responders", "sd_nonresponders", "difference", "low", "high", "t", "p_welch", "p_mannwhitney", "auc", "detectable",
)  # fmt: skip
POWER = 0.8  # of the difference that is called detectable


def write_motion(
    *,
    labels: str | Path,
    inclusion: str | Path,
    quality: Mapping[str, str | Path],
    confidence: float,
    motion: str | Path,
) -> None:
    """Write the comparison, one row a measure, columns `COLUMNS`.

    Parameters
    ----------
    labels : table of participant_id and response of the labelled participants with an included scan
    inclusion : table of scan, participant_id and included
    quality : scan -> its quality measures (JSON)
    confidence : level of the interval; 1 less it is the level at which a difference counts as detected
    motion : the table to write
    """
    import pandas as pd

    response = read_table(labels).set_index("participant_id")["response"].astype(int)
    values = participant_measures(inclusion, quality).reindex(response.index)
    rows = [
        {"measure": name, **compare_groups(values[name][response == 1], values[name][response == 0], confidence)}
        for name in MEASURES
    ]
    write_table(motion, pd.DataFrame(rows, columns=list(COLUMNS)))


def participant_measures(inclusion: str | Path, quality: Mapping[str, str | Path]) -> pandas.DataFrame:
    """Each participant's `MEASURES` over the included scans; NaN where no scan has one."""
    import pandas as pd

    table = read_table(inclusion, text_columns=("scan", "participant_id", "reason"))
    kept = table[table["included"].astype(str).str.lower() == "true"]
    found = [read_json(quality[scan]) for scan in kept["scan"]]
    values = pd.DataFrame({name: [row.get(name) for row in found] for name in MEASURES}, dtype=float)
    return values.groupby(kept["participant_id"].to_numpy()).agg(MEASURES)


def compare_groups(first: pandas.Series, second: pandas.Series, confidence: float) -> dict[str, float]:
    """Two groups of numbers: means, their difference with Welch's interval and test, Mann-Whitney's, and what was detectable.

    Participants without a number (NaN: head motion that is not known) are in `all_responders` and `all_nonresponders` alone.
    `auc` is the share of pairs in which the first group's number is the greater, ties half: the AUC of a classifier that
    knows this number alone. `detectable` is the least difference of means that Welch's two-sided test at 1 - `confidence`
    finds with a probability of 0.8, at these sizes and standard deviations. What a group of one, or of equal numbers, does
    not allow is NaN.
    """
    from scipy import stats

    groups = [np.asarray(group, np.float64) for group in (first, second)]
    groups = [group[np.isfinite(group)] for group in groups]
    sizes = [len(group) for group in groups]
    means = [float(group.mean()) if len(group) else np.nan for group in groups]
    deviations = [_deviation(group) for group in groups]
    found: dict[str, float] = dict.fromkeys(COLUMNS[1:], np.nan)
    found |= {"all_responders": len(first), "all_nonresponders": len(second)}
    found |= {"n_responders": sizes[0], "n_nonresponders": sizes[1]}
    found |= {"mean_responders": means[0], "mean_nonresponders": means[1], "difference": means[0] - means[1]}
    found |= {"sd_responders": deviations[0], "sd_nonresponders": deviations[1]}
    if min(sizes) >= 1:
        test = stats.mannwhitneyu(*groups)
        found |= {"p_mannwhitney": float(test.pvalue), "auc": float(test.statistic / (sizes[0] * sizes[1]))}
    if min(sizes) >= 2 and sum(deviations) > 0:
        shares = [deviation**2 / size for deviation, size in zip(deviations, sizes, strict=True)]
        error = float(np.sqrt(sum(shares)))
        degrees = sum(shares) ** 2 / sum(share**2 / (size - 1) for share, size in zip(shares, sizes, strict=True))
        half = error * float(stats.t.ppf((1 + confidence) / 2, degrees))
        found["t"] = found["difference"] / error
        found |= {"p_welch": float(2 * stats.t.sf(abs(found["t"]), degrees))}
        found |= {"low": found["difference"] - half, "high": found["difference"] + half}
        found["detectable"] = error * detectable_shift(degrees, 1 - confidence)
    return found


def detectable_shift(degrees: float, level: float, power: float = POWER) -> float:
    """Noncentrality of t with `degrees` of freedom at which a two-sided test at `level` rejects with probability `power`."""
    from scipy import optimize, stats

    critical = stats.t.ppf(1 - level / 2, degrees)
    # t is (normal + shift) / root of chi-squared: averaged over its quantiles, as scipy's noncentral t is NaN far out
    bounds = critical * np.sqrt(stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, degrees) / degrees)

    def shortfall(shift: float) -> float:
        return float(np.mean(stats.norm.sf(bounds - shift) + stats.norm.cdf(-bounds - shift))) - power

    return float(optimize.brentq(shortfall, 0.0, bounds[-1] + 10.0))


def _deviation(group: np.ndarray) -> float:
    """Standard deviation; exactly 0 where the numbers are the same but for rounding."""
    if len(group) < 2:
        return float("nan")
    deviation = float(group.std(ddof=1))
    return deviation if deviation > 1e-12 * float(np.abs(group).max()) else 0.0
