"""Several numbers of components: which arms and models run at which, what is refused, and the table that compares them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from restresponse.classifier.protocols import check_plan, network_memory
from restresponse.config import validate
from restresponse.errors import InputError
from restresponse.files import read_table, write_array, write_table
from restresponse.metrics.orders import ALIGNED, COLUMNS, aligned, write_orders
from restresponse.plan import Plan
from restresponse.report.scores import order_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path):
    """The shipped config with a list of orders, validated."""

    def make(orders, **arms):
        given = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
        given["group_ica"]["n_components"] = orders
        given["classifier"]["arms"] |= arms
        return validate(given, tmp_path)

    return make


def test_at_further_orders_linear_models_run_and_no_network_that_no_arm_names(config):
    plan = Plan.of(config([30, 2, 45]))
    assert plan.orders == [30, 2, 45]
    further = {name: arm for name, arm in plan.arms.items() if arm.get("order")}
    assert sorted(further) == ["asc_order-2", "asc_order-45", "ssc_order-2", "ssc_order-45"]
    assert all(arm["models"] == ["linear"] for arm in further.values())
    one = Plan.of(config(30))
    trained = [{key for key in part.classifications if key[2] == "voxnet"} for part in (plan, one)]
    assert trained[0] == trained[1]
    assert {plan.order_of(name) for name in one.arms} == {30}


def test_an_arm_that_names_its_order_is_run_at_that_one_alone_networks_too(config):
    arm = {"input": "components", "select": False, "order": 10, "models": ["voxnet", "linear"]}
    made = config([30, 10], few=arm, ssc=None)
    plan = Plan.of(made)
    assert plan.order_of("few") == 10
    assert [name for name in plan.arms if name.startswith("few")] == ["few"]
    assert "asc_order-10" in plan.arms

    class Names:
        def __init__(self, arm):
            self.arm, self.model = arm, "voxnet"

    assert network_memory(made, 43, Names("few")) < network_memory(made, 43, Names("asc"))


def test_an_order_that_the_list_does_not_have_and_numbers_too_large_are_refused(config):
    arm = {"input": "components", "select": False, "order": 12, "models": ["linear"]}
    made = config([30, 10], few=arm)
    with pytest.raises(InputError, match=r"arm few names the order 12; group_ica.n_components has 30, 10: add it"):
        check_plan(Plan.of(made), made)
    with pytest.raises(InputError, match=r"n_components: found 70, more than group_ica.reduction 64"):
        config([30, 70])
    with pytest.raises(InputError, match="n_components"):
        config([30, 30])


def test_without_dual_regression_an_arm_that_refits_is_refused_in_words(tmp_path):
    given = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    given["dual_regression"]["method"] = "gica3"
    with pytest.raises(InputError, match=r"found gica3, but ssc in classifier.arms refit .* maps: subset"):
        validate(given, tmp_path)
    given["classifier"]["arms"]["ssc"]["maps"] = "subset"
    assert validate(given, tmp_path)["dual_regression"]["method"] == "gica3"


def test_the_table_has_each_orders_stability_matches_and_scores(tmp_path):
    files = {"components": [], "matches": [], "maps": []}
    for order, stability in ((3, [1.0, 0.95, 0.5]), (2, [0.99, 0.98])):
        files["components"].append(tmp_path / f"components-{order}.tsv")
        files["matches"].append(tmp_path / f"matches-{order}.tsv")
        files["maps"].append(tmp_path / f"components-{order}.npy")
        index = np.arange(1, order + 1)
        write_table(
            files["components"][-1],
            pd.DataFrame({"component": index, "stability": stability, "explained_variance": 0.1}),
        )
        write_table(
            files["matches"][-1],
            pd.DataFrame({"component": index, "network": ["a"] + [None] * (order - 1), "match_r": [0.6] + [0.1] * (order - 1), "matched": [True] + [False] * (order - 1)}),
        )  # fmt: skip
    scores = [("clean", arm, "linear", metric, scope, value, 0.4, 0.9, 43)
              for arm, value in (("asc", 0.6), ("asc_order-2", 0.7), ("rsp", 0.5))
              for metric, scope in (("auc", "mean"), ("auc", "pooled"), ("f1", "pooled"))]  # fmt: skip
    scores.append(("clean", "asc", "constant", "auc", "mean", 0.5, 0.5, 0.5, 43))
    names = ["protocol", "arm", "model", "metric", "scope", "value", "low", "high", "n"]
    write_table(tmp_path / "metrics.tsv", pd.DataFrame(scores, columns=names))
    arms, table = {"asc": 3, "asc_order-2": 2}, tmp_path / "orders.tsv"
    study = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    for path, rows in zip(files["maps"], (study, [-study[2] + 0.5 * study[1], study[0]]), strict=True):
        write_array(path, np.asarray(rows))
    common = {"metrics": tmp_path / "metrics.tsv", "orders": [3, 2], "alignment": tmp_path / "order_alignment.tsv"}
    write_orders(**files, **common, arms=arms, table=table)
    found = read_table(table, text_columns=("protocol", "arm", "model"))
    assert list(found) == list(COLUMNS)
    assert found[["order", "arm", "auc", "n_stable", "n_matched", "mean_match_r"]].to_numpy().tolist() == [
        [3, "asc", 0.6, 2, 1, 0.6],
        [2, "asc_order-2", 0.7, 2, 1, 0.6],
    ]
    assert found["least_stability"].tolist() == [0.5, 0.98]
    also = read_table(common["alignment"], text_columns=("network", "study_network"))
    assert list(also) == list(ALIGNED)
    assert also[["order", "component", "study_component"]].to_numpy().tolist() == [[2, 1, 3], [2, 2, 1]]
    assert also["network"].tolist()[0] == also["study_network"].tolist()[1] == "a"
    np.testing.assert_allclose(also["r"], [-2 / np.sqrt(5), 1], atol=0.05)
    higher = aligned(
        [2, 3], files["maps"][::-1], files["matches"][::-1]
    )  # a third component is none of the study's two
    assert higher["study_component"].fillna(0).tolist() == [2, 0, 1] and higher["r"].isna().tolist() == [
        False,
        True,
        False,
    ]
    write_orders(**files, **common, arms={"asc": 3}, table=table)
    rows = order_rows(read_table(table, text_columns=("protocol", "arm", "model")))
    assert (rows[1]["order"], rows[1]["arm"], rows[1]["auc"]) == (2, None, None)
