"""Group PCA of a large cohort: the tree and the passes give what all inner products give, and say how far they can be off."""

from pathlib import Path

import numpy as np
import pytest
from merged_cohort import FOLDS, exact, lay_out, merged, run_passes

from restresponse.batches import batches_of
from restresponse.errors import InputError
from restresponse.files import read_array, read_json
from restresponse.group_ica.krylov import multiply, next_block, ritz_pairs
from restresponse.group_ica.layout import Layout
from restresponse.group_ica.merge import merge_rows
from restresponse.group_ica.reduction import reduce_series, variance_normalise

N_COMPONENTS = 8
FOLD = "rep-1_fold-01"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reduced_cohort(n_participants=14, n_dimensions=20, n_voxels=1500, noise=2.0, seed=0):
    """Reduced maps of made-up participants with eight networks in common: eigenvalues fall off slowly behind them."""
    rng = np.random.default_rng(seed)
    networks = rng.gamma(0.3, 1.0, (N_COMPONENTS, n_voxels)) * np.linspace(1.6, 0.8, N_COMPONENTS)[:, None]
    reduced = {}
    for index in range(n_participants):
        signal = rng.standard_normal((50, N_COMPONENTS)) @ (networks + 0.2 * rng.standard_normal(networks.shape))
        series, _ = variance_normalise((signal + noise * rng.standard_normal((50, n_voxels))).astype(np.float32))
        reduced[f"sub-{index:02d}"] = reduce_series(series, n_dimensions - index % 3)[0]
    return reduced


def least_cosine(first, second):
    first, second = (np.linalg.qr(maps.T)[0] for maps in (first, second))
    return np.linalg.svd(first.T @ second, compute_uv=False).min()


@pytest.mark.parametrize(("batch", "limit"), [(2, 5), (3, 3), (1, 1)])
def test_both_paths_give_the_same_subspace_and_eigenvalues_to_a_millionth(batch, limit):
    layout = lay_out(reduced_cohort(), batch=batch, exact_limit=limit)
    run_passes(layout)
    found, wanted = merged(layout, N_COMPONENTS), exact(layout, N_COMPONENTS)
    assert 1 - least_cosine(found.maps, wanted.maps) < 1e-6
    assert found.eigenvalues == pytest.approx(wanted.eigenvalues, rel=1e-6)
    assert (found.maps**2).sum(axis=1) == pytest.approx(found.eigenvalues, rel=1e-6)
    assert found.total_variance == pytest.approx(wanted.total_variance, rel=1e-9)
    assert (found.n_dimensions, found.fitted_on) == (wanted.n_dimensions, wanted.fitted_on)
    assert (found.facts["group_pca"], wanted.facts["group_pca"]) == ("merged", "exact")


def test_the_certificate_bounds_the_error_of_every_pass_and_falls_until_rounding():
    reduced = list(reduced_cohort(noise=4.0).values())
    stacked = np.vstack(reduced).astype(float)
    _, singular, true = np.linalg.svd(stacked, full_matrices=False)
    block = merge_rows(reduced, 16)
    blocks, products, bounds = [block / np.linalg.norm(block, axis=1, keepdims=True)], [], []
    for _ in range(7):
        product, _, _ = multiply(blocks[-1].astype(float), reduced)
        products.append(product.astype(np.float32))
        pairs = ritz_pairs(blocks, products, N_COMPONENTS)
        error = 1 - least_cosine(pairs.maps, true[:N_COMPONENTS])
        wrong = np.max(np.abs(pairs.eigenvalues / singular[:N_COMPONENTS] ** 2 - 1))
        assert error <= 1.05 * pairs.subspace + 1e-13
        assert wrong <= 1.05 * pairs.accuracy + 1e-7
        bounds.append(pairs.subspace)
        blocks.append(next_block(product, blocks))
    assert bounds[0] > 1e-4
    assert bounds[-1] < 1e-9


def test_too_few_passes_are_an_error_that_names_the_number_to_raise():
    layout = lay_out(reduced_cohort(noise=4.0), batch=2, exact_limit=4, passes=1)
    run_passes(layout)
    with pytest.raises(InputError, match=r"after 1 passes .* expected 1e-06: raise group_ica.passes to 3"):
        merged(layout, N_COMPONENTS)


def test_equal_eigenvalues_on_both_sides_of_the_last_are_an_error_that_does_not_ask_for_passes():
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.standard_normal((400, 24)))[0].T * np.array([9.0] * 4 + [5.0] * 10 + [1.0] * 10)[:, None]
    reduced = {f"sub-{index:02d}": rows[index::6].astype(np.float32) for index in range(6)}
    layout = lay_out(reduced, batch=1, exact_limit=2)
    run_passes(layout)
    with pytest.raises(InputError, match=r"eigenvalues 8 and 9 are too close; lower or raise group_ica.n_components"):
        merged(layout, N_COMPONENTS)
    assert merged(layout, 4).eigenvalues == pytest.approx([81.0] * 4, rel=1e-6)


def test_a_cohort_smaller_than_a_node_is_exact_and_more_components_than_its_rank_are_an_error():
    rng = np.random.default_rng(0)
    reduced = {f"sub-{index:02d}": rng.standard_normal((2, 300)).astype(np.float32) for index in range(3)}
    layout = lay_out(reduced, batch=1, exact_limit=1, passes=2)
    run_passes(layout)
    singular = np.linalg.svd(np.vstack(list(reduced.values())).astype(float), compute_uv=False)
    assert merged(layout, 6).eigenvalues == pytest.approx(singular**2, rel=1e-6)
    with pytest.raises(InputError, match=r"group_ica.n_components is 7, but .* rank 6; set it to 6"):
        merged(layout, 7)


def test_a_fold_takes_nothing_from_its_test_participants():
    Path(FOLDS).parent.mkdir(parents=True)
    Path(FOLDS).write_text(f"repeat\tfold\tparticipant_id\n1\t{FOLD}\tsub-03\n1\t{FOLD}\tsub-04\n1\t{FOLD}\tsub-05\n")
    reduced = reduced_cohort(n_participants=9)
    layout = lay_out(reduced, batch=1, exact_limit=3)
    run_passes(layout, FOLD)
    before = merged(layout, N_COMPONENTS, FOLD)
    rng = np.random.default_rng(1)
    for index, name in enumerate(("sub-03", "sub-04", "sub-05")):
        reduced[name] = rng.standard_normal((7 + index, 1500)).astype(np.float32)
    lay_out(reduced, batch=1, exact_limit=3)
    run_passes(layout, FOLD)
    after = merged(layout, N_COMPONENTS, FOLD)
    assert np.array_equal(before.maps, after.maps)
    assert after.fitted_on == ["sub-00", "sub-01", "sub-02", "sub-06", "sub-07", "sub-08"]
    assert exact(layout, N_COMPONENTS, FOLD).eigenvalues == pytest.approx(after.eigenvalues, rel=1e-6)
    # A part all of whose participants are tested is empty; who is in a node is what was taken, not what was offered.
    assert read_json(f"results/group_ica/{FOLD}/merged/part-02.json")["fitted_on"] == []
    assert read_array(f"results/group_ica/{FOLD}/merged/part-02.npy").shape == (0, 1500)


@pytest.mark.parametrize("path", [merged, exact])
def test_participants_with_the_same_scan_are_an_error_that_names_them(path):
    reduced = reduced_cohort(n_participants=5)
    layout = lay_out(reduced | {"sub-04": reduced["sub-01"]}, batch=2, exact_limit=2, passes=1)
    run_passes(layout)
    with pytest.raises(InputError, match=r"sub-01 and sub-04 have the same scan; .*dataset.set_aside"):
        path(layout, N_COMPONENTS)


def test_participants_without_an_included_scan_are_passed_over_and_one_alone_is_an_error():
    reduced = reduced_cohort(n_participants=3) | {"sub-03": np.zeros((0, 1500), np.float32)}
    layout = lay_out(reduced, batch=2, exact_limit=2)
    run_passes(layout)
    assert merged(layout, N_COMPONENTS).fitted_on == ["sub-00", "sub-01", "sub-02"]
    alone = {name: maps if name == "sub-00" else maps[:0] for name, maps in reduced.items()}
    layout = lay_out(alone, batch=2, exact_limit=2)
    with pytest.raises(InputError, match=r"group ICA of all: 1 participant\(s\).*at least 2.*inclusion.tsv"):
        run_passes(layout)


def test_a_merge_never_holds_more_than_its_rows_and_one_more_block():
    held, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal held
            held -= len(self) if self.base is None else 0

    def blocks():
        nonlocal held, most
        for index in range(40):
            array = np.random.default_rng(index).standard_normal((8, 100))
            counted = Counted(array.shape)
            counted[:] = array
            held += 8
            most = max(most, held)
            yield counted

    assert merge_rows(blocks(), 16).shape == (16, 100)
    assert most <= 2 * 16 + 8


@pytest.mark.parametrize(("n_participants", "batch", "limit"), [(10000, 64, 150), (200, 16, 150), (151, 16, 150)])
def test_every_participant_is_below_one_part_and_the_top_has_at_most_eight_nodes(n_participants, batch, limit):
    names = [f"sub-{index:05d}" for index in range(n_participants)]
    layout = Layout.of(batches_of(names, batch), {"exact_limit": limit, "passes": 6})
    below = [name for part in layout.parts for name in layout.participants_of(part)]
    assert sorted(below) == names
    assert max(len(layout.participants_of(part)) for part in layout.parts) <= limit
    assert [name for node in layout.top for name in layout.participants_of(node)] == below
    assert 1 < len(layout.top) <= 8
    assert not layout.tiles


def test_up_to_the_limit_the_components_are_made_from_inner_products_and_above_it_from_passes():
    batches = batches_of([f"sub-{index:02d}" for index in range(10)], 4)
    below, above = (Layout.of(batches, {"exact_limit": limit, "passes": 2}) for limit in (10, 9))
    assert below.inputs("reduced", FOLD) == [f"results/group_ica/participants/batch-0{n}" for n in (1, 2, 3)]
    assert len(below.inputs("tiles", FOLD)) == 6
    assert below.inputs("blocks", FOLD) == below.inputs("products", FOLD) == list(below.records(FOLD)) == []
    assert above.inputs("reduced", FOLD) == above.inputs("tiles", FOLD) == []
    assert above.inputs("blocks", FOLD) == [f"results/group_ica/{FOLD}/pass-{n}/next.npy" for n in (0, 1)]
    assert above.inputs("products", FOLD) == [f"results/group_ica/{FOLD}/pass-{n}/product.npy" for n in (1, 2)]
