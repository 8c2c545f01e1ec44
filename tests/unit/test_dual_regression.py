"""Dual regression: planted time courses and maps recovered, and the exact identity behind the selected components."""

import numpy as np
import pytest

from restresponse.dual_regression import (
    restricted_time_courses,
    restriction,
    restrictions,
    spatial_gram,
    spatial_regression,
    temporal_regression,
    z_maps,
)
from restresponse.errors import InputError


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    maps = rng.gamma(1.0, 1.0, (5, 3000))
    courses = rng.standard_normal((80, 5)) * [1, 2, 3, 4, 5]
    courses -= courses.mean(axis=0)
    return maps, courses


def test_planted_time_courses_and_maps_are_recovered_exactly_without_noise(planted):
    maps, courses = planted
    series = courses @ maps
    found = spatial_regression(series + np.arange(80)[:, None], maps)  # a volume's own mean is no network
    assert found == pytest.approx(courses, abs=1e-8)
    raw, residual = temporal_regression(series, found, normalise=False)
    assert raw == pytest.approx(maps, rel=1e-5)
    assert residual.max() == pytest.approx(0, abs=1e-3)


def test_with_normalised_time_courses_a_map_holds_the_amplitude(planted):
    maps, courses = planted
    found, _ = temporal_regression(courses @ maps, courses, normalise=True)
    assert found == pytest.approx(maps * courses.std(axis=0)[:, None], rel=1e-4)


@pytest.mark.parametrize("normalise", [True, False])
def test_maps_refitted_on_selected_components_are_linear_in_the_maps_of_all(planted, normalise):
    maps, courses = planted
    rng = np.random.default_rng(1)
    series = courses @ maps + rng.standard_normal((80, 3000))
    series -= series.mean(axis=0)
    selected = [3, 0]
    everything = spatial_regression(series, maps)
    all_maps, _ = temporal_regression(series, everything, normalise=normalise)
    direct_courses = spatial_regression(series, maps[selected])
    direct_maps, _ = temporal_regression(series, direct_courses, normalise=normalise)
    gram = spatial_gram(maps)
    assert restricted_time_courses(everything, gram, selected) == pytest.approx(direct_courses, abs=1e-9)
    matrix = restriction(everything, gram, selected, normalise=normalise)
    assert matrix @ all_maps == pytest.approx(direct_maps, abs=1e-5)
    covariance = np.cov(everything, rowvar=False)[None]
    assert restrictions(covariance, gram, selected, normalise=normalise)[0] == pytest.approx(matrix, abs=1e-9)
    # The selection of everything changes nothing.
    assert restriction(everything, gram, range(5), normalise=normalise) == pytest.approx(np.eye(5), abs=1e-9)


def test_z_maps_of_noise_have_unit_variance():
    rng = np.random.default_rng(2)
    series = rng.standard_normal((100, 20000))
    series -= series.mean(axis=0)
    courses = rng.standard_normal((100, 4))
    maps, residual = temporal_regression(series, courses)
    assert z_maps(maps, residual, courses, dof=100 - 4 - 1).std() == pytest.approx(1.0, abs=0.02)


def test_dependent_group_maps_and_constant_time_courses_are_refused(planted):
    maps, courses = planted
    with pytest.raises(InputError, match="linearly dependent"):
        spatial_regression(courses @ maps, np.vstack([maps, maps[:1]]))
    courses[:, 2] = 1.0
    with pytest.raises(InputError, match="component 3 has a constant time course"):
        temporal_regression(courses @ maps, courses)
