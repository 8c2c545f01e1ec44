"""Group maps: nilearn's t and p, a planted difference, the family-wise error of noise, and what is written."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from fabricated_cohort import FAILED, ORDER, UNLABELLED
from scipy import stats

from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_array, write_image, write_table
from restresponse.metrics.group_maps import (
    COLUMNS,
    exceedances,
    map_correlations,
    permuted_contrasts,
    t_of,
    write_group_maps,
)

RESPONSE = np.array([1] * 11 + [0] * 7)


def test_t_is_the_two_sample_t_and_p_that_of_nilearns_permuted_ols():
    from nilearn.mass_univariate import permuted_ols

    rng = np.random.default_rng(0)
    maps = rng.standard_normal((18, 400)) + 50
    maps[:11, :5] += 1.6
    correlation, largest = map_correlations(list(maps), permuted_contrasts(RESPONSE, 2000, seed=1))
    t, p = t_of(correlation, 18), exceedances(correlation, largest)
    expected = stats.ttest_ind(maps[:11], maps[11:])
    assert t == pytest.approx(expected.statistic, abs=1e-3)
    theirs = permuted_ols(RESPONSE[:, None].astype(float), maps, n_perm=2000, random_state=3, output_type="dict")
    assert t == pytest.approx(theirs["t"][0], abs=1e-3)
    assert np.abs(p - 10 ** -theirs["logp_max_t"][0]).max() < 0.05  # 3.2 standard errors of the difference at p = 0.5
    assert p.min() < 0.05 and p[np.argmax(np.abs(t))] == p.min()


def test_blocks_of_voxels_change_nothing_and_a_flat_voxel_has_no_difference(monkeypatch):
    maps = np.random.default_rng(1).standard_normal((18, 100)).astype(np.float32)
    maps[:, 7] = 3.0
    contrasts = permuted_contrasts(RESPONSE, 50, seed=1)
    whole = map_correlations(list(maps), contrasts)
    monkeypatch.setattr("restresponse.metrics.group_maps._BLOCK", 13)
    parts = map_correlations(list(maps), contrasts)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert whole[0][7] == 0


def test_noise_is_called_a_difference_as_often_as_the_level_says():
    found = []
    for seed in range(200):
        maps = np.random.default_rng([9, seed]).standard_normal((18, 60))
        correlation, largest = map_correlations(list(maps), permuted_contrasts(RESPONSE, 99, seed))
        found.append(exceedances(correlation, largest).min() <= 0.1)
    assert 0.04 < np.mean(found) < 0.165  # 0.1 and three standard errors


def test_p_counts_the_draw_that_is_observed_and_needs_permutations():
    largest = np.array([0.5, 0.1, 0.2, 0.5, 0.9])
    assert exceedances(np.array([0.5, -0.9, 0.95, 0.0]), largest) == pytest.approx([0.6, 0.4, 0.2, 1.0])
    assert np.isnan(exceedances(np.array([0.5]), largest[:1])).all()


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Maps of two components of 18 people, the second stronger in responders in the first 20 voxels."""
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((5, 6, 4), bool)
    mask[1:4] = True
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -10
    write_image("mask.nii.gz", mask, affine)
    names = [f"sub-{number:02d}" for number in range(20)]
    rng = np.random.default_rng(4)
    for number, name in enumerate(names):
        maps = rng.standard_normal((2, mask.sum())).astype(np.float32)
        maps[1, :20] += 4 * (number < 11)
        write_array(f"{name}.npy", maps if name != "sub-19" else maps[:0])
    write_table("labels.tsv", pd.DataFrame({"participant_id": names[:18], "response": RESPONSE}))
    values = pd.DataFrame({"participant_id": names[:19], "component_01": 1.0, "component_02": 2.0})
    write_table("amplitudes.tsv", values)
    write_table("variability.tsv", values.assign(component_02=3.0))
    return {
        "maps": {name: f"{name}.npy" for name in names},
        "labels": "labels.tsv",
        "mask": "mask.nii.gz",
        "amplitudes": "amplitudes.tsv",
        "variability": "variability.tsv",
        "permutations": 199,
        "normalise": True,
        "seed": 1,
        "image": "t.nii.gz",
        "p_image": "p.nii.gz",
        "voxelwise": "voxelwise.tsv",
        "groups": "groups.tsv",
        "sidecar": "facts.json",
    }


def test_a_planted_difference_is_found_where_it_is_with_its_direction(cohort):
    write_group_maps(**cohort)
    table = read_table("voxelwise.tsv", text_columns=("direction",))
    assert tuple(table.columns) == COLUMNS
    row = table.iloc[1]
    assert row["p_maxt"] == row["p_maxt_all"] == pytest.approx(1 / 200)
    assert (row["n_stronger"], row["n_weaker"], row["direction"]) == (20, 0, "stronger in responders")
    image = nib.load("t.nii.gz")
    t, logs = image.get_fdata(), nib.load("p.nii.gz").get_fdata()
    peak = np.unravel_index(np.argmax(np.abs(t[..., 1])), t.shape[:3])
    assert image.affine[:3, :3] @ peak + image.affine[:3, 3] == pytest.approx(row[["x", "y", "z"]].to_numpy(float))
    assert t[(*peak, 1)] == pytest.approx(row["peak_t"], rel=1e-5)
    assert (logs[..., 1] > -np.log10(0.05)).sum() == 20
    assert logs[0].max() == 0  # outside the mask
    groups = read_table("groups.tsv")
    assert len(groups) == 36 and set(groups.loc[groups["component"] == 2, "time_course"]) == {3.0}
    assert groups.groupby("component")["response"].sum().tolist() == [11, 11]
    facts = read_json("facts.json")
    assert len(facts["labels_of"]) == 18 and "report alone" in facts["descriptive"]


def test_without_permutations_there_is_t_and_no_p(cohort):
    write_group_maps(**cohort | {"permutations": 0})
    table = read_table("voxelwise.tsv", text_columns=("direction",))
    assert table["p_maxt"].isna().all() and table["peak_t"].notna().all()
    assert (table["n_stronger"] == 0).all()


def test_one_group_of_one_and_maps_of_another_mask_are_refused(cohort):
    few = read_table("labels.tsv").iloc[:12]
    write_table("labels.tsv", few)
    with pytest.raises(InputError, match="11 responders and 1 non-responders"):
        write_group_maps(**cohort)
    write_table("labels.tsv", pd.DataFrame({"participant_id": list(cohort["maps"])[:18], "response": RESPONSE}))
    write_image("mask.nii.gz", np.ones((5, 6, 4), bool), np.eye(4))
    with pytest.raises(InputError, match=r"72 voxels.*120"):
        write_group_maps(**cohort)


def test_in_a_whole_results_folder_they_are_of_the_labelled_and_included(tree):
    folder = Path(f"results/metrics/group_maps/order-{ORDER}")
    facts = read_json(folder / "group_maps.json")
    assert len(facts["labels_of"]) == 12 and not {FAILED, UNLABELLED} & set(facts["labels_of"])
    assert len(read_table(folder / "voxelwise.tsv", text_columns=("direction",))) == ORDER
