"""Components: the group test against scipy's, the selection's rules, and the spatial match."""

import numpy as np
import pytest
from scipy import stats

from restresponse.components.match import best_matches, dice, match_tables, one_to_one, spatial_correlation
from restresponse.components.selection import (
    direction_words,
    group_test,
    map_amplitudes,
    max_t_p,
    network_amplitudes,
    select,
)
from restresponse.components.templates import network_templates
from restresponse.dual_regression import spatial_regression, temporal_regression
from restresponse.errors import InputError
from restresponse.grid import brain_mask, grid


def test_group_test_is_welchs_t():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 6)) * 3 + 1000
    response = np.array([1] * 13 + [0] * 7)
    ours = group_test(values, response)
    theirs = stats.ttest_ind(values[:13], values[13:], equal_var=False)
    assert ours["t"] == pytest.approx(theirs.statistic, rel=1e-6)
    assert ours["p"] == pytest.approx(theirs.pvalue, rel=1e-6)
    assert ours["difference"] == pytest.approx(values[:13].mean(0) - values[13:].mean(0))


def test_a_planted_difference_ranks_first_with_its_sign_and_survives_the_family_wise_correction():
    rng = np.random.default_rng(1)
    response = np.array([1] * 13 + [0] * 7)
    values = rng.standard_normal((20, 30))
    values[:, 4] += 4 * response
    values[:, 9] -= 4 * response
    test = group_test(values, response)
    assert set(np.argsort(test["p"])[:2]) == {4, 9}
    assert test["t"][4] > 0 > test["t"][9]
    corrected = max_t_p(values, response, seed=0)
    assert corrected[[4, 9]].max() < 0.05
    assert (corrected >= test["p"] - 0.02).all()


def test_max_t_rejects_noise_as_often_as_it_says():
    rng = np.random.default_rng(2)
    response = np.array([1] * 13 + [0] * 7)
    least = [max_t_p(rng.standard_normal((20, 30)), response, seed=k, permutations=200).min() for k in range(100)]
    assert np.mean(np.array(least) < 0.1) < 0.2  # 0.1 expected, 0.2 is three standard errors above


def test_a_group_of_one_is_refused():
    with pytest.raises(InputError, match="3 responders and 1 non-responders"):
        group_test(np.zeros((4, 2)), np.array([1, 1, 1, 0]))


def test_selection_takes_what_passes_or_the_least_p_alone_and_says_so():
    assert select(np.array([0.5, 0.01, 0.09]), 0.1)[0].tolist() == [1, 2]
    chosen, fallback = select(np.array([0.5, 0.2, 0.9]), 0.1)
    assert (chosen.tolist(), fallback) == ([1], True)
    assert select(np.array([0.5, 0.01, 0.09]), 0.1, np.array([True, False, True]))[0].tolist() == [2]
    with pytest.raises(InputError, match="require_match"):
        select(np.array([0.5]), 0.1, np.array([False]))


def test_amplitude_is_the_mean_of_the_participants_map_inside_the_group_maps_peak():
    group = np.zeros((1, 100))
    group[0, :10], group[0, 10:12] = 3.0, -3.0
    own = np.zeros((1, 100))
    own[0, :10], own[0, 10:12], own[0, 50:] = 2.0, -2.0, 99.0
    assert map_amplitudes(own, group, 2.0) == pytest.approx([2.0])
    with pytest.raises(InputError, match="component 1 has no voxel"):
        map_amplitudes(own, group, 5.0)
    with pytest.raises(InputError, match="component 2 is 0 everywhere"):
        map_amplitudes(np.vstack([own, own]), np.vstack([group, np.zeros_like(group)]), 2.0)


def test_each_network_of_the_embedded_template_matches_itself_one_to_one():
    shape, affine = grid(6)
    mask = brain_mask(6)
    names, templates = network_templates(mask, affine)
    assert mask.shape == shape
    assert len(names) == 8
    order = np.random.default_rng(0).permutation(8)
    noisy = templates[order] + 0.1 * np.random.default_rng(1).standard_normal(templates.shape) * templates.max()
    correlation = spatial_correlation(noisy, templates)
    assert one_to_one(correlation).tolist() == order.tolist()
    assert (dice(noisy, templates, 0.5 * templates.max())[np.arange(8), order] > 0.5).all()


def test_correlation_is_signed_and_zero_for_an_empty_template():
    template = np.eye(3)[:2] + 0
    found = spatial_correlation(-template, np.vstack([template, np.zeros(3)]))
    assert found[0, 0] == pytest.approx(-1)
    assert found[:, 2] == pytest.approx([0, 0])


def test_both_tables_of_the_match_agree_and_a_weak_match_gives_no_name():
    rng = np.random.default_rng(3)
    templates = np.repeat(np.eye(3), 200, axis=1)
    group = np.vstack([templates[2] + 0.1 * rng.standard_normal(600), rng.standard_normal((2, 600))])
    by_component, by_network = match_tables(group, templates, ["a", "b", "c"], threshold=0.5, least=0.15)
    assert by_component["network"] == ["c", None, None]
    assert by_component["match_r"][0] > 0.9 and by_component["match_dice"][0] > 0.95
    assert by_component["best_three"][0].startswith("c (0.9")
    owner = dict(zip(by_network["network"], by_network["component"], strict=True))
    assert owner["c"] == 1 and sorted(owner.values()) == [1, 2, 3]
    assert by_network["best_three"][2].startswith("component 1 (0.9")
    assert by_network["matched"] == [False, False, True]
    # More components than networks: those left over have none, and no network has two.
    more, fewer = match_tables(np.vstack([group, group]), templates, ["a", "b", "c"], threshold=0.5, least=0.15)
    assert np.isfinite(more["match_r"]).sum() == 3 and len(set(fewer["component"])) == 3
    assert more["matched"].count(True) == 1


def test_the_best_three_are_the_greatest_signed_correlations():
    assert best_matches(np.array([[0.1, -0.9, 0.5, 0.3]]), list("wxyz")) == ["y (0.50); z (0.30); w (0.10)"]


def test_amplitude_of_a_network_is_the_factor_it_was_planted_with_whatever_the_scaling_of_the_maps():
    """Twice the network: twice the amplitude and the map of normalised time courses, and no larger map without that."""
    rng = np.random.default_rng(5)
    group = np.repeat(np.eye(4), 300, axis=1)[:3]
    found = {}
    for factor in (1.0, 2.0):
        courses = rng.standard_normal((400, 3)) * [factor, 1, 1]
        series = courses @ group + rng.standard_normal((400, group.shape[1]))
        series -= series.mean(axis=0)
        estimated = spatial_regression(series, group)
        maps, residual = temporal_regression(series, estimated, normalise=True)
        raw, _ = temporal_regression(series, estimated, normalise=False)
        amplitude = network_amplitudes(estimated, residual)
        found[factor] = amplitude[0], map_amplitudes(maps, group, 0.5)[0], map_amplitudes(raw, group, 0.5)[0]
        scaled = network_amplitudes(estimated * 7, residual * 49)
        assert scaled == pytest.approx(amplitude)
    one, two = np.array(found[1.0]), np.array(found[2.0])
    assert two[:2] / one[:2] == pytest.approx([2, 2], rel=0.15)
    assert two[2] / one[2] == pytest.approx(1, rel=0.1)
    with pytest.raises(InputError, match="leave nothing"):
        network_amplitudes(estimated, np.zeros(5))


def test_the_direction_is_said_of_what_was_measured():
    t = np.array([2.0, -1.0, 0.0])
    assert direction_words(t, "map") == ["stronger in responders", "weaker in responders", "no difference"]
    assert direction_words(t, "map", normalise=False)[:2] == ["larger maps in responders", "smaller maps in responders"]
    assert direction_words(t, "time course", normalise=False)[0] == "stronger in responders"
