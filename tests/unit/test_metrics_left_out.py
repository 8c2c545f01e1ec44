"""A model fitted again without a network: the same as if the network had never been there; the planted one is missed most."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from classifier_cohort import Cohort, config
from planted_cohort import PLANTED, write_explained
from test_classifier_permuted import CLEAN, views_of

from restresponse.classifier.permuted import Procedure
from restresponse.files import read_table
from restresponse.metrics.curve import sample_of, scored_once
from restresponse.metrics.left_out import COLUMNS, left_out_cases, lost_without
from restresponse.metrics.scores import mean_fold_auc
from restresponse.plan import Plan

ALL = dataclasses.replace(CLEAN, selects_in_inner_folds=False)
SETTINGS = {"resamples": 200, "confidence": 0.95, "seed": 1}


def lost(cohort: Cohort, procedure: Procedure, own: dict | None = None, **views):
    tests = [np.arange(start, len(cohort.names), 3) for start in range(3)]
    made = views_of(cohort, tests, **views)
    own = own or {fold: {number: number - 1 for number in range(1, cohort.maps.shape[1] + 1)} for fold in made}
    rows = lost_without([(made, cohort.response)], own, procedure, **SETTINGS)
    return pd.DataFrame(rows).set_index("component"), made


def test_without_a_component_is_as_if_it_had_never_been_there():
    cohort = Cohort.of(9, 8, effect=0.3, seed=5)
    found, views = lost(cohort, ALL)
    for number in found.index:
        others = np.delete(np.arange(4), number - 1)
        never = dataclasses.replace(cohort, maps=cohort.maps[:, others], components=cohort.components[others])
        made = views_of(never, [view.test for view in views.values()])
        sample = sample_of([scored_once(made, cohort.response, ALL)], cohort.response)
        assert found.loc[number, "without"] == pytest.approx(mean_fold_auc(sample), abs=1e-9)
    assert found["auc"].nunique() == 1
    np.testing.assert_allclose(found["auc_lost"], found["auc"] - found["without"])
    assert ((found["low"] <= found["auc_lost"]) & (found["auc_lost"] <= found["high"])).all()


@pytest.mark.parametrize("selects", [False, True])
def test_the_planted_component_is_missed_most_and_no_other_is(selects):
    cohort = Cohort.of(12, 12, effect=1.5, seed=2)
    views = {"amplitudes": cohort.amplitudes} if selects else {}
    found, _ = lost(cohort, CLEAN if selects else ALL, **views)
    assert found["rank"].idxmin() == 2 and found.loc[2, "auc_lost"] > 0.3 and found.loc[2, "low"] > 0
    assert found.drop(index=2)["auc_lost"].abs().max() < 0.1


def test_a_folds_own_number_of_a_component_is_left_out_there():
    cohort = Cohort.of(9, 8, effect=0.3, seed=5)
    straight, views = lost(cohort, ALL)
    turned, _ = lost(cohort, ALL, own={fold: {number: 4 - number for number in range(1, 5)} for fold in views})
    np.testing.assert_allclose(turned["without"], straight["without"][::-1])


def test_the_table_names_networks_and_a_classifier_that_may_be_chance_has_no_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort, names = write_explained({"asc": (0.9, 0.7, 1.0), "ssc": (0.6, 0.45, 0.75)})
    found = read_table("results/metrics/left_out.tsv", text_columns=("protocol", "arm", "model", "network"))
    assert list(found) == list(COLUMNS) and set(found["arm"]) == {"asc"}
    assert found.set_index("component")["network"].to_dict() == {index + 1: name for index, name in enumerate(names)}
    first = found.sort_values("rank")["component"].head(len(PLANTED))
    assert set(first) == {index + 1 for index in PLANTED}
    assert not left_out_cases(Plan.of(config()), list(cohort.batches), [("clean", "asc", "voxnet")])
