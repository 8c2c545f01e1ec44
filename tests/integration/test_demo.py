"""The demo cohort end to end: what was planted is found again, and the leak-free protocol is at chance where it must be."""

import numpy as np
import pytest

from restresponse.components.match import spatial_correlation
from restresponse.dual_regression import read_time_courses
from restresponse.files import read_array, read_json, read_table
from restresponse.functional.confounds import MOTION
from restresponse.functional.denoising import denoise, projection
from restresponse.grid import grid, resample
from restresponse.images import read_mask
from restresponse.metrics.explanation import withheld
from restresponse.phantom.truth import read_maps, read_truth
from running import run_snakemake

pytestmark = pytest.mark.slow
ORDER = 12
SCANS = [f"sub-{index:02d}" for index in range(1, 21)]
NETWORK = "results/classifier/{}/{}/voxnet/rep-1_fold-{:02d}"


@pytest.fixture(scope="module")
def components(demo):
    """Group components of everyone, `(12, n_voxels)`."""
    return np.asarray(read_array(demo / f"results/group_ica/all/order-{ORDER}/components.npy"), float)


@pytest.fixture(scope="module")
def matching(demo, components):
    """For each planted network the component that is its own, one-to-one, and their correlation over the brain."""
    from scipy.optimize import linear_sum_assignment

    mask, _ = read_mask(demo / "results/quality/group_mask.nii.gz")
    maps, affine = read_maps(demo / "demo/truth/group_maps.nii.gz")
    shape, target = grid(4)
    planted = np.array([resample(maps[..., k], affine, shape, target)[mask] for k in range(maps.shape[3])])
    correlation = spatial_correlation(planted, components)
    rows, columns = linear_sum_assignment(-np.abs(correlation))
    return columns, correlation[rows, columns]


def test_every_scan_is_used(demo):
    table = read_table(demo / "results/quality/inclusion.tsv", text_columns=("scan", "reason"))
    assert len(table) == 20
    assert table["included"].all(), table


def test_head_motion_is_recovered_in_every_scan(demo):
    for participant in SCANS:
        scan = f"{participant}_task-rest"
        table = read_table(demo / f"results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv", text_columns=())
        truth = read_truth(demo / "demo/truth", participant)
        error = (table[list(MOTION)].to_numpy(float) - truth.motion)[~truth.jerk]
        spread = error.std(axis=0)  # the reference's own position is no motion
        assert spread[:3].max() < 0.1, f"{participant}: {spread[:3]} mm"
        assert np.rad2deg(spread[3:]).max() < 0.1, f"{participant}: {np.rad2deg(spread[3:])} deg"


def test_grey_matter_lies_on_the_templates_in_every_participant(demo):
    dice = [read_json(demo / f"results/anatomical/{p}/{p}.json")["quality"]["grey_matter_dice"] for p in SCANS]
    assert min(dice) > 0.8, dice


def test_each_planted_network_has_a_component_of_its_own(matching):
    _, correlation = matching
    assert len(correlation) == 8
    assert np.abs(correlation).min() >= 0.6, correlation


def test_time_courses_of_dual_regression_are_the_planted_ones_after_the_same_projection(demo, matching):
    columns, _ = matching
    settings = {
        "wm_components": 3,
        "csf_components": 3,
        "motion_parameters": 6,
        "outlier_displacement": 0.9,
        "outlier_global_signal": 5,
        "detrend": True,
        "bandpass_low": 0.008,
        "bandpass_high": 0.09,
        "bandpass": "simultaneous",
    }
    found = []
    for participant in SCANS:
        scan = f"{participant}_task-rest"
        table = read_table(demo / f"results/functional/{scan}/{scan}_desc-confounds_timeseries.tsv", text_columns=())
        planted = denoise(
            read_truth(demo / "demo/truth", participant).time_courses_middle, projection(table, 2.6, settings)
        )
        [courses_table] = (demo / f"results/dual_regression/all/order-{ORDER}/asc").glob(
            f"*/{participant}_timecourses.tsv"
        )
        courses = read_time_courses(courses_table)[:, columns]
        found.append([np.corrcoef(planted[:, k], courses[:, k])[0, 1] for k in range(8)])
    assert np.abs(found).mean(axis=0).min() > 0.8, np.abs(found).mean(axis=0)


def test_the_networks_with_a_planted_effect_rank_first_with_the_planted_sign(demo, matching):
    columns, _ = matching
    table = read_table(
        demo / f"results/components/all/order-{ORDER}/labels-all/components.tsv", text_columns=("network",)
    )
    effects = read_json(demo / "demo/truth/cohort.json")
    names, signs = effects["networks"], effects["effect_signs"]
    expected = {int(columns[names.index(network)]): sign for network, sign in signs.items()}
    first = table.sort_values("p").head(len(expected))
    assert set(first["component"] - 1) == set(expected), table[["component", "network", "t", "p"]]
    for component, sign in expected.items():
        assert np.sign(table.loc[component, "t"]) == sign


def test_the_training_loss_falls_in_every_fold(demo):
    for protocol in ("clean", "paper"):
        for arm in ("asc", "ssc", "rsp"):
            for fold in (1, 2, 3):
                facts = read_json(demo / NETWORK.format(protocol, arm, fold) / "model.json")
                assert facts["training_loss_last"] < facts["training_loss_first"], (protocol, arm, fold)


def test_the_audit_finds_no_violation_and_names_the_papers_leaks(demo):
    audit = read_table(demo / "results/metrics/audit.tsv", text_columns=("protocol", "verdict"))
    assert set(audit["verdict"]) == {"clean", "leak as declared"}
    assert set(audit.loc[audit["protocol"] == "clean", "verdict"]) == {"clean"}
    assert "leak as declared" in set(audit.loc[audit["protocol"] == "paper", "verdict"])


def test_clean_linear_scores_of_permuted_labels_are_at_chance(demo):
    """Labels permuted within folds 200 times, by the run's own jobs: the mean of the mean fold AUCs lies by 0.5."""
    table = read_table(demo / "results/metrics/permutations.tsv", text_columns=("protocol", "arm", "model", "scope"))
    clean = table[(table["protocol"] == "clean") & (table["scope"] == "mean")]
    assert set(clean["arm"]) == {"asc", "ssc"}
    assert (clean["n_permutations"] == 200).all()
    assert clean["null_mean"].between(0.45, 0.55).all(), clean["null_mean"]


def test_a_models_explanation_adds_up_to_its_decisions_and_is_withheld_as_the_demo_is_at_chance(demo):
    """Of one fold by its own job, which the demo leaves out; a linear model's components add up exactly."""
    path = "results/classifier/clean/ssc/linear/rep-1_fold-01/explanation.tsv"
    run_snakemake(demo, path, config=demo / "config" / "demo.yaml")
    table = read_table(demo / path, ("participant_id", "what", "name", "measure"))
    added = table.groupby(["participant_id", "what", "measure"])["trained"].sum().unstack(["what", "measure"])
    np.testing.assert_allclose(added["component", "left_out"], added["whole", "decision"], atol=1e-6)
    np.testing.assert_allclose(added["component", "attribution"], added["whole", "decision"], atol=1e-6)
    scores = read_table(demo / "results/metrics/metrics.tsv", ("protocol", "arm", "model", "metric", "scope"))
    assert "covers chance (0.5)" in withheld(scores, ("clean", "ssc", "linear"), 0.95)


def test_a_second_run_of_the_demo_does_nothing(demo):
    assert "Nothing to be done" in run_snakemake(demo, config=demo / "config" / "demo.yaml").stdout
