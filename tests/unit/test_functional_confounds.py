"""Confounds measure what they are named for; their table can take the place of fMRIPrep's, with its JSON beside it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from noise_scan import TR, noise_scan

from restresponse.engines import warps
from restresponse.engines.motion import matrices_of
from restresponse.errors import InputError
from restresponse.files import read_table, write_json, write_table
from restresponse.functional.confounds import (
    column_facts,
    confounds,
    dvars,
    eroded_tissue_masks,
    framewise_displacement,
    principal_components,
    root_mean_square_displacement,
    slow_cosines,
    volumes_before_steady_state,
)

N_SCANS = 160
MASKS = {"WM": "white matter: eroded", "CSF": "cerebrospinal fluid: eroded"}


@pytest.fixture(scope="module")
def scan():
    """A small scan of noise with white matter and CSF in two corners: image, masks, confounds."""
    image, _, masks, table = noise_scan(N_SCANS)
    return image, masks, table


def test_framewise_displacement_of_a_known_turn_is_its_arc_on_a_sphere_of_50_mm():
    motion = np.zeros((4, 6))
    motion[2:, 4] = np.deg2rad(1)  # one degree about y, held
    motion[3, 0] = -0.3  # then 0.3 mm to the left
    displacement = framewise_displacement(motion)
    assert np.isnan(displacement[0])
    assert displacement[1:] == pytest.approx([0, 50 * np.pi / 180, 0.3])


def test_dvars_of_a_jump_of_one_percent_everywhere_is_ten():
    series = np.full((500, 30), 200.0) + 1e-6 * np.random.default_rng(0).standard_normal((500, 30))
    series[:, 12:] += 2.0
    values, _ = dvars(series)
    assert np.isnan(values[0])
    assert values[12] == pytest.approx(1000 * 2 / 202, rel=1e-3)  # the median is that of the longer part, 202
    assert np.delete(values, [0, 12]).max() < 1e-3


def test_standardised_dvars_of_white_noise_is_one_whatever_the_noise():
    random = np.random.default_rng(1)
    for size in (1.0, 30.0):
        _, standard = dvars(1000 + size * random.standard_normal((3000, 200)))
        assert np.nanmean(standard) == pytest.approx(1, abs=0.02)


def test_components_find_a_tissues_planted_time_courses_without_its_trend():
    random = np.random.default_rng(2)
    planted = np.linalg.qr(np.column_stack([np.ones(120), np.arange(120), random.standard_normal((120, 2))]))[0][:, 2:]
    loadings = random.standard_normal((400, 2)) * [50, 30]
    series = 800 + loadings @ planted.T + np.outer(random.standard_normal(400), np.arange(120))
    series += 0.1 * random.standard_normal(series.shape)
    found = principal_components(series, 2)
    assert np.linalg.svd(found @ planted)[1] == pytest.approx([1, 1], abs=1e-3)  # the same plane
    assert found @ found.T == pytest.approx(np.eye(2), abs=1e-10)
    assert np.all(found[np.arange(2), np.abs(found).argmax(axis=1)] > 0)
    assert found == pytest.approx(principal_components(series[::-1], 2), abs=1e-8)  # the order of voxels is nothing


def test_there_are_no_more_components_than_the_mask_has_rank():
    random = np.random.default_rng(3)
    assert len(principal_components(random.standard_normal((3, 50)), 10)) == 3
    assert len(principal_components(np.outer(random.standard_normal(40), random.standard_normal(50)), 10)) == 1


def test_the_table_has_fmripreps_columns_and_no_first_difference_in_its_first_row(scan):
    table = scan[2]
    for name in ("trans_x", "rot_z"):
        assert np.isnan(table[f"{name}_derivative1"][0])
        assert table[f"{name}_derivative1"][1:].to_numpy() == pytest.approx(np.diff(table[name]))
        assert table[f"{name}_power2"].to_numpy() == pytest.approx(table[name].to_numpy() ** 2)
        assert table[f"{name}_derivative1_power2"][5] == pytest.approx(table[f"{name}_derivative1"][5] ** 2)
    assert table[["framewise_displacement", "dvars", "std_dvars"]].isna().sum().tolist() == [1, 1, 1]
    assert [name for name in table if name.startswith("w_comp_cor")] == [f"w_comp_cor_{k:02d}" for k in range(10)]
    assert "c_comp_cor_09" in table and "global_signal" in table


def test_voxels_that_are_constant_or_not_finite_do_not_reach_the_confounds():
    image, motion, masks, clean = noise_scan(40)
    holes = np.zeros_like(masks["brain"])
    holes[5, 6:8, 3:6] = True  # in the brain, in neither tissue
    spoiled = image.copy()
    spoiled[holes], spoiled[5, 6, 3] = 0, np.nan
    kept = {**masks, "brain": masks["brain"] & ~holes}
    pd.testing.assert_frame_equal(
        confounds(spoiled, np.eye(4), TR, motion, masks), confounds(image, np.eye(4), TR, motion, kept)
    )
    assert clean["global_signal"].notna().all()


def test_tissue_without_signal_and_motion_of_another_length_are_named():
    image, motion, masks, _ = noise_scan(20)
    image[masks["WM"]] = 7
    with pytest.raises(InputError, match="no voxel of the WM mask"):
        confounds(image, np.eye(4), TR, motion, masks)
    with pytest.raises(InputError, match="six motion parameters"):
        confounds(image, np.eye(4), TR, motion[:-1], masks)


def test_tissue_masks_are_eroded_where_that_leaves_enough_and_fall_back_where_it_does_not():
    brain = np.ones((20, 20, 20), bool)
    wm, csf = np.zeros(brain.shape), np.zeros(brain.shape)
    wm[3:11, 3:11, 3:11] = 1
    csf[13:16, 2:18, 14:16] = 0.85  # two voxels thick: erosion leaves nothing
    csf[13, 2:18, 14] = 0.97
    masks = eroded_tissue_masks(1 - wm - csf, wm, csf, brain)
    assert masks["WM"].sum() == 6**3 and not masks["WM"][3].any()
    assert masks["CSF"].sum() == 3 * 16 * 2  # above 0.95 and 0.9 there are only 16; above 0.8 all
    assert "above 0.8" in masks["done"]["CSF"] and "eroded by one voxel" in masks["done"]["WM"]


def test_a_tissue_that_is_not_there_is_named():
    brain = np.ones((12, 12, 12), bool)
    wm = np.zeros(brain.shape)
    wm[2:10, 2:10, 2:10] = 1
    with pytest.raises(InputError, match="no cerebrospinal fluid found"):
        eroded_tissue_masks(1 - wm, wm, np.zeros(brain.shape), brain)


def fmripreps_own_table() -> tuple[list[str], dict]:
    """Columns and sidecar of a table that fMRIPrep 21 wrote, as nilearn ships it for its own tests."""
    import importlib.util
    from pathlib import Path

    folder = Path(importlib.util.find_spec("nilearn").submodule_search_locations[0]) / "interfaces/fmriprep/data"
    columns = (folder / "test-v21_desc-confounds_timeseries.tsv").read_text().split("\n", 1)[0].split("\t")
    return columns, json.loads((folder / "test-v21_desc-confounds_timeseries.json").read_text())


def test_every_column_but_the_temporal_compcor_and_the_outliers_is_named_as_fmriprep_names_it(scan):
    columns, _ = fmripreps_own_table()
    numbered = {name.rstrip("0123456789") for name in columns}
    assert {name.rstrip("0123456789") for name in scan[2]} <= numbered
    lacking = numbered - {name.rstrip("0123456789") for name in scan[2]}
    assert lacking == {"tcompcor", "t_comp_cor_", "non_steady_state_outlier", "motion_outlier"}


def test_volumes_before_the_steady_state_are_found_as_nipype_finds_them_and_stand_in_the_table(scan):
    from nipype.algorithms.confounds import is_outlier

    image, masks, _ = scan
    raw = image.copy()
    assert volumes_before_steady_state(raw) == is_outlier(raw[..., :50].mean(axis=(0, 1, 2))) == 0
    raw[..., :3] *= np.array([1.6, 1.3, 1.1])
    raw[..., 30] *= 1.5  # an outlier, but not of the start
    found = volumes_before_steady_state(raw)
    assert found == is_outlier(raw[..., :50].mean(axis=(0, 1, 2))) == 3
    assert volumes_before_steady_state(np.ones((2, 2, 2, 9))) == 0
    table = confounds(raw, np.eye(4), TR, np.zeros((N_SCANS, 6)), masks, not_steady=found)
    names = [name for name in table if name.startswith("non_steady_state_outlier")]
    assert names == [f"non_steady_state_outlier{number:02d}" for number in range(3)]
    np.testing.assert_array_equal(table[names].to_numpy(), np.eye(N_SCANS)[:, :3])
    assert "volume 2 " in column_facts(table, MASKS)[names[2]]["Description"]


def test_a_components_facts_are_fmripreps_and_are_the_singular_values_of_its_mask(scan):
    image, masks, table = scan
    facts = column_facts(table, MASKS)
    _, theirs = fmripreps_own_table()
    for name, mask in (("w_comp_cor_03", "WM"), ("c_comp_cor_00", "CSF"), ("a_comp_cor_01", "combined")):
        assert set(theirs["a_comp_cor_00"]) <= set(facts[name])
        assert (facts[name]["Method"], facts[name]["Retained"], facts[name]["Mask"]) == ("aCompCor", True, mask)
    both = np.concatenate([image[masks["WM"]], image[masks["CSF"]]]).astype(float)
    trend = np.linalg.qr(np.column_stack([np.ones(N_SCANS), np.arange(N_SCANS)]))[0]
    both -= (both @ trend) @ trend.T
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    values = np.linalg.svd(both, compute_uv=False)
    assert facts["a_comp_cor_01"]["SingularValue"] == pytest.approx(values[1])
    assert facts["a_comp_cor_01"]["VarianceExplained"] == pytest.approx(values[1] ** 2 / (values**2).sum())
    assert facts["a_comp_cor_01"]["CumulativeVarianceExplained"] == pytest.approx(
        (values[:2] ** 2).sum() / (values**2).sum()
    )


def test_means_are_those_of_their_masks_and_expanded_like_motion(scan):
    image, masks, table = scan
    assert table["csf"].to_numpy() == pytest.approx(image[masks["CSF"]].mean(axis=0, dtype=float))
    assert table["white_matter_derivative1"][1:].to_numpy() == pytest.approx(np.diff(table["white_matter"]))
    assert table["global_signal_power2"].to_numpy() == pytest.approx(table["global_signal"].to_numpy() ** 2)
    facts = column_facts(table, MASKS)
    assert facts["csf"]["Method"] == facts["white_matter"]["Method"] == facts["global_signal"]["Method"] == "Mean"
    assert facts["trans_x_derivative1_power2"]["Units"] == "mm^2" and facts["rot_z_derivative1"]["Units"] == "rad"
    assert all(fact["Description"] and fact["Units"] for fact in facts.values()) and set(facts) == set(table)


def test_jenkinsons_displacement_is_the_root_mean_square_over_a_sphere_of_80_mm():
    random = np.random.default_rng(1)
    motion = random.standard_normal((5, 6)) * ([1.0] * 3 + [0.02] * 3)
    points = random.uniform(-80, 80, (400_000, 3))
    points = points[np.linalg.norm(points, axis=1) < 80]
    places = [warps.world_of(points, matrix) for matrix in matrices_of(motion, np.zeros(3))]
    found = root_mean_square_displacement(motion)
    assert np.isnan(found[0])
    for volume in range(1, 5):  # of where the volume before has each piece of the head
        apart = places[volume] - places[volume - 1]
        assert found[volume] == pytest.approx(np.sqrt((apart**2).sum(axis=1).mean()), rel=0.01)


def test_the_mean_of_both_tissues_weighs_voxels(scan):
    image, masks, table = scan
    together = image[masks["CSF"] | masks["WM"]].mean(axis=0, dtype=float)
    assert table["csf_wm"].to_numpy() == pytest.approx(together)


def test_cosines_are_the_orthonormal_ones_slower_than_128_seconds(scan):
    waves = slow_cosines(N_SCANS, TR)
    assert len(waves) == int(2 * N_SCANS * TR / 128) == 6
    assert waves @ waves.T == pytest.approx(np.eye(6), abs=1e-12) and np.abs(waves.sum(axis=1)).max() < 1e-10
    assert scan[2]["cosine05"].to_numpy() == pytest.approx(waves[5])
    assert slow_cosines(20, 2.0).shape == (0, 20)  # 40 s hold none


def test_nilearns_reader_of_fmriprep_finds_what_it_looks_for(scan, tmp_path):
    from nilearn.interfaces.fmriprep import load_confounds

    stem = "sub-01_task-rest_"
    table = scan[2]
    write_table(tmp_path / f"{stem}desc-confounds_timeseries.tsv", table)
    write_json(tmp_path / f"{stem}desc-confounds_timeseries.json", column_facts(table, MASKS))
    image = tmp_path / f"{stem}space-MNI152_desc-preproc_bold.nii.gz"
    image.write_bytes(b"")
    chosen, kept = load_confounds(
        str(image),
        strategy=("motion", "high_pass", "wm_csf", "global_signal", "compcor", "scrub"),
        compcor="anat_separated",
        n_compcor=5,
        fd_threshold=10,
        std_dvars_threshold=10,
    )
    assert kept is None and len(chosen) == N_SCANS
    names = set(chosen.columns)
    assert {f"{tissue}_comp_cor_{number:02d}" for tissue in "wc" for number in range(5)} <= names
    assert {"trans_x_derivative1_power2", "csf", "white_matter", "global_signal", "cosine00"} <= names
    combined, _ = load_confounds(str(image), strategy=("high_pass", "compcor"), compcor="anat_combined", n_compcor=6)
    assert [name for name in combined if "comp_cor" in name] == [f"a_comp_cor_{number:02d}" for number in range(6)]
    read = read_table(tmp_path / f"{stem}desc-confounds_timeseries.tsv")
    pd.testing.assert_frame_equal(read, table, rtol=1e-8)
