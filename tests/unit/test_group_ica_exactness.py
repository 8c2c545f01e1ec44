"""Group ICA is exact and does not depend on order, batches or workers; both algorithms; what it refuses, and in which words."""

from concurrent.futures import ProcessPoolExecutor
from itertools import combinations_with_replacement

import numpy as np
import pytest

from restresponse.batches import batches_of, files_of
from restresponse.errors import InputError
from restresponse.files import write_array, write_image, write_table
from restresponse.group_ica.cohort import exact_pca
from restresponse.group_ica.fastica import assigned, decompose
from restresponse.group_ica.group_pca import compute_tile
from restresponse.group_ica.reduction import reduce_batch, reduce_series, variance_normalise

N_COMPONENTS, N_VOXELS, N_SCANS = 30, 2500, 20


def series_of(n_participants, seed=0):
    """Normalised series of some participants with thirty networks in common."""
    rng = np.random.default_rng(seed)
    networks = rng.gamma(4.0, 0.5, (N_COMPONENTS, N_VOXELS)) * (rng.random((N_COMPONENTS, N_VOXELS)) < 0.1)
    networks *= np.linspace(2.0, 1.0, N_COMPONENTS)[:, None]
    return [
        variance_normalise((rng.standard_normal((N_SCANS, N_COMPONENTS)) @ networks
         + 0.3 * rng.standard_normal((N_SCANS, N_VOXELS)) + 50).astype(np.float32))[0]
        for _ in range(n_participants)
    ]  # fmt: skip


def tile_of(job):
    """A tile, in the worker that this is called in."""
    first, second, path = job
    compute_tile(first=first, second=second, tile=path)


def group_pca(folder, reduced, batch, workers=1, n_components=N_COMPONENTS):
    """The group PCA of reduced maps (participant -> array) in batches of a size, their tiles computed by some workers."""
    batches = batches_of(list(reduced), batch)
    paths = files_of([str(folder)] * len(batches), batches, "_reduced.npy")
    for name, path in paths.items():
        write_array(path, reduced[name])
    tiles = {pair: str(folder / "_".join(pair)) + ".npy" for pair in combinations_with_replacement(batches, 2)}
    jobs = [([paths[n] for n in batches[a]], [paths[n] for n in batches[b]], tile) for (a, b), tile in tiles.items()]
    if workers == 1:
        list(map(tile_of, jobs))
    else:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(tile_of, jobs))
    return exact_pca(cohort="all", reduced=paths, tiles=tiles, members=batches, folds=None, n_components=n_components)


def test_at_full_rank_subspace_and_eigenvalues_are_those_of_scikit_learns_full_pca(tmp_path):
    from sklearn.decomposition import PCA

    series = series_of(4)
    reduced = {f"sub-{index}": reduce_series(one, N_SCANS)[0] for index, one in enumerate(series)}
    found = group_pca(tmp_path, reduced, batch=3)
    stacked = np.vstack(series).astype(np.float64)
    wanted = PCA(N_COMPONENTS, svd_solver="full").fit(stacked)
    assert found.n_dimensions == 4 * (N_SCANS - 1)
    assert found.eigenvalues == pytest.approx(wanted.explained_variance_ * (len(stacked) - 1), rel=1e-6)
    basis = found.maps / np.linalg.norm(found.maps, axis=1, keepdims=True)
    assert np.linalg.svd(basis @ wanted.components_.T, compute_uv=False).min() > 1 - 1e-6


def test_scans_in_another_order_other_batches_and_two_workers_change_nothing_beyond_a_hundred_millionth(tmp_path):
    reduced = [reduce_series(one, 12 + index % 3)[0] for index, one in enumerate(series_of(6))]
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    named = {f"sub-{index}": one for index, one in enumerate(reduced)}
    permuted = {f"sub-{index}": reduced[(index * 5 + 2) % 6] for index in range(6)}
    first = group_pca(folders[0], named, batch=3)
    again = group_pca(folders[1], permuted, batch=2)
    workers = group_pca(folders[2], named, batch=3, workers=2)
    assert np.array_equal(first.maps, workers.maps)
    assert again.eigenvalues == pytest.approx(first.eigenvalues, rel=1e-8)
    sources = [decompose(pca.maps, seed=0, restarts=3, tolerance=1e-12).sources for pca in (first, again)]
    assert sources[1] == pytest.approx(sources[0], abs=1e-8 * np.abs(sources[0]).max())


@pytest.fixture
def mixed():
    """Mixed sparse sources, and the sources."""
    rng = np.random.default_rng(1)
    sources = rng.gamma(4.0, 1.0, (8, 6000)) * (np.arange(6000) // 700 == np.arange(8)[:, None])
    sources += 0.02 * rng.standard_normal(sources.shape)
    return rng.standard_normal((8, 8)) @ sources, sources


def test_deflation_finds_the_sources_that_the_symmetric_algorithm_finds(mixed):
    maps, sources = mixed
    one, all_at_once = (
        decompose(maps, seed=0, restarts=4, algorithm=algorithm) for algorithm in ("deflation", "symmetric")
    )
    correlation = np.abs(np.corrcoef(one.sources, sources)[:8, 8:])
    assert correlation.max(axis=0).min() > 0.95  # what one source got wrong, the next ones inherit
    assert (one.sources * all_at_once.sources).mean(axis=1).min() > 0.95  # the same signs and order, too
    assert one.stability.min() > 0.9
    assert one.mixing @ one.sources == pytest.approx(maps, abs=1e-6)


@pytest.mark.parametrize("algorithm", ["deflation", "symmetric"])
def test_without_convergence_either_algorithm_raises(algorithm):
    gaussian = np.random.default_rng(0).standard_normal((6, 5000))
    with pytest.raises(InputError, match=r"FastICA converged in .* lower group_ica.n_components"):
        decompose(gaussian, seed=0, restarts=4, max_iterations=3, algorithm=algorithm)


def test_rows_are_assigned_one_to_one_whatever_their_signs():
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    order = rng.permutation(5)
    assert assigned(rows[order] * [[1], [-1], [1], [-1], [1]], rows).tolist() == order.tolist()


def test_more_components_than_the_scans_hold_names_the_key_and_the_number(tmp_path):
    reduced = {f"sub-{index}": reduce_series(one, 12)[0] for index, one in enumerate(series_of(2))}
    with pytest.raises(
        InputError, match=r"n_components is 30, but .* hold 24 dimensions together; set it to 24 or less"
    ):
        group_pca(tmp_path, reduced, batch=2)


def test_one_scan_is_an_error_that_says_where_the_others_went(tmp_path):
    reduced = {"sub-0": reduce_series(series_of(1)[0], 12)[0], "sub-1": np.zeros((0, N_VOXELS), np.float32)}
    with pytest.raises(InputError, match=r"group ICA of all: 1 participant\(s\).*at least 2.*inclusion.tsv"):
        group_pca(tmp_path, reduced, batch=2, n_components=5)


def test_a_mask_that_does_not_overlap_the_scan_is_an_error_that_names_the_image(tmp_path):
    import pandas as pd

    image = np.zeros((8, 8, 8, 20), np.float32)
    image[:4] = np.random.default_rng(0).standard_normal((4, 8, 8, 20))
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[5:] = 1
    write_image(tmp_path / "run.nii", image, np.eye(4))
    write_image(tmp_path / "mask.nii", mask, np.eye(4))
    row = {"scan": ["run"], "participant_id": ["sub-0"], "included": [True], "reason": [""]}
    write_table(tmp_path / "inclusion.tsv", pd.DataFrame(row))
    with pytest.raises(InputError, match=r"sub-0: every voxel of .*run.nii is constant inside the group mask"):
        reduce_batch(
            bold={"sub-0": {"run": tmp_path / "run.nii"}}, mask=tmp_path / "mask.nii",
            inclusion=tmp_path / "inclusion.tsv", n_dimensions=5, folder=tmp_path / "reduced",
        )  # fmt: skip
