"""The curve of p: at an arm's own p it is the arm, a looser p selects no fewer, chance is p times the components."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated_cohort import ORDER

from restresponse.classifier.selection import read_selection
from restresponse.files import read_table
from restresponse.metrics.curve import COLUMNS, curve_cases, curve_inputs

TEXT = ("protocol", "arm", "model", "metric", "scope")


def test_at_the_arms_own_p_the_curve_has_the_arms_own_auc_and_interval(tree):
    curve = read_table("results/metrics/selection.tsv", text_columns=TEXT)
    assert tuple(curve.columns) == COLUMNS
    assert set(curve["protocol"]) == set(tree.plan.protocols) and set(curve["arm"]) == {"ssc"}
    metrics = read_table("results/metrics/metrics.tsv", text_columns=TEXT)
    own = metrics[(metrics["arm"] == "ssc") & (metrics["model"] == "linear") & (metrics["metric"] == "auc")]
    own = own[own["scope"] == "mean"].set_index("protocol")
    at_own = curve[curve["p"] == 0.1].set_index("protocol")
    assert sorted(at_own.index) == sorted(own.index)
    for column, name in (("auc", "value"), ("low", "low"), ("high", "high")):
        assert at_own[column].to_dict() == pytest.approx(own[name].to_dict(), abs=1e-9)


def test_numbers_selected_are_those_of_the_folds_tables_and_grow_with_p(tree):
    curve = read_table("results/metrics/selection.tsv", text_columns=TEXT)
    for protocol, rows in curve.groupby("protocol"):
        assert rows["p"].tolist() == tree.plan.curve == [0.05, 0.1, 0.2, 0.3]
        assert rows["expected_by_chance"].tolist() == pytest.approx([ORDER * p for p in rows["p"]])
        assert (np.diff(rows["n_selected"]) >= 0).all()
        for row in rows.itertuples():
            counts = [
                len(
                    read_selection(
                        f"results/components/{tree.plan.cohort(protocol, fold)}/order-{ORDER}"
                        f"/labels-{tree.plan.selection_labels(protocol, fold)}/components.tsv",
                        row.p,
                    )
                )
                for fold in tree.plan.folds
            ]
            assert row.n_selected == pytest.approx(np.mean(counts))
            assert (row.least_selected, row.most_selected, row.n_folds) == (min(counts), max(counts), 2)


def test_the_jobs_input_is_every_file_that_it_reads(tree):
    cases = curve_cases(tree.plan, list(tree.batches))
    inputs = curve_inputs(cases)
    assert len(inputs) == len(set(inputs))
    assert "results/folds/labels/all.tsv" in inputs
    assert f"results/classifier/kernels/rep-1_fold-02/order-{ORDER}/gram.npy" in inputs
    assert not [path for path in inputs if "labels-" in path]
