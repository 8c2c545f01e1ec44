"""The verdict in plain words, each sentence made from the run's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from restresponse.classifier.ladder import leak_of
from restresponse.metrics.collect import BASELINE, CONSTANT
from restresponse.metrics.optimism import CLEAN
from restresponse.metrics.verdicts import DECLARED, VIOLATION
from restresponse.report.trust import baseline_sentence, null_sentences

if TYPE_CHECKING:
    import pandas


def verdict(
    metrics: pandas.DataFrame,
    optimism: pandas.DataFrame,
    audit: pandas.DataFrame,
    predictions: pandas.DataFrame,
    confidence: float,
    comparisons: pandas.DataFrame | None = None,
    permutations: pandas.DataFrame | None = None,
) -> list[str]:
    """Sentences of the summary. The first arm and model of the config lead: never the ones that came out best."""
    metrics = metrics[metrics["arm"] != BASELINE]
    pairs = [tuple(pair) for pair in metrics[["arm", "model"]].drop_duplicates().to_numpy() if pair[1] != CONSTANT]
    text = []
    clean = {pair: one(metrics, CLEAN, *pair, "auc", "mean") for pair in pairs}
    lead = next((pair for pair in pairs if clean[pair] is not None), None)
    people = predictions.drop_duplicates("participant_id")
    responders, others = int((people["response"] == 1).sum()), int((people["response"] == 0).sum())
    if lead is not None:
        row, level = clean[lead], f"{confidence:.0%} interval"
        text.append(
            f"With the clean protocol, in which nothing of a test participant reaches any fit, {lead[1]} on {lead[0]} "
            f"(first in the config) tells responders from non-responders with a mean AUC of {row.value:.2f} "
            f"({level} {span(row.low, row.high)}, n = {int(row.n)}). {_beside_chance(row.value, row.low, row.high)}"
        )
        text += _beside_constant(metrics, lead)
        text += [] if comparisons is None else baseline_sentence(comparisons, lead, confidence)
        text += [_other_protocol(row, level) for row in _rows(optimism, *lead, "mean") if leak_of(row.protocol) is None]
    tried = [pair for pair in pairs if clean[pair] is not None]
    above = [pair for pair in tried if clean[pair].low > 0.5]
    if len(tried) > 1:
        named = f": {', '.join(f'{model} on {arm}' for arm, model in above)}" if above else ""
        text.append(
            f"Of {len(tried)} classifiers tried, {len(above) or 'none'} {'has' if len(above) == 1 else 'have'} a clean interval "
            f"above 0.5{named}. The more are tried, the likelier one is above by luck."
        )
    text += [] if permutations is None else null_sentences(permutations)
    text.append(audit_sentence(audit))
    if responders and others:
        text.append(caution(responders, others))
    return text


def caution(responders: int, others: int) -> str:
    """What a sample of this size can show."""
    deviation = np.sqrt((responders + others + 1) / (12 * responders * others))
    return (
        f"Caution: {responders} responders and {others} non-responders are few. By sampling alone the AUC of a classifier "
        f"that knows nothing has a standard deviation of {deviation:.2f}, and cross-validation widens it; below about "
        f"{min(1.0, 0.5 + 1.96 * deviation):.2f} a single AUC is no evidence. Predictions from fewer than several hundred "
        "people rarely hold elsewhere (Poldrack et al. 2020), and nothing here was tested on another cohort."
    )


def audit_sentence(audit: pandas.DataFrame) -> str:
    """The audit's verdict."""
    models = len(audit[["protocol", "arm", "model", "fold"]].drop_duplicates())
    violations = int((audit["verdict"] == VIOLATION).sum())
    declared = sorted(set(audit.loc[audit["verdict"] == DECLARED, "protocol"]))
    text = f"The leakage audit made {len(audit):,} checks behind {models} models and found "
    text += f"{violations} violations" if violations else "no violation"
    without = [name for name in dict.fromkeys(audit["protocol"]) if name not in declared]
    if without and not violations:
        text += f": under {', '.join(without)} no test participant and no test label reached a fit"
    if declared:
        text += f"{';' if without else ':'} under {', '.join(declared)} they did, as that protocol declares"
    return text + "."


def one(table: pandas.DataFrame, protocol: str, arm: str, model: str, metric: str, scope: str) -> pandas.Series | None:
    """The row of metrics.tsv, or None where there is none or its value is not defined."""
    found = table[
        (table["protocol"] == protocol)
        & (table["arm"] == arm)
        & (table["model"] == model)
        & (table["metric"] == metric)
        & (table["scope"] == scope)
    ]
    return found.iloc[0] if len(found) and np.isfinite(found["value"].iloc[0]) else None


def span(low: float, high: float) -> str:
    """An interval."""
    return f"{low:.2f} to {high:.2f}" if np.isfinite(low) and np.isfinite(high) else "n/a"


def _rows(optimism: pandas.DataFrame, arm: str, model: str, scope: str) -> Sequence[pandas.Series]:
    chosen = (optimism["arm"] == arm) & (optimism["model"] == model) & (optimism["scope"] == scope)
    return [row for _, row in optimism[chosen].iterrows()]


def _beside_chance(value: float, low: float, high: float) -> str:
    if low > 0.5:
        return "The interval lies above 0.5, the value of guessing."
    if high < 0.5:
        return "The interval lies below 0.5, the value of guessing: look for a mistake before believing it."
    return "The interval holds 0.5, the value of guessing: this run does not show that it does better."


def _beside_constant(metrics: pandas.DataFrame, pair: tuple[str, str]) -> list[str]:
    found = [one(metrics, CLEAN, pair[0], model, "accuracy", "pooled") for model in (CONSTANT, pair[1])]
    if any(row is None for row in found):
        return []
    constant, own = (row.value for row in found)
    return [
        f"Beside it the constant classifier, which never looks at an image and always answers the same: AUC 0.50, accuracy "
        f"{constant:.2f}; the classifier's own accuracy is {own:.2f}."
    ]


def _other_protocol(row: pandas.Series, level: str) -> str:
    if isinstance(row.by_construction, str):
        return f"With the {row.protocol} protocol nothing can differ for it ({row.by_construction})."
    if row.clean == row.value == 1:
        comment = "which says nothing where both are at the ceiling"
    elif row.low > 0:
        comment = "that much of the protocol's figure is optimism"
    elif row.low <= 0 <= row.high:
        comment = "at this size not told apart from none"
    else:
        comment = "lower than clean, not higher"
    return (
        f"With the {row.protocol} protocol the same classifier gets {row.value:.2f}: a difference of {row.difference:+.2f} "
        f"({level} {row.low:+.2f} to {row.high:+.2f}), {comment}."
    )
