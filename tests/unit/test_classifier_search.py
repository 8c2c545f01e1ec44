"""The search of hyper-parameters: budgets, the first trial, pruning, and a kill in the middle that changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restresponse.classifier.search import SPACE, Pruned, check_budget, search
from restresponse.errors import InputError

GRID = {"epsilon": [0.1, 0.2, 0.3, 0.4, 0.5], "dropout": [0.1, 0.2, 0.3, 0.4, 0.5]}
FIRST = {"epsilon": 0.1, "dropout": 0.3}


def bowl(settings, report):
    """Least at epsilon 0.4 and dropout 0.2."""
    value = (settings["epsilon"] - 0.4) ** 2 + (settings["dropout"] - 0.2) ** 2
    report(1, value)
    return value, {"seen": settings["epsilon"]}


def run(journal, objective=bowl, space=GRID, first=FIRST, seed=1, identity="same", **budget):
    return search(objective, space, first, budget=budget, seed=seed, identity=identity, journal=journal)


def test_the_papers_ranges_and_settings(tmp_path):
    sizes = {name: len(values) for name, values in SPACE.items()}
    assert sizes == {"epsilon": 19, "learning_rate": 6, "dropout": 18, "epochs": 191}
    assert (SPACE["epsilon"][0], SPACE["epsilon"][-1], SPACE["epochs"][0], SPACE["epochs"][-1]) == (0.1, 1.0, 10, 200)
    assert SPACE["dropout"][-1] == 0.95
    paper = {"epsilon": 0.1, "learning_rate": 0.001, "dropout": 0.3, "epochs": 100}
    found = run(tmp_path / "s", lambda settings, report: (settings["epochs"], {}), SPACE, paper, trials=2)
    assert found.trials[0]["settings"] == paper
    assert found.n_grid == 19 * 6 * 18 * 191


def test_the_first_trial_is_the_configs_setting_and_the_budget_is_kept(tmp_path):
    found = run(tmp_path / "study.journal", trials=6)
    assert found.trials[0]["settings"] == FIRST
    assert [row["number"] for row in found.trials] == [1, 2, 3, 4, 5, 6]
    assert found.n_grid == 25 and found.record["share"] == 6 / 25
    assert found.facts["seen"] == found.settings["epsilon"]


def test_no_setting_is_tried_twice_and_the_whole_grid_is_the_end_of_a_search(tmp_path):
    found = run(tmp_path / "study.journal", trials=1000)
    assert len({tuple(row["settings"].values()) for row in found.trials}) == len(found.trials) == 25
    assert found.settings == {"epsilon": 0.4, "dropout": 0.2}
    assert found.record["share"] == 1


def test_a_trial_that_falls_behind_is_pruned_and_never_chosen(tmp_path):
    def slow(settings, report):
        value, facts = bowl(settings, lambda *_: None)
        for step in range(1, 6):
            report(step, value + 1 / step)
        return value, facts

    found = run(tmp_path / "study.journal", slow, trials=20)
    pruned = [row for row in found.trials if row["state"] == "pruned"]
    assert pruned and all(row["value"] is None for row in pruned)
    assert all(row["state"] == "finished" for row in found.trials[:8])
    finished = [row for row in found.trials if row["state"] == "finished"]
    assert found.settings == min(finished, key=lambda row: row["value"])["settings"]


def test_a_budget_of_minutes_ends_the_search_after_a_trial_at_least(tmp_path):
    def second(settings, report):
        time.sleep(0.05)
        return bowl(settings, report)

    assert len(run(tmp_path / "one", second, minutes=1e-6).trials) == 1
    assert 2 <= len(run(tmp_path / "two", second, minutes=0.2 / 60, trials=20).trials) <= 5


@pytest.mark.parametrize("budget", [{"trials": 0}, {"minutes": 0}, {"trials": 5, "minutes": 0}, {}])
def test_a_budget_of_nothing_is_refused(tmp_path, budget):
    with pytest.raises(InputError, match=r"search.*(expected more than 0|expected at least one)"):
        run(tmp_path / "study.journal", **budget)
    with pytest.raises(InputError):
        check_budget(budget)


def test_another_identity_begins_anew(tmp_path):
    run(tmp_path / "study.journal", trials=3)
    calls = []

    def counted(settings, report):
        calls.append(settings)
        return bowl(settings, report)

    run(tmp_path / "study.journal", counted, trials=3)
    assert not calls
    run(tmp_path / "study.journal", counted, trials=5)  # a larger budget goes on
    assert len(calls) == 2
    run(tmp_path / "study.journal", counted, identity="other", trials=3)
    assert len(calls) == 2 + 3


def test_settings_that_cannot_be_trained_are_passed_over_and_all_of_them_are_an_error_in_words(tmp_path):
    def fragile(settings, report):
        if settings["epsilon"] < 0.4:
            raise Pruned
        return bowl(settings, report)

    found = run(tmp_path / "one", fragile, trials=25)
    assert found.settings == {"epsilon": 0.4, "dropout": 0.2}
    assert {row["state"] for row in found.trials if row["settings"]["epsilon"] < 0.4} == {"pruned"}

    def broken(settings, report):
        raise Pruned

    with pytest.raises(InputError, match="none of the 4 settings that the search tried could be trained"):
        run(tmp_path / "two", broken, trials=4)


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_classifier_search import bowl, run
calls = Path("calls")

def slow(settings, report):
    with calls.open("a") as stream:
        stream.write(f"{{settings['epsilon']}} {{settings['dropout']}}\\n")
    if len(calls.read_text().splitlines()) == {stop}:
        report(1, 9.0)
        time.sleep(60)
    return bowl(settings, report)

run("study.journal", slow, trials=14)
"""


def test_a_killed_search_goes_on_with_the_trial_it_was_in_and_ends_as_one_that_was_not(tmp_path):
    whole = run(tmp_path / "whole.journal", trials=14)
    tests = str(Path(__file__).parent)
    script = KILLED.format(tests=tests, stop=5)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    calls = tmp_path / "calls"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if calls.is_file() and len(calls.read_text().splitlines()) == 5 and b"9.0" in journal_of(tmp_path):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.05)
    assert process.wait() == -signal.SIGKILL
    journal = tmp_path / "study.journal"
    with journal.open("ab") as stream:
        stream.write(b'{"op_code": 4, "half a li')  # what a kill while writing leaves
    Path(f"{journal}.lock").touch()
    before = calls.read_text().splitlines()
    again = []

    def counted(settings, report):
        again.append(f"{settings['epsilon']} {settings['dropout']}")
        return bowl(settings, report)

    found = run(journal, counted, trials=14)
    assert again[0] == before[-1]  # the trial it was in
    assert len(again) == 14 - 4  # the four that were finished are not run again
    assert [row["settings"] for row in found.trials] == [row["settings"] for row in whole.trials]
    assert found.settings == whole.settings


def journal_of(folder):
    path = folder / "study.journal"
    return path.read_bytes() if path.is_file() else b""
