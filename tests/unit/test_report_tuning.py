"""What the report says of the search of hyper-parameters."""

from __future__ import annotations

from restresponse.report.tuning import tuning_rows


def facts_of(epsilon: float, dropout: float, tried: int, pruned: int = 0):
    """A sidecar whose search tried `tried` settings of 100, the last `pruned` of them given up."""
    trials = [
        {
            "number": n,
            "settings": {"epsilon": 0.1, "dropout": 0.3 + n},
            "state": "finished" if n <= tried - pruned else "pruned",
        }
        for n in range(1, tried + 1)
    ]
    trials[0]["settings"] = {"epsilon": 0.1, "dropout": 0.3}
    tuning = {"trials": trials, "n_grid": 100, "share": tried / 100}
    return {"tuning": tuning, "chosen": {"epsilon": epsilon, "dropout": dropout}}


def test_the_rows_say_how_much_was_searched_and_how_often_each_value_won():
    models = {
        ("clean", "asc", "voxnet", "rep-1_fold-01"): facts_of(0.1, 0.3, 5),
        ("clean", "asc", "voxnet", "rep-1_fold-02"): facts_of(0.1, 0.5, 5, pruned=2),
        ("clean", "asc", "voxnet", "rep-1_fold-03"): facts_of(0.7, 0.5, 4, pruned=1),
        ("clean", "rsp", "voxnet", "rep-1_fold-01"): {"tuning": None, "chosen": {"epoch": 3}},
    }
    (row,) = tuning_rows(models)
    assert (row["n_grid"], row["tried"], row["share"], row["pruned"]) == (100, "4 to 5", "4 % to 5 %", 3)
    assert row["won"] == ["epsilon: 0.1 in 2, 0.7 in 1", "dropout: 0.5 in 2, 0.3 in 1"]
    assert row["first"] == "1 of 3"


def test_a_grid_that_was_tried_whole_says_so():
    trials = [{"number": n, "settings": {"penalty": 10.0**-n}, "state": "finished"} for n in range(1, 4)]
    tuning = {"trials": trials, "n_grid": 3, "share": 1.0}
    key = ("clean", "asc", "linear", "rep-1_fold-01")
    (row,) = tuning_rows({key: {"tuning": tuning, "chosen": {"penalty": 0.01, "selected": None}}})
    assert (row["tried"], row["share"], row["won"], row["first"]) == ("3", "100 %", ["penalty: 0.01 in 1"], None)
