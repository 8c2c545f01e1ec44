"""Group ICA: the reduction's identities, group PCA equal to that of the stacked data, planted sources recovered."""

import numpy as np
import pytest

from restresponse.batches import batches_of
from restresponse.errors import InputError
from restresponse.files import write_image
from restresponse.group_ica import fastica as ica
from restresponse.group_ica.group_pca import (
    compute_tile,
    gram_matrix,
    leading_eigenpairs,
    principal_maps,
)
from restresponse.group_ica.members import cohort_members
from restresponse.group_ica.reduction import participant_series, reduce_series, variance_normalise


@pytest.fixture
def sources():
    """Eight sparse maps of 6000 voxels, nearly disjoint."""
    rng = np.random.default_rng(1)
    maps = np.zeros((8, 6000))
    for index in range(8):
        start = 700 * index
        maps[index, start : start + 500] = rng.gamma(4, 1, 500)
    return maps + 0.02 * rng.standard_normal(maps.shape)


def cohort(sources, n_participants=5, n_scans=60, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"sub-{index:02d}": (
            rng.standard_normal((n_scans, len(sources))) @ sources
            + noise * rng.standard_normal((n_scans, sources.shape[1]))
            + 100
        ).astype(np.float32)
        for index in range(n_participants)
    }


def stack(tmp_path, reduced, size):
    """The tiles of a cohort on disk, as the rules lay them out."""
    tiles = batches_of(list(reduced), size)
    for participant, array in reduced.items():
        np.save(tmp_path / f"{participant}.npy", array)
    paths = {}
    for a in tiles:
        for b in tiles:
            if a <= b:
                paths[a, b] = tmp_path / f"{a}_{b}.npy"
                compute_tile(
                    first=[tmp_path / f"{p}.npy" for p in tiles[a]],
                    second=[tmp_path / f"{p}.npy" for p in tiles[b]],
                    tile=paths[a, b],
                )
    return paths, tiles, {p: len(array) for p, array in reduced.items()}


def test_variance_normalisation_gives_unit_norm_and_counts_constant_voxels():
    series = np.random.default_rng(0).standard_normal((40, 9)).astype(np.float32) * 5 + 1000
    series[:, 3] = 7.0
    series[:, 5] = 0.0
    normalised, n_constant = variance_normalise(series)
    norms = np.linalg.norm(normalised, axis=0)
    assert n_constant == 2
    assert norms[[3, 5]] == pytest.approx([0, 0])
    assert np.delete(norms, [3, 5]) == pytest.approx(np.ones(7), abs=1e-5)


def planted(n_voxels=4000):
    """A network in every twentieth voxel over noise whose spread differs between voxels; series, network, spread."""
    rng = np.random.default_rng(3)
    spread = rng.uniform(0.5, 4.0, n_voxels)
    network = np.where(np.arange(n_voxels) % 20 == 0, 6.0, 0.0)
    series = rng.standard_normal((120, 1)) * network + rng.standard_normal((120, n_voxels)) * spread + 500
    return series.astype(np.float32), network, spread


def test_the_residual_normalisation_scales_by_the_noise_left_after_the_strong_components():
    series, network, spread = planted()
    centred = series - series.mean(axis=0)
    residual, n_constant = variance_normalise(series, "residual")
    factor = np.linalg.norm(residual, axis=0) / np.linalg.norm(centred, axis=0)
    noise = factor * spread * np.sqrt(len(series))  # the noise's norm after scaling
    assert n_constant == 0
    assert noise[network > 0].mean() == pytest.approx(noise[network == 0].mean(), rel=0.05)
    assert noise.std() < 0.1 * noise.mean()
    # Unit norm scales the network's voxels down by their signal too.
    unit = np.linalg.norm(variance_normalise(series)[0], axis=0) / np.linalg.norm(centred, axis=0) * spread
    assert unit[network > 0].mean() < 0.6 * unit[network == 0].mean()


def test_without_normalisation_a_series_is_demeaned_alone_and_constant_voxels_are_counted():
    series, _, _ = planted(50)
    series[:, 7] = 3.0
    for normalisation in ("none", "residual"):
        normalised, n_constant = variance_normalise(series, normalisation)
        assert n_constant == 1
        assert not normalised[:, 7].any()
        assert np.isfinite(normalised).all()
    assert variance_normalise(series, "none")[0] == pytest.approx(series - series.mean(axis=0), abs=1e-3)


def test_two_runs_that_are_the_same_scan_are_an_error_that_names_them(tmp_path):
    series = np.random.default_rng(0).standard_normal((3, 3, 3, 20)).astype(np.float32)
    mask = np.ones((3, 3, 3), bool)
    runs = {}
    for name, data in (("run-1", series), ("run-2", -series), ("run-3", series)):
        runs[name] = tmp_path / f"{name}.nii.gz"
        write_image(runs[name], data, np.eye(4))
    assert participant_series({name: runs[name] for name in ("run-1", "run-2")}, mask)[0].shape == (40, 27)
    with pytest.raises(InputError, match=r"run-1 and run-3 are the same scan; .*set_aside"):
        participant_series(runs, mask)


def test_voxels_with_values_that_are_no_numbers_are_zero_and_counted(tmp_path):
    series = np.random.default_rng(0).standard_normal((3, 3, 3, 20)).astype(np.float32)
    series[0, 0, 0, 4], series[1, 1, 1, 7], series[2, 2, 2] = np.nan, np.inf, 5.0
    write_image(tmp_path / "run.nii.gz", series, np.eye(4))
    found, facts = participant_series({"run": tmp_path / "run.nii.gz"}, np.ones((3, 3, 3), bool))
    assert facts["run"] == {"n_volumes": 20, "n_constant_voxels": 3, "n_not_finite_voxels": 2}
    assert np.flatnonzero(~found.any(axis=0)).tolist() == [0, 13, 26]
    assert np.isfinite(found).all()


def test_the_sum_of_all_eigenvalues_is_the_number_of_varying_voxels(sources):
    series, n_constant = variance_normalise(cohort(sources)["sub-00"])
    _, eigenvalues = reduce_series(series, 10)
    assert eigenvalues.sum() == pytest.approx(sources.shape[1] - n_constant, rel=1e-5)


def test_rows_of_the_reduction_are_orthogonal_with_their_eigenvalue_as_squared_norm(sources):
    series, _ = variance_normalise(cohort(sources)["sub-00"])
    reduced, eigenvalues = reduce_series(series, 10)
    gram = reduced.astype(float) @ reduced.T.astype(float)
    assert gram == pytest.approx(np.diag(eigenvalues[:10]), abs=1e-3 * eigenvalues[0])


def test_a_series_of_low_rank_keeps_its_rank():
    rng = np.random.default_rng(0)
    series, _ = variance_normalise((rng.standard_normal((50, 7)) @ rng.standard_normal((7, 500))).astype(np.float32))
    assert len(reduce_series(series, 20)[0]) == 7


def test_group_pca_from_tiles_equals_the_pca_of_the_stacked_series(tmp_path, sources):
    series = {p: variance_normalise(x)[0] for p, x in cohort(sources).items()}
    reduced = {p: reduce_series(x, 60)[0] for p, x in series.items()}
    gram = gram_matrix(*stack(tmp_path, reduced, size=2), list(series))
    eigenvalues, vectors = leading_eigenpairs(gram, 8)
    maps = principal_maps(vectors, [reduced[p] for p in sorted(reduced)])
    stacked = np.vstack([series[p] for p in sorted(series)]).astype(float)
    _, singular, right = np.linalg.svd(stacked, full_matrices=False)
    assert eigenvalues == pytest.approx(singular[:8] ** 2, rel=1e-5)
    cosines = np.linalg.svd(maps / np.linalg.norm(maps, axis=1, keepdims=True) @ right[:8].T, compute_uv=False)
    assert cosines.min() > 1 - 1e-6


def test_a_cohorts_gram_matrix_knows_none_but_its_own_participants(tmp_path, sources):
    reduced = {p: reduce_series(variance_normalise(x)[0], 20)[0] for p, x in cohort(sources).items()}
    members = ["sub-03", "sub-00", "sub-04"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = gram_matrix(*stack(tmp_path / "a", reduced, size=2), members)
    rng = np.random.default_rng(9)
    for outsider in ("sub-01", "sub-02"):
        reduced[outsider] = rng.standard_normal((11, 6000)).astype(np.float32)
    after = gram_matrix(*stack(tmp_path / "b", reduced, size=2), list(reversed(members)))
    assert np.array_equal(before, after)


def test_more_components_than_dimensions_names_the_number_to_lower():
    with pytest.raises(InputError, match=r"group_ica.n_components is 9.*rank 3.*set it to 3"):
        half = np.random.default_rng(0).standard_normal((20, 3))
        leading_eigenpairs(half @ half.T, 9)


def test_fastica_recovers_planted_sources_with_stability_one(sources):
    mixing = np.random.default_rng(2).standard_normal((8, 8))
    found = ica.decompose(mixing @ sources, seed=0, restarts=10, subsample=3000)
    correlation = np.abs(np.corrcoef(found.sources, sources)[:8, 8:])
    assert correlation.max(axis=0).min() > 0.99
    assert found.stability.min() > 0.95
    assert found.mixing @ found.sources == pytest.approx(mixing @ sources, abs=1e-6)


def test_components_follow_the_conventions(sources):
    found = ica.decompose(np.random.default_rng(2).standard_normal((8, 8)) @ sources, seed=0, restarts=5)
    centred = found.sources - found.sources.mean(axis=1, keepdims=True)
    assert np.sqrt((found.sources**2).mean(axis=1)) == pytest.approx(np.ones(8))
    assert (np.mean(centred**3, axis=1) > 0).all()
    assert (np.diff(found.explained) <= 1e-12).all()


def test_three_seeds_and_flipped_maps_give_the_same_components(sources):
    maps = np.random.default_rng(2).standard_normal((8, 8)) @ sources
    first = ica.decompose(maps, seed=0, restarts=5).sources
    for seed, flip in ((1, 1), (2, -1)):
        again = ica.decompose(maps * np.where(np.arange(8) % 2, 1, flip)[:, None], seed=seed, restarts=5).sources
        assert (first * again).mean(axis=1).min() > 0.9999


def test_sources_that_cannot_be_separated_are_an_error():
    gaussian = np.random.default_rng(0).standard_normal((6, 5000))
    with pytest.raises(InputError, match="FastICA"):
        ica.decompose(gaussian, seed=0, restarts=4, max_iterations=5)


def test_icasso_gives_each_restarts_copy_of_a_row_to_one_cluster():
    rng = np.random.default_rng(0)
    rows = np.eye(5)
    copies = np.vstack([rows[rng.permutation(5)] * rng.choice([-1, 1], (5, 1)) for _ in range(6)])
    centrotypes, stability, sizes = ica.icasso(copies, 5)
    assert np.abs(centrotypes @ centrotypes.T) == pytest.approx(np.eye(5))
    assert sizes.tolist() == [6] * 5
    assert stability == pytest.approx(np.ones(5))


def test_a_folds_cohort_leaves_out_its_test_participants_and_keeps_the_unlabelled(tmp_path):
    table = tmp_path / "folds.tsv"
    table.write_text("repeat\tfold\tparticipant_id\n1\trep-1_fold-01\tsub-01\n1\trep-1_fold-02\tsub-02\n")
    everyone = ["sub-03", "sub-02", "sub-01"]
    assert cohort_members(everyone, "rep-1_fold-01", table) == ["sub-02", "sub-03"]
    assert cohort_members(everyone, "all", None) == ["sub-01", "sub-02", "sub-03"]
    with pytest.raises(InputError, match="rep-1_fold-09"):
        cohort_members(everyone, "rep-1_fold-09", table)
