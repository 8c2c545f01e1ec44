"""The report's section on explanations: the planted networks in words, a figure, and why a classifier is withheld."""

import base64
from pathlib import Path

import pandas as pd
import pytest
from planted_cohort import PLANTED, write_explained

from restresponse.report.explanation import explanation_cases, sentences

WANTED = {"metrics": {"explanation": True}}


def test_the_section_names_the_planted_networks_and_says_why_another_is_withheld(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, names = write_explained({"asc": (0.9, 0.7, 1.0), "ssc": (0.6, 0.45, 0.75)})
    shown, hidden = explanation_cases(Path("results"), WANTED)
    assert hidden["sentences"][0].startswith("Withheld:") and hidden["figure"] is None and not hidden["rows"]
    assert any(f"({names[index]}) adds most" in shown["sentences"][0] for index in PLANTED)
    assert "100% of 3 folds" in shown["sentences"][0] and "weights shuffled it adds 0.0" in shown["sentences"][0]
    assert not any(sentence.startswith("Caution") for sentence in shown["sentences"])
    assert len(shown["rows"]) == 4 + 8 and {row["n_folds"] for row in shown["rows"]} == {3}
    assert any(f"({names[index]}) is missed most" in shown["sentences"][-1] for index in PLANTED)
    assert "others can take each one's place" in shown["sentences"][-1]  # of two planted networks one suffices
    assert [row["refitted"] is not None for row in shown["rows"]] == [True] * 4 + [False] * 8
    picture = base64.b64decode(shown["figure"].removeprefix("data:image/png;base64,"))
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000


def test_where_none_is_wanted_there_is_no_case():
    assert explanation_cases(Path("nowhere"), {"metrics": {"explanation": False}}) is None


@pytest.mark.parametrize(
    ("randomised_r", "randomised", "cautioned"), [(0.1, 0.5, False), (0.6, 0.5, True), (0.9, 0.01, False)]
)
def test_an_order_that_shuffled_weights_give_too_is_cautioned_of(randomised_r, randomised, cautioned):
    key = {"protocol": "clean", "arm": "asc", "model": "linear", "what": "network", "measure": "occluded"}
    row = {"name": "Visual", "network": "Visual", "rank": 1, "separation": 1.0, "auc_lost": 0.1, "share_first": 1.0}
    networks = pd.DataFrame([{**key, **row, "randomised": randomised}])
    summary = pd.DataFrame(
        [{**key, "whole": 2.0, "rank_r": 0.8, "randomised_r": randomised_r, "n_folds": 3, "map_r": 0.9}]
    )
    assert any(sentence.startswith("Caution") for sentence in sentences(networks, summary)) == cautioned
