"""The tables that say how far to trust the scores: comparisons, calibration, decision, spread, what the sample can show."""

from __future__ import annotations

from pathlib import Path

from restresponse.files import read_table, write_table
from restresponse.metrics.calibration import calibration_tables
from restresponse.metrics.comparisons import comparisons_table
from restresponse.metrics.power import power_table
from restresponse.metrics.variance import variance_table

_TEXT = ("protocol", "arm", "model", "fold", "participant_id")


def write_further(
    *,
    predictions: str | Path,
    null: str | Path,
    permutations: str | Path,
    resamples: int,
    confidence: float,
    seed: int,
    comparisons: str | Path,
    calibration: str | Path,
    reliability: str | Path,
    decision_curve: str | Path,
    variance: str | Path,
    power: str | Path,
) -> None:
    """Write the six tables from `predictions.tsv`, `null.tsv` and `permutations.tsv`."""
    table = read_table(predictions, text_columns=_TEXT)
    write_table(comparisons, comparisons_table(table, resamples=resamples, confidence=confidence, seed=seed))
    for path, found in zip(
        (calibration, reliability, decision_curve), calibration_tables(table, confidence), strict=True
    ):
        write_table(path, found)
    write_table(variance, variance_table(table, resamples=resamples, seed=seed))
    people = table.drop_duplicates("participant_id")["response"]
    drawn, summary = (read_table(path, text_columns=_TEXT) for path in (null, permutations))
    write_table(power, power_table(drawn, summary, int((people == 1).sum()), int((people == 0).sum()), confidence))
