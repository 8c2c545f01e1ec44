"""Denoising takes out exactly what it says and counts what is left."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from noise_scan import TR, noise_scan

from restresponse.errors import DamagedFile, InputError
from restresponse.files import read_json, write_image, write_json, write_table
from restresponse.functional.denoising import (
    degrees_of_freedom,
    denoise,
    denoise_image,
    denoise_scan,
    outlier_volumes,
    projection,
    regressors,
)
from running import ROOT

DEFAULTS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["functional"]["denoising"]
NOTHING = {
    **DEFAULTS,
    "wm_components": 0,
    "csf_components": 0,
    "motion_parameters": 0,
    "outlier_displacement": None,
    "outlier_global_signal": None,
    "detrend": False,
    "bandpass_low": None,
    "bandpass_high": None,
}
BAND_ALONE = {**NOTHING, "bandpass_low": 0.008, "bandpass_high": 0.09}


def settings(**changes):
    return {**DEFAULTS, **changes}


@pytest.fixture(scope="module")
def table():
    return noise_scan()[3]


def cosine(frequency_number, n_scans):
    return np.cos(np.pi * (np.arange(n_scans) + 0.5) * frequency_number / n_scans)


# ---------------------------------------------------------------- what is taken out


def test_a_wave_in_the_band_survives_and_waves_outside_vanish():
    n_scans = 160
    basis = projection(pd.DataFrame(index=range(n_scans)), TR, BAND_ALONE)
    for number in range(n_scans):
        wave = cosine(number, n_scans)[:, None]
        frequency = number / (2 * n_scans * TR)
        expected = wave if 0.008 <= frequency <= 0.09 else 0 * wave
        assert denoise(wave, basis) == pytest.approx(expected, abs=1e-10), number


def test_a_sine_of_any_phase_keeps_its_power_in_the_band_and_loses_it_outside():
    time = np.arange(400) * TR
    basis = projection(pd.DataFrame(index=range(400)), TR, BAND_ALONE)
    for frequency, least, most in ((0.03, 0.97, 1), (0.07, 0.97, 1), (0.002, 0, 0.06), (0.15, 0, 0.03)):
        wave = np.sin(2 * np.pi * frequency * time + 1.0)[:, None]
        wave -= wave.mean()
        assert least <= (denoise(wave, basis) ** 2).sum() / (wave**2).sum() <= most, frequency


def test_planted_head_motion_is_taken_out_and_a_time_course_in_the_band_stays(table):
    n_scans = len(table)
    random = np.random.default_rng(4)
    signal = sum(random.standard_normal() * cosine(number, n_scans) for number in range(10, 60))[:, None]
    motion = table[["trans_x", "trans_y", "rot_z"]].to_numpy() @ [[400.0], [-250.0], [30000.0]]
    basis = projection(table, TR, settings())
    assert np.abs(motion).max() > 5 * signal.std()
    assert denoise(signal + motion, basis) == pytest.approx(denoise(signal, basis), abs=1e-8)
    assert np.corrcoef(denoise(signal, basis).T, signal.T)[0, 1] > 0.7  # 23 regressors share the band with it


@pytest.mark.parametrize("motion_parameters", [0, 6, 12, 24])
def test_simultaneous_leaves_no_regressor_and_no_frequency_outside_the_band(table, motion_parameters):
    chosen = settings(motion_parameters=motion_parameters, outlier_displacement=0.12)
    clean = denoise(np.random.default_rng(5).standard_normal((len(table), 50)), projection(table, TR, chosen))
    taken = regressors(table, chosen).to_numpy()
    assert taken.shape[1] > motion_parameters + 11  # spikes too
    together = np.corrcoef(clean.T, taken.T)[: clean.shape[1], clean.shape[1] :]
    assert np.abs(together).max() < 1e-10
    number = np.arange(len(table))
    outside = (number < 0.008 * 2 * len(table) * TR) | (number > 0.09 * 2 * len(table) * TR)
    waves = np.cos(np.pi * np.outer(number + 0.5, number[outside]) / len(table))
    assert np.abs(waves.T @ clean).max() < 1e-9
    assert np.abs(clean.mean(axis=0)).max() < 1e-12


def test_filtering_after_the_regression_brings_regressors_back(table):
    series = np.random.default_rng(6).standard_normal((len(table), 50))
    worst = {}
    for bandpass in ("simultaneous", "after"):
        chosen = settings(bandpass=bandpass, outlier_displacement=0.12)
        clean = denoise(series, projection(table, TR, chosen))
        taken = regressors(table, chosen).to_numpy()
        worst[bandpass] = np.abs(np.corrcoef(clean.T, taken.T)[:50, 50:]).max()
    assert worst["simultaneous"] < 1e-10 and worst["after"] > 0.05


def test_the_basis_is_orthonormal_and_denoising_twice_is_denoising_once(table):
    basis = projection(table, TR, settings())
    assert basis.T @ basis == pytest.approx(np.eye(basis.shape[1]), abs=1e-10)
    once = denoise(np.random.default_rng(7).standard_normal((len(table), 3)), basis)
    assert denoise(once, basis) == pytest.approx(once, abs=1e-12)


def test_with_every_part_off_only_the_mean_goes(table):
    series = 5 + np.random.default_rng(8).standard_normal((len(table), 4))
    assert denoise(series, projection(table, TR, NOTHING)) == pytest.approx(series - series.mean(axis=0))
    assert degrees_of_freedom(table, TR, NOTHING) == (len(table) - 1, len(table) - 1)


@pytest.mark.parametrize(
    ("change", "prefix", "count"),
    [
        ({"motion_parameters": 6}, "", 6),
        ({"motion_parameters": 24}, "", 24),
        ({"wm_components": 3}, "w_comp_cor", 3),
        ({"csf_components": 4}, "c_comp_cor", 4),
        ({"detrend": True}, "linear_trend", 1),
    ],
)
def test_each_part_alone_adds_its_regressors_and_takes_as_many_degrees(table, change, prefix, count):
    design = regressors(table, {**NOTHING, **change})
    assert design.shape[1] == count and all(name.startswith(prefix) for name in design)
    assert degrees_of_freedom(table, TR, {**NOTHING, **change})[1] == len(table) - 1 - count


def test_missing_columns_and_unknown_settings_get_a_sentence(table):
    with pytest.raises(InputError, match="no column rot_y"):
        regressors(table.drop(columns="rot_y"), settings())
    with pytest.raises(InputError, match="no column w_comp_cor_00"):
        regressors(table[[name for name in table if "w_comp" not in name]], settings())
    with pytest.raises(InputError, match="expected 0, 6, 12"):
        regressors(table, settings(motion_parameters=18))
    with pytest.raises(InputError, match="'simultaneous' or 'after'"):
        projection(table, TR, settings(bandpass="before"))


# ---------------------------------------------------------------- outliers


def quiet_table(n_scans=100):
    random = np.random.default_rng(9)
    return pd.DataFrame(
        {
            "framewise_displacement": np.r_[np.nan, 0.1 * random.random(n_scans - 1)],
            "global_signal": 1000 + random.standard_normal(n_scans),
        }
    )


def test_a_quiet_scan_has_no_outlier_volume():
    assert outlier_volumes(quiet_table(), 0.9, 5).size == 0


def test_jerks_and_jumps_of_the_global_signal_are_outliers_and_can_be_left_out():
    table = quiet_table()
    table.loc[30, "framewise_displacement"] = 0.95
    table.loc[60:, "global_signal"] += 40  # one change, that arrives at volume 60
    assert outlier_volumes(table, 0.9, 5).tolist() == [30, 60]
    assert outlier_volumes(table, 0.9, None).tolist() == [30]
    assert outlier_volumes(table, None, 5).tolist() == [60]
    assert outlier_volumes(table, None, None).size == 0
    table["non_steady_state_outlier00"] = np.eye(1, len(table))[0]
    assert outlier_volumes(table, 0.9, None).tolist() == [0, 30]
    assert outlier_volumes(table, None, None).size == 0


def test_a_volume_whose_global_signal_is_not_known_hides_no_jump():
    table = quiet_table()
    table.loc[60:, "global_signal"] += 300
    table.loc[20, "global_signal"] = np.nan
    assert outlier_volumes(table, None, 5).tolist() == [60]
    assert outlier_volumes(table.assign(global_signal=np.nan), None, 5).size == 0


def test_in_a_scan_of_twenty_volumes_a_jump_is_found_too():
    table = quiet_table(20)
    table.loc[10:, "global_signal"] += 40  # an ordinary SD could never be exceeded fivefold in 19 changes
    assert outlier_volumes(table, None, 5).tolist() == [10]


def test_nearly_every_volume_an_outlier_is_counted_and_leaves_nothing():
    table = quiet_table()
    table.loc[2:, "framewise_displacement"] = 2.0
    chosen = {**BAND_ALONE, "outlier_displacement": 0.9}
    assert outlier_volumes(table, 0.9, None).tolist() == list(range(2, 100))
    assert degrees_of_freedom(table, TR, chosen)[1] == 0
    assert projection(table, TR, chosen).shape == (100, 100)
    without_band = {**NOTHING, "outlier_displacement": 0.9}
    assert degrees_of_freedom(table, TR, without_band)[1] == 1  # two volumes less their mean


def test_an_outlier_volume_does_not_influence_the_rest():
    table = quiet_table()
    table.loc[30, "framewise_displacement"] = 3.0
    basis = projection(table, TR, {**BAND_ALONE, "outlier_displacement": 0.9})
    series = np.random.default_rng(10).standard_normal((100, 3))
    spoiled = series.copy()
    spoiled[30] += 1e4
    assert denoise(spoiled, basis) == pytest.approx(denoise(series, basis), abs=1e-8)


# ---------------------------------------------------------------- degrees of freedom


@pytest.mark.parametrize(("n_scans", "dimensions"), [(80, 34), (200, 85)])
def test_the_band_holds_the_dimensions_that_the_method_states(n_scans, dimensions):
    assert degrees_of_freedom(pd.DataFrame(index=range(n_scans)), TR, BAND_ALONE) == (dimensions, dimensions)
    assert dimensions / n_scans == pytest.approx(0.426, abs=0.005)


def test_residual_degrees_are_the_rank_that_noise_has_after_denoising(table):
    noise = np.random.default_rng(11).standard_normal((len(table), 300))
    for chosen in (settings(), settings(motion_parameters=24), settings(outlier_displacement=0.12), NOTHING):
        clean = denoise(noise, projection(table, TR, chosen))
        assert degrees_of_freedom(table, TR, chosen)[1] == np.linalg.matrix_rank(clean)


def test_regressors_that_say_the_same_are_counted_once(table):
    doubled = table.assign(rot_x=3 * table["trans_x"] + 2, rot_y=0.0)
    chosen = settings(motion_parameters=6)
    assert degrees_of_freedom(doubled, TR, chosen)[1] == degrees_of_freedom(table, TR, chosen)[1] + 2


def test_the_order_of_filter_and_regression_does_not_change_the_count(table):
    assert degrees_of_freedom(table, TR, settings()) == degrees_of_freedom(table, TR, settings(bandpass="after"))


# ---------------------------------------------------------------- images


def test_every_voxel_is_denoised_as_its_series_alone_and_constant_or_straight_ones_become_zero(table):
    image = noise_scan()[0][:3, :3, :3].copy()
    image[0, 0, 0] = 500
    image[1, 1, 1] = np.linspace(400, 600, image.shape[-1])
    basis = projection(table, TR, settings())
    expected = denoise(image.reshape(-1, image.shape[-1]).T.astype(float), basis).T.reshape(image.shape)
    left = denoise_image(image, basis)
    assert left == 25 and not image[0, 0, 0].any() and not image[1, 1, 1].any()
    expected[0, 0, 0] = expected[1, 1, 1] = 0
    assert image == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def files(tmp_path):
    image, _, _, found = noise_scan()
    write_image(tmp_path / "preproc.nii.gz", image, np.diag([4.0, 4, 4, 1]), repetition_time=TR)
    write_table(tmp_path / "confounds.tsv", found)
    write_json(tmp_path / "record.json", {"status": "done"})
    return tmp_path


def run(files, **changes):
    names = ("preproc.nii.gz", "confounds.tsv", "record.json", "denoised.nii.gz", "denoised.json")
    names += ("design.tsv", "design.json")
    arguments = [files / name for name in names]
    denoise_scan(*arguments, scan="sub-01_task-rest", repetition_time=TR, settings=settings(**changes))
    return read_json(files / "denoised.json")


def test_a_scan_is_denoised_on_its_own_grid_and_its_record_counts(files):
    import nibabel as nib

    record = run(files)
    image = nib.load(files / "denoised.nii.gz")
    data = np.asarray(image.dataobj)
    assert image.shape == (10, 10, 10, 160) and image.get_data_dtype() == np.float32
    assert image.header.get_zooms()[3] == pytest.approx(TR)
    assert np.abs(data.mean(axis=3)).max() < 1e-4
    assert record["status"] == "done" and record["reason"] is None and record["n_voxels"] == 1000
    assert (record["dof_bandpass"], record["dof_residual"]) == (68, 68 - 23)
    assert len(record["regressors"]) == 23 and record["outlier_volumes"] == []
    assert "which left 45 of 160 degrees of freedom" in record["methods"][0]


def test_a_scan_with_nothing_left_is_recorded_as_failed_with_the_count(files):
    record = run(files, bandpass_high=0.02)
    assert record["status"] == "failed" and record["dof_residual"] == 0
    assert "the band holds 10 dimensions of 160 volumes" in record["reason"]
    assert (files / "denoised.nii.gz").stat().st_size == 0


def test_a_failed_scan_passes_on_with_its_reason(files):
    write_json(files / "record.json", {"status": "failed", "reason": "the image is truncated"})
    (files / "preproc.nii.gz").write_bytes(b"")
    (files / "confounds.tsv").write_bytes(b"")
    record = run(files)
    assert record["status"] == "failed" and record["reason"] == "the image is truncated"
    assert (files / "denoised.nii.gz").stat().st_size == 0


def test_a_table_or_an_image_that_the_disk_lost_a_part_of_is_no_failed_scan(files):
    table = (files / "confounds.tsv").read_text().splitlines(keepends=True)
    (files / "confounds.tsv").write_text("".join(table[:60]))  # whole lines, too few for the filter
    with pytest.raises(DamagedFile, match=r"confounds.tsv is not whole \(59 rows; expected 160, one a volume\)"):
        run(files)
    (files / "confounds.tsv").write_text("".join(table))
    image = (files / "preproc.nii.gz").read_bytes()
    for length in (0, len(image) // 2):
        (files / "preproc.nii.gz").write_bytes(image[:length])
        with pytest.raises(DamagedFile, match=r"rm \S*preproc.nii.gz"):
            run(files)
    assert not (files / "denoised.json").exists()


@pytest.mark.parametrize(("value", "words"), [(np.nan, "not finite"), (3.0, "no voxel .* has a signal left")])
def test_an_image_of_nan_or_of_one_number_fails_with_a_sentence(files, value, words):
    write_image(files / "preproc.nii.gz", np.full((4, 4, 4, 160), value, np.float32), np.eye(4))
    record = run(files)
    assert record["status"] == "failed"
    assert re.search(words, record["reason"])
    assert (files / "denoised.nii.gz").stat().st_size == 0
