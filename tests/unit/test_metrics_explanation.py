"""Explanations over folds: planted networks first and stable, shuffled weights not; withheld where the AUC may be chance."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from classifier_cohort import FOLDS
from planted_cohort import PLANTED, write_explained

from restresponse.components.templates import network_templates
from restresponse.errors import InputError
from restresponse.files import read_table
from restresponse.metrics.explanation import (
    alignment,
    fold_separations,
    joined,
    mean_agreement,
    rename,
    separation,
    withheld,
)

_TEXT = ("protocol", "arm", "model", "what", "name", "network", "measure", "withheld")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Two arms explained, of which one may be chance."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("planted")
        patch.chdir(folder)
        cohort, names = write_explained({"asc": (0.9, 0.7, 1.0), "ssc": (0.6, 0.45, 0.75)})
    tables = [read_table(folder / f"results/metrics/explanation/{name}.tsv", _TEXT) for name in ("networks", "summary")]
    return cohort, names, folder / "results/metrics/explanation", *tables


def test_the_planted_networks_come_first_by_every_measure_in_every_fold(planted):
    _, names, _, networks, summary = planted
    for (what, _), part in networks.groupby(["what", "measure"]):
        first = part.sort_values("rank").head(len(PLANTED))
        expected = {str(index + 1) for index in PLANTED} if what == "component" else {names[index] for index in PLANTED}
        assert set(first["name"]) == expected
        assert set(first["network"]) == {names[index] for index in PLANTED}
        assert (first["share_first"] == 1).all() and (first["n_folds"] == len(FOLDS)).all()
        assert (first["separation"] > 5 * first["randomised"].abs()).all()
        rest = part.sort_values("rank").iloc[len(PLANTED) :]
        assert rest["separation"].max() < 0.3 * first["separation"].min()
    own = summary[summary["arm"] == "asc"]
    assert (own["rank_r"] > 0.3).all() and (own["map_r"] > 0.5).all()
    assert (own["gap"] < 1e-3).all()  # of a linear model integrated gradients are exact
    left_out = networks[(networks["what"] == "component") & (networks["measure"] == "left_out")]
    np.testing.assert_allclose(left_out["separation"].sum(), own["whole"].iloc[0], rtol=1e-3)


def test_the_map_is_an_image_in_mni_space_that_is_high_where_the_networks_were_planted(planted):
    cohort, names, folder, _, summary = planted
    image = nib.load(folder / "clean_asc_linear_space-MNI152_desc-attribution_map.nii.gz")
    np.testing.assert_allclose(image.affine, cohort.affine)
    volume = np.asarray(image.dataobj)
    assert not volume[~cohort.mask].any()
    np.testing.assert_allclose(volume.sum(), summary["whole"].iloc[0], rtol=1e-3)
    atlas, templates = network_templates(cohort.mask, cohort.affine)
    inside = {
        name: volume[cohort.mask][values > 0.5 * values.max()].mean()
        for name, values in zip(atlas, templates, strict=True)
    }
    assert set(sorted(inside, key=inside.get)[-2:]) == {names[index] for index in PLANTED}


def test_a_classifier_whose_interval_covers_chance_is_withheld_with_a_sentence(planted):
    _, _, folder, networks, summary = planted
    (sentence,) = summary.loc[summary["arm"] == "ssc", "withheld"]
    assert sentence == (
        "Withheld: the 95% interval of the clean AUC of linear on ssc, 0.60 [0.45, 0.75], covers chance (0.5); "
        "what it looks at would explain noise."
    )
    assert set(networks["arm"]) == {"asc"} and not list(folder.glob("*ssc*"))
    assert summary.loc[summary["arm"] == "asc", "withheld"].isna().all()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.51, 0.9, None), (0.5, 0.9, "covers chance"), (0.1, 0.4, "lies below chance"), (np.nan, np.nan, "no interval")],
)
def test_the_decision_is_by_the_clean_interval_alone(low, high, said):
    rows = [
        ("clean", "asc", "linear", "auc", "mean", 0.6, low, high),
        ("paper", "asc", "linear", "auc", "mean", 0.99, 0.95, 1.0),
        ("clean", "asc", "linear", "auc", "pooled", 0.99, 0.95, 1.0),
    ]
    scores = pd.DataFrame(rows, columns=["protocol", "arm", "model", "metric", "scope", "value", "low", "high"])
    found = withheld(scores, ("clean", "asc", "linear"), 0.95)
    assert found is None if said is None else said in found
    with pytest.raises(InputError, match="have no AUC of linear on rsp under clean"):
        withheld(scores, ("clean", "rsp", "linear"), 0.95)


def test_a_folds_components_take_the_numbers_of_everyones_whatever_their_order_and_sign():
    everyone = np.random.default_rng(0).standard_normal((4, 500))
    order = [2, 0, 3, 1]
    found = alignment(everyone, -everyone[order] + 0.1)
    assert found == {"1": "3", "2": "1", "3": "4", "4": "2"}
    table = pd.DataFrame({"what": ["component", "network"], "name": ["2", "Visual"]})
    rename(table, found, {})
    assert list(table["name"]) == ["1", "Visual"]


def test_what_a_fold_did_not_select_adds_nothing_there_and_a_fold_of_one_group_says_nothing():
    def fold(values, groups):
        rows = [
            (f"sub-{i}", "whole", "whole", measure, 1.0 * i, 0.0)
            for i in range(4)
            for measure in ("decision", "attribution")
        ]
        rows += [
            (f"sub-{i}", "component", name, "left_out", value * i, 0.0)
            for i in range(4)
            for name, value in values.items()
        ]
        table = pd.DataFrame(rows, columns=["participant_id", "what", "name", "measure", "trained", "randomised"])
        return fold_separations(table, pd.Series(groups, index=[f"sub-{i}" for i in range(4)]))

    folds = [fold({"1": 1.0, "2": 0.5}, [0, 0, 1, 1]), fold({"1": 1.0}, [0, 0, 1, 1]), fold({"2": 9.0}, [1, 1, 1, 1])]
    table, facts = joined(folds, {"1": "Visual"})
    table = table.set_index("name")
    assert table["separation"].to_dict() == {"1": 2.0, "2": 0.5}
    assert table["n_folds"].to_dict() == {"1": 2, "2": 1} and facts["n_folds"].iloc[0] == 2
    assert table.loc["1", "network"] == "Visual" and table.loc["1", "auc_lost"] == 0.5


def test_separation_and_agreement_are_what_they_say():
    assert separation(np.array([[1.0], [3.0], [2.0]]), np.array([1, 1, 0])) == 0.0
    assert np.isnan(separation(np.ones((2, 1)), np.array([1, 1]))).all()
    rows = np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])
    assert mean_agreement(rows) == pytest.approx(-1 / 3)
    assert np.isnan(mean_agreement(rows[:1]))
