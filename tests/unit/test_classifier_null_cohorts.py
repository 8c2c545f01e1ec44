"""Cohorts of pure noise, few of them: the clean protocol reports chance, each label leak more, both together most.

`benchmarks/null_cohorts.py` has the same with 200 cohorts.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def test_protocols_on_noise_are_in_the_order_of_their_leaks():
    specification = importlib.util.spec_from_file_location("null_cohorts", ROOT / "benchmarks/null_cohorts.py")
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    rows = [benchmark.null_areas(seed, (0.01, 1.0)) for seed in range(12)]
    areas = {protocol: np.array([row[protocol][0] for row in rows]) for protocol in benchmark.PROTOCOLS}
    plain, selected, _, selection, both = areas.values()
    for clean in (plain, selected):
        assert abs(clean.mean() - 0.5) < 3 * clean.std(ddof=1) / np.sqrt(len(rows))
    assert (selection - selected).mean() > 0.08
    assert both.mean() >= selection.mean()
