"""GICA1 and GICA3: the identities that define them, and both through the files of a job."""

import numpy as np
import pytest

from restresponse.dual_regression import read_time_courses, read_z_maps, regress_batch
from restresponse.errors import InputError
from restresponse.files import read_array, read_json, write_array, write_image, write_json, write_table
from restresponse.group_ica.fastica import decompose
from restresponse.group_ica.group_pca import leading_eigenpairs, principal_maps
from restresponse.group_ica.reconstruction import gica1, gica3
from restresponse.group_ica.reduction import reduce_series, variance_normalise

SHAPE, N_NETWORKS, N_SCANS = (10, 20, 20), 5, 50
N_VOXELS = int(np.prod(SHAPE))


def group(n_participants=6, noise=0.5, n_dimensions=12):
    """Series of some participants, their reduced maps, the group's sources and what GICA3 needs of it."""
    rng = np.random.default_rng(0)
    networks = rng.gamma(4.0, 0.5, (N_NETWORKS, N_VOXELS)) * (rng.random((N_NETWORKS, N_VOXELS)) < 0.15)
    series = [
        (rng.standard_normal((N_SCANS, N_NETWORKS)) @ networks + noise * rng.standard_normal((N_SCANS, N_VOXELS)) + 9)
        .astype(np.float32) for _ in range(n_participants)
    ]  # fmt: skip
    reduced = [reduce_series(variance_normalise(one)[0], n_dimensions)[0] for one in series]
    stack = np.vstack(reduced).astype(float)
    eigenvalues, vectors = leading_eigenpairs(stack @ stack.T, N_NETWORKS)
    return series, reduced, decompose(principal_maps(vectors, reduced), seed=0, restarts=4), eigenvalues


@pytest.fixture(scope="module")
def fitted():
    """The group, made once."""
    return group()


def test_the_mean_of_the_gica3_maps_is_the_group_map_to_a_millionth(fitted):
    _, reduced, found, eigenvalues = fitted
    maps = [gica3(y, found.sources, found.mixing, eigenvalues, len(reduced))[1] for y in reduced]
    assert np.mean(maps, axis=0) == pytest.approx(found.sources, abs=1e-6)
    assert np.abs(maps[0] - found.sources).max() > 0.1  # each is a participant's own


def test_gica1_is_least_squares_on_projections_of_the_group_maps(fitted):
    _, reduced, found, _ = fitted
    weights, maps = gica1(reduced[0], found.sources)
    y = reduced[0].astype(float)
    assert weights == pytest.approx(found.sources @ y.T / N_VOXELS, abs=1e-12)
    assert maps == pytest.approx(np.linalg.lstsq(weights.T, y, rcond=None)[0], abs=1e-8)
    # Where the group maps are orthogonal and hold all there is, projection and regression are one: the maps come back.
    orthogonal = np.linalg.qr(found.sources.T)[0].T * np.sqrt(N_VOXELS)
    mixing = np.random.default_rng(1).standard_normal((8, N_NETWORKS))
    weights, maps = gica1((mixing @ orthogonal).astype(np.float64), orthogonal)
    assert weights == pytest.approx(mixing.T, abs=1e-9)
    assert maps == pytest.approx(orthogonal, abs=1e-9)


@pytest.fixture
def job(tmp_path, fitted, monkeypatch):
    """The files of a cohort, and its maps by a method: `job(method, …)` is the folder of the batch."""
    monkeypatch.chdir(tmp_path)
    series, _, found, eigenvalues = fitted
    names = [f"sub-{index}" for index in range(len(series))]
    for name, one in zip(names, series, strict=True):
        write_image(f"{name}.nii", one.T.reshape(*SHAPE, N_SCANS), np.eye(4))
        write_json(f"measures/{name}.json", {"dof_residual": N_SCANS - 1})
    return run_jobs(names, found.sources, {"fitted_on": names, "mixing": found.mixing, "eigenvalues": eigenvalues})


def run_jobs(names, components, facts):
    import pandas as pd

    write_image("mask.nii", np.ones(SHAPE, np.uint8), np.eye(4))
    write_table("inclusion.tsv", pd.DataFrame({"scan": names, "participant_id": names, "included": True, "reason": ""}))
    write_array("components.npy", components.astype(np.float32))
    write_json("components.json", facts)

    def run(method, **settings):
        regress_batch(
            bold={name: {name: f"{name}.nii"} for name in names}, measures="measures", mask="mask.nii",
            inclusion="inclusion.tsv", components="components.npy", component_facts="components.json",
            folder=method, method=method, normalise_time_courses=True, **settings,
        )  # fmt: skip
        return method

    return run


def test_through_the_files_the_mean_of_the_gica3_maps_is_the_group_map(job, fitted):
    folder = job("gica3", reduction=12)
    maps = np.mean([read_array(f"{folder}/sub-{index}_maps.npy") for index in range(6)], axis=0)
    assert maps == pytest.approx(fitted[2].sources, abs=1e-5)  # components are stored in float32
    courses = read_time_courses(f"{folder}/sub-0_timecourses.tsv")
    assert courses.shape == (N_SCANS, N_NETWORKS)
    with pytest.raises(InputError, match=r"GICA3's, which has no standard errors; expected dual_regression\.method"):
        read_z_maps(folder, "sub-0")


def test_gica1_and_dual_regression_find_the_same_networks_of_a_participant(job, fitted):
    folders = [job(method, reduction=12) for method in ("gica1", "dual_regression")]
    by_method = [read_array(f"{folder}/sub-0_maps.npy") for folder in folders]
    courses = [read_time_courses(f"{folder}/sub-0_timecourses.tsv") for folder in folders]
    for index in range(N_NETWORKS):
        assert np.corrcoef(by_method[0][index], by_method[1][index])[0, 1] > 0.9
        assert np.corrcoef(courses[0][:, index], courses[1][:, index])[0, 1] > 0.9
    assert [read_json(f"{folder}/sub-0_maps.json")["parameters"]["method"] for folder in folders] == folders


def test_z_maps_of_noise_have_unit_variance_with_the_degrees_of_freedom_on_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    # A denoising that takes out twelve regressors and the mean leaves 27 of 40 degrees of freedom, and the maps five fewer.
    regressors = np.linalg.qr(np.column_stack([np.ones(40), rng.standard_normal((40, 12))]))[0]
    noise = rng.standard_normal((40, N_VOXELS))
    noise -= regressors @ (regressors.T @ noise)
    write_image("sub-0.nii", (noise.T.reshape(*SHAPE, 40) + 5).astype(np.float32), np.eye(4))
    write_json("measures/sub-0.json", {"dof_residual": 27})
    run = run_jobs(["sub-0"], rng.gamma(0.3, 1.0, (N_NETWORKS, N_VOXELS)), {"fitted_on": ["sub-1"]})
    z = read_z_maps(run("dual_regression"), "sub-0")
    assert read_json("dual_regression/sub-0_maps.json")["dof_residual"] == 22
    # t with 22 degrees of freedom has a variance of 22 / 20; with 40 - 5 - 1 degrees z would be too large by a quarter.
    assert z.std() == pytest.approx(np.sqrt(22 / 20), rel=0.03)
