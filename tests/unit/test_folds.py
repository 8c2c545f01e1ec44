"""Folds are dealt by participant and by response; nobody's label is where it must not be."""

import numpy as np
import pandas as pd
import pytest

from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_table
from restresponse.folds import assign_folds, eligible_participants, write_folds
from restresponse.plan import fold_names


def cohort(responders, nonresponders):
    return {f"sub-{k:02d}": int(k <= responders) for k in range(1, responders + nonresponders + 1)}


PAPER = cohort(29, 14)


def counts(table, responses):
    """Participants of each class in the test part of each fold: (folds, 2)."""
    response = table["participant_id"].map(responses)
    return pd.crosstab(table["fold"], response).reindex(columns=[0, 1], fill_value=0).to_numpy()


@pytest.mark.parametrize(("responders", "nonresponders", "n_folds"), [(29, 14, 10), (13, 7, 3), (5, 3, 2), (4, 4, 4)])
def test_classes_and_sizes_differ_by_at_most_one_between_folds(responders, nonresponders, n_folds):
    responses = cohort(responders, nonresponders)
    for seed in range(20):
        found = counts(assign_folds(responses, n_folds, 1, seed), responses)
        assert len(found) == n_folds and found.min() >= 1
        assert np.ptp(found, axis=0).max() <= 1
        assert np.ptp(found.sum(axis=1)) <= 1


def test_every_participant_is_tested_once_a_repeat():
    table = assign_folds(PAPER, 10, 5, 2021)
    assert list(table) == ["repeat", "fold", "participant_id"]
    for _, part in table.groupby("repeat"):
        assert sorted(part["participant_id"]) == sorted(PAPER)
    assert sorted(table["fold"].unique()) == fold_names(10, 5)
    assert all(fold.startswith(f"rep-{repeat}_") for repeat, fold in zip(table["repeat"], table["fold"], strict=True))


def test_repeats_and_seeds_deal_anew_and_more_repeats_leave_the_first_as_they_are():
    five = assign_folds(PAPER, 10, 5, 2021)
    parts = [set(zip(part["fold"].str[6:], part["participant_id"], strict=True)) for _, part in five.groupby("repeat")]
    assert all(parts[0] != part for part in parts[1:])
    pd.testing.assert_frame_equal(assign_folds(PAPER, 10, 2, 2021), five[five["repeat"] <= 2].reset_index(drop=True))
    assert not assign_folds(PAPER, 10, 5, 2022).equals(five)


def test_repeats_that_differ_by_seeds_alone_share_their_folds():
    responses = cohort(8, 5)
    table = assign_folds(responses, 3, 4, 7, seeds=2)
    plain = assign_folds(responses, 3, 2, 7)
    found = [part["participant_id"].tolist() for _, part in table.groupby("fold")]
    split = [part["participant_id"].tolist() for _, part in plain.groupby("fold")]
    assert found == split[:3] * 2 + split[3:] * 2
    assert split[:3] != split[3:]


def test_the_order_of_participants_changes_nothing():
    expected = assign_folds(PAPER, 10, 2, 7)
    for seed in range(5):
        names = np.random.default_rng(seed).permutation(list(PAPER))
        pd.testing.assert_frame_equal(assign_folds({name: PAPER[name] for name in names}, 10, 2, 7), expected)


def test_who_shares_a_fold_with_whom_is_left_to_chance():
    together = 0
    for seed in range(300):
        fold = assign_folds(PAPER, 10, 1, seed).set_index("participant_id")["fold"]
        together += fold["sub-01"] == fold["sub-02"]
    assert 0.02 < together / 300 < 0.13  # two of 29 responders: about 2 / 29 by chance


def test_one_class_only_is_said():
    with pytest.raises(InputError, match="6 responders and 0 non-responders: one class only"):
        assign_folds(cohort(6, 0), 3, 1, 0)


def test_a_fold_that_would_lack_a_class_says_the_largest_number_of_folds_that_works():
    with pytest.raises(
        InputError, match=r"29 responders and 7 non-responders.*would lack a class.*n_folds to 7 or less"
    ):
        assign_folds(cohort(29, 7), 10, 1, 0)
    assert counts(assign_folds(cohort(29, 7), 7, 1, 0), cohort(29, 7)).min() == 1
    with pytest.raises(InputError, match="no number of folds works"):
        assign_folds(cohort(8, 1), 2, 1, 0)


def test_fewer_participants_than_folds_is_said():
    with pytest.raises(InputError, match=r"fewer participants than the 10 folds.*n_folds to 3 or less"):
        assign_folds(cohort(4, 3), 10, 1, 0)


# ---------------------------------------------------------------- files


def tables(folder, responses, left_out=(), second_runs=()):
    """Labels in no order, and an inclusion table in which some participants' scans are left out."""
    names = np.random.default_rng(0).permutation(list(responses))
    write_table(
        folder / "labels.tsv",
        pd.DataFrame(
            {
                "participant_id": names,
                "response": [responses[name] for name in names],
                "pain_change": [12.5] * len(names),
            }
        ),
    )
    rows = [(f"{name}_task-rest", name, name not in left_out, "moved" if name in left_out else None) for name in names]
    rows += [(f"{name}_task-rest_run-2", name, True, None) for name in second_runs]
    rows.append(("sub-99_task-rest", "sub-99", True, None))  # scanned, never labelled
    write_table(folder / "inclusion.tsv", pd.DataFrame(rows, columns=["scan", "participant_id", "included", "reason"]))


def deal(folder, n_folds=3, repeats=2, seed=2021):
    names = ["all", *fold_names(n_folds, repeats)]
    paths = [folder / "labels" / f"{name}.tsv" for name in names]
    write_folds(
        folder / "labels.tsv",
        folder / "inclusion.tsv",
        folder / "folds.tsv",
        paths,
        n_folds=n_folds,
        repeats=repeats,
        seed=seed,
    )
    return {path.stem: read_table(path) for path in paths}


def test_a_folds_label_table_holds_its_training_participants_and_no_others(tmp_path):
    responses = cohort(13, 7)
    tables(tmp_path, responses, left_out=("sub-02", "sub-20"), second_runs=("sub-20",))
    known = deal(tmp_path)
    everyone = set(responses) - {"sub-02"}  # sub-20 has a second run, which is used
    assert set(known["all"]["participant_id"]) == everyone
    folds = read_table(tmp_path / "folds.tsv")
    assert set(folds["participant_id"]) == everyone
    for fold in fold_names(3, 2):
        tested = set(folds.loc[folds["fold"] == fold, "participant_id"])
        assert tested and set(known[fold]["participant_id"]) == everyone - tested
        assert set(known[fold]["response"]) == {0, 1}
    for table in known.values():
        assert list(table) == ["participant_id", "response"]
        assert dict(zip(table["participant_id"], table["response"], strict=True)).items() <= responses.items()


def test_sidecars_say_whose_labels_a_table_holds_and_who_was_left_out(tmp_path):
    tables(tmp_path, cohort(13, 7), left_out=("sub-02",))
    known = deal(tmp_path)
    for name, table in known.items():
        sidecar = read_json(tmp_path / "labels" / f"{name}.json")
        assert sidecar["labels_of"] == sorted(table["participant_id"]) and sidecar["fitted_on"] == []
        assert sidecar["seed"] == 2021
    dealt = read_json(tmp_path / "folds.json")
    assert dealt["labels_of"] == sorted(known["all"]["participant_id"])
    assert dealt["parameters"]["left_out"] == ["sub-02 (sub-02_task-rest: moved)"]


def test_permuting_the_rows_of_the_inputs_changes_no_file(tmp_path):
    tables(tmp_path, cohort(13, 7), left_out=("sub-02",))
    first = deal(tmp_path)
    folds = (tmp_path / "folds.tsv").read_bytes()
    for name in ("labels.tsv", "inclusion.tsv"):
        table = read_table(tmp_path / name)
        write_table(tmp_path / name, table.sample(frac=1, random_state=1))
    second = deal(tmp_path)
    assert (tmp_path / "folds.tsv").read_bytes() == folds
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, second[name])


def test_participants_whose_names_are_numbers_keep_their_zeros(tmp_path):
    responses = {f"{k:03d}": k % 2 for k in range(8)}
    tables(tmp_path, responses)
    assert set(deal(tmp_path, n_folds=2)["all"]["participant_id"]) == set(responses)


def test_who_was_left_out_and_why_is_in_the_error(tmp_path):
    responses = cohort(5, 3)
    tables(tmp_path, responses, left_out=tuple(responses))
    with pytest.raises(InputError, match=r"(?s)no labelled participant has an included scan.*8 problems.*rest: moved"):
        deal(tmp_path)
    tables(tmp_path, responses, left_out=("sub-06", "sub-07", "sub-08"))
    with pytest.raises(InputError, match=r"(?s)one class only.*3 problems.*sub-07_task-rest: moved"):
        deal(tmp_path)
    assert not (tmp_path / "folds.tsv").exists()


def test_a_labelled_participant_without_any_scan_is_left_out_with_that_reason():
    labels = pd.DataFrame({"participant_id": ["sub-01", "sub-02"], "response": [1, 0]})
    inclusion = pd.DataFrame([("s", "sub-01", True, None)], columns=["scan", "participant_id", "included", "reason"])
    responses, left_out = eligible_participants(labels, inclusion)
    assert responses == {"sub-01": 1} and left_out == ["sub-02 (no resting-state scan in the dataset)"]


def test_a_folds_outcomes_are_those_of_its_training_participants_whose_change_is_known(tmp_path):
    responses = cohort(4, 3)
    tables(tmp_path, responses)
    known = read_table(tmp_path / "labels.tsv")
    known.loc[known["participant_id"] == known["participant_id"][2], "pain_change"] = None
    write_table(tmp_path / "labels.tsv", known)
    unknown = known["participant_id"][2]
    names = ["all", "rep-1_fold-01", "rep-1_fold-02"]
    write_folds(
        tmp_path / "labels.tsv",
        tmp_path / "inclusion.tsv",
        tmp_path / "folds.tsv",
        [tmp_path / f"labels/{name}.tsv" for name in names],
        n_folds=2,
        repeats=1,
        seed=1,
        outcome_tables=[tmp_path / f"outcomes/{name}.tsv" for name in names],
    )
    for name in names:
        labelled = read_table(tmp_path / f"labels/{name}.tsv")
        measured = read_table(tmp_path / f"outcomes/{name}.tsv")
        assert list(measured.columns) == ["participant_id", "response", "pain_change"]
        assert set(measured["participant_id"]) == set(labelled["participant_id"]) - {unknown}
        facts = read_json(tmp_path / f"outcomes/{name}.json")
        assert facts["labels_of"] == sorted(measured["participant_id"])
