"""A responder is one whose pain fell by the threshold, or whom a column calls one; what cannot be is told together."""

from __future__ import annotations

import pytest
from bids_tree import (
    default_settings,
)

from restresponse.dataset import labels


@pytest.fixture
def settings() -> dict:
    return default_settings()


def people(**columns: list[str]) -> list[dict[str, str]]:
    n = len(next(iter(columns.values())))
    return [
        {"participant_id": f"sub-{index + 1:02d}"} | {name: values[index] for name, values in columns.items()}
        for index in range(n)
    ]


def test_a_fall_of_the_threshold_itself_makes_a_responder(settings):
    before = ["10", "6", "6", "10", "5", "4"]
    after = ["7", "4.2", "4.3", "7.01", "6", "0"]  # 6 to 4.2 is 30 %, though floating point says 29.999999999999996
    rows, problems = labels(people(pain_pre=before, pain_post=after), settings)
    assert problems == []
    assert [row["response"] for row in rows] == [1, 1, 0, 0, 0, 1]
    assert [row["pain_change"] for row in rows] == pytest.approx([30, 30, 28.3333333, 29.9, -20, 100])


def test_the_threshold_is_the_configs(settings):
    settings["outcome"]["threshold"] = 50
    rows, _ = labels(people(pain_pre=["8", "8"], pain_post=["4", "4.1"]), settings)
    assert [row["response"] for row in rows] == [1, 0]


def test_no_outcome_and_outside_the_filter_mean_no_label(settings):
    table = people(
        pain_pre=["8", "n/a", "8", "8"],
        pain_post=["1", "1", "", "1"],
        type=["patient", "patient", "patient", "control"],
    )
    settings["include"] = {"type": "patient"}
    rows, problems = labels(table, settings)
    assert problems == [] and [row["participant_id"] for row in rows] == ["sub-01"]


def test_problems_of_the_outcome_are_listed_together(settings):
    table = people(pain_pre=["0", "11", "-1", "bad", "7,5", "8", "nan"], pain_post=["0", "1", "1", "1", "1", "55", "1"])
    rows, problems = labels(table, settings)
    assert rows == []
    assert [problem.split(":")[0] for problem in problems] == [
        "sub-01",
        "sub-02",
        "sub-03",
        "sub-04",
        "sub-05",
        "sub-06",
    ]
    for problem, said in zip(
        problems,
        ["is 0, so that pain cannot fall", "is 11", "is -1", "'bad'", "decimal point", "0-100 scale"],
        strict=True,
    ):
        assert said in problem


def test_problems_outside_the_filter_are_none(settings):
    settings["include"] = {"arm": ["a", "b"]}
    rows, problems = labels(people(pain_pre=["0", "8", "8"], pain_post=["0", "1", "8"], arm=["c", "a", "b"]), settings)
    assert problems == [] and [row["response"] for row in rows] == [1, 0]


def test_a_label_column_is_compared_as_text(settings):
    settings["outcome"] |= {
        "label_column": "outcome",
        "responder_values": [1, "good", True],
        "nonresponder_values": [0, "bad", False],
    }
    cells = ["1", "1.0", "good", "yes", "0", "bad", "No", "n/a", ""]
    rows, problems = labels(people(outcome=cells), settings)
    assert problems == []
    assert [row["response"] for row in rows] == [1, 1, 1, 1, 0, 0, 0]
    assert all(row["pain_change"] is None for row in rows)


def test_a_label_that_means_nothing_is_a_problem(settings):
    settings["outcome"]["label_column"] = "outcome"
    _, problems = labels(people(outcome=["1", "maybe", "Good"]), settings)
    assert (
        len(problems) == 2
        and "sub-02: outcome is 'maybe', in neither responder_values nor nonresponder_values" in problems[0]
    )


def test_pain_beside_a_label_column_is_kept_and_cannot_be_a_problem(settings):
    settings["outcome"]["label_column"] = "outcome"
    rows, problems = labels(people(outcome=["0", "1"], pain_pre=["8", "0"], pain_post=["4", "x"]), settings)
    assert problems == [] and [(row["response"], row["pain_change"]) for row in rows] == [(0, 50.0), (1, None)]


def test_a_column_of_the_percent_fall_stands_in_place_of_pain_and_beside_a_label(settings):
    settings["outcome"]["change_column"] = "improvement"
    rows, problems = labels(people(improvement=["30", "-12.5", "n/a", "29.9"]), settings)
    assert problems == []
    assert [(row["response"], row["pain_change"]) for row in rows] == [(1, 30.0), (0, -12.5), (0, 29.9)]
    _, problems = labels(people(improvement=["30", "140", "much"]), settings)
    assert len(problems) == 2 and "improvement is '140'; expected the percent fall of pain" in problems[0]
    _, problems = labels(people(improvment=["30"]), settings)
    assert "no column improvement" in problems[0] and "did you mean improvment?" in problems[0]
    settings["outcome"]["label_column"] = "outcome"
    rows, problems = labels(people(outcome=["0", "1"], improvement=["44", "x"]), settings)
    assert problems == [] and [(row["response"], row["pain_change"]) for row in rows] == [(0, 44.0), (1, None)]


def test_columns_of_the_outcome_that_are_not_there(settings):
    _, problems = labels(people(pain_pre=["1"], pain_pst=["1"]), settings)
    assert len(problems) == 1 and "no column pain_post" in problems[0] and "did you mean pain_pst?" in problems[0]
    settings["outcome"]["label_column"] = "response"
    _, problems = labels(people(Response=["1"]), settings)
    assert "dataset.outcome.label_column: no column response" in problems[0] and "did you mean Response?" in problems[0]


def test_nobody_with_an_outcome_is_a_problem(settings):
    _, problems = labels(people(pain_pre=["n/a"], pain_post=["n/a"]), settings)
    assert len(problems) == 1 and "none of the 1 participants" in problems[0]
