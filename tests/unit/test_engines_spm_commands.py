"""The batches' texts of the engine SPM against SPM12's manual, units included; no SPM is needed."""

from __future__ import annotations

import json
import re

import pytest
from preprocessed_phantom import noise_image as _image

from restresponse.engines import spm_batches

SETTINGS = {"command": "run_spm12.sh /opt/mcr script", "use_mcr": True, "folder": None}


def _job(script: str) -> dict[str, str]:
    """The job's settings by the part of their names that SPM's batch editor shows; a list's parts are put together again."""
    cells = {
        key: re.findall(r"'([^']*)'", names)
        for key, names in re.findall(r"^ *jobs\{1\}\.spm\.(\S+) = \{\.\.\.\n(?:\{\.\.\.\n)?((?:\[?'.*;\.\.\.\n)*)\};", script, re.MULTILINE)
    }  # fmt: skip
    single = dict(re.findall(r"^ *jobs\{1\}\.spm\.(\S+) = ([^{\n]*);$", script, re.MULTILINE))
    job: dict = dict(cells)
    for key, value in single.items():
        found = re.fullmatch(r"(.*)\((\d+)\)", key)
        if found:
            job.setdefault(found[1], []).append(float(value))
        else:
            job[key] = value.strip("'") if "'" in value else float(value) if value[0] != "[" else json.loads(value)
    return job


def test_slice_timing_is_by_times_in_ms_with_the_repetition_time_in_s(tmp_path):
    """Manual, 1.1: slice times and reference in ms, TR in s, and 0 for TA, which is not used then."""
    bold = _image(tmp_path / "bold.nii", (6, 6, 4, 5))
    job = _job(spm_batches.timing(SETTINGS, bold, [0.0, 1.3, 0.65, 1.95], 2.6).script)
    assert job == {
        "temporal.st.scans": [f"{bold},{volume}" for volume in range(1, 6)],
        "temporal.st.nslices": 4,
        "temporal.st.tr": 2.6,
        "temporal.st.ta": 0,
        "temporal.st.so": [0, 1300, 650, 1950],
        "temporal.st.refslice": 1300,
        "temporal.st.prefix": "a",
    }


def test_realign_is_to_the_mean_of_every_volume_and_writes_the_mean_alone(tmp_path):
    """Manual, 2.1: quality 0.9, separation 4 mm, smoothing 5 mm, 2nd degree B-spline; which [0 1] is the mean image only."""
    series = _image(tmp_path / "series.nii", (6, 6, 4, 3))
    script = spm_batches.realignment(SETTINGS, series).script
    assert re.findall(r"'(\S+,\d)'", script) == [f"{series},{volume}" for volume in (1, 2, 3)]
    job = _job(script)
    options = {key.removeprefix("spatial.realign.estwrite."): value for key, value in job.items() if "options" in key}
    assert options == {
        "eoptions.quality": 0.9,
        "eoptions.fwhm": 5,
        "eoptions.sep": 4,
        "eoptions.rtm": 1,
        "eoptions.interp": 2,
        "eoptions.wrap": [0, 0, 0],
        "roptions.which": [0, 1],
        "roptions.interp": 4,
        "roptions.wrap": [0, 0, 0],
        "roptions.mask": 1,
        "roptions.prefix": "r",
    }


@pytest.mark.parametrize("mapped", [False, True])
def test_unwarp_models_pitch_and_roll_with_and_without_a_displacement_map(tmp_path, mapped):
    """Manual, 3.1: quality 0.9, separation 4 mm, smoothing 5 mm as in Realign; 12 x 12 basis functions, regularisation 1 and medium, [4 5] first-order effects, 4 mm, 5 iterations."""
    series = _image(tmp_path / "series.nii", (6, 6, 4, 3))
    shift = _image(tmp_path / "vdm5_map.nii", (6, 6, 4)) if mapped else None
    job = _job(spm_batches.unwarping(SETTINGS, series, shift).script)
    job = {key.removeprefix("spatial.realignunwarp."): value for key, value in job.items()}
    assert job["data(1).scans"] == [f"{series},{volume}" for volume in (1, 2, 3)]
    assert job["data(1).pmscan"] == ([f"{shift},1"] if mapped else [])
    assert {key: value for key, value in job.items() if key.startswith("eoptions")} == {
        "eoptions.quality": 0.9,
        "eoptions.fwhm": 5,
        "eoptions.sep": 4,
        "eoptions.rtm": 1,
        "eoptions.einterp": 2,
        "eoptions.ewrap": [0, 0, 0],
    }
    assert {key: value for key, value in job.items() if key.startswith("uweoptions")} == {
        "uweoptions.basfcn": [12, 12],
        "uweoptions.regorder": 1,
        "uweoptions.lambda": [100000],
        "uweoptions.jm": 0,
        "uweoptions.fot": [4, 5],
        "uweoptions.uwfwhm": 4,
        "uweoptions.rem": 1,
        "uweoptions.noi": [5],
        "uweoptions.expround": "Average",
    }
    assert job["uwroptions.uwwhich"] == [2, 1] and job["uwroptions.rinterp"] == 4 and job["uwroptions.mask"] == 1


def test_coregister_estimates_alone(tmp_path):
    """Manual, 4.1: normalised mutual information, 4 and 2 mm, 7 mm histogram smoothing; nothing is resliced."""
    target, source = _image(tmp_path / "t1w.nii", (6, 6, 4)), _image(tmp_path / "epi.nii", (6, 6, 4))
    job = _job(spm_batches.coregistration(SETTINGS, target, source).script)
    job = {key.removeprefix("spatial.coreg.estimate."): value for key, value in job.items()}
    assert job.pop("roptions.prefix") == "r"  # nipype's; SPM, which writes no image here, does not look at it
    assert job == {
        "ref": [str(target)],
        "source": [str(source)],
        "eoptions.cost_fun": "nmi",
        "eoptions.sep": [4, 2],
        "eoptions.tol": [0.02, 0.02, 0.02, 0.001, 0.001, 0.001, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001],
        "eoptions.fwhm": [7, 7],
    }


def test_segment_writes_bias_corrected_image_three_tissues_and_the_forward_deformation(tmp_path):
    """Manual, 6.1: light bias regularisation 0.001 and 60 mm, Gaussians 1 1 2 3 4 2, warping [0 0.001 0.5 0.05 0.2], 3 mm."""
    t1w = _image(tmp_path / "T1w.nii", (6, 6, 4))
    own = _job(spm_batches.segmentation(SETTINGS, t1w).script)
    own = {key.removeprefix("spatial.preproc."): value for key, value in own.items()}
    assert own == {
        "channel(1).vols": [f"{t1w},1"],
        "channel(1).biasreg": 0.001,
        "channel(1).biasfwhm": 60,
        "channel(1).write": [0, 1],
        "warp.affreg": "mni",
        "warp.reg": [0, 0.001, 0.5, 0.05, 0.2],
        "warp.samp": 3,
        "warp.write": [0, 1],
    }  # no tissues: SPM takes its own
    maps = tmp_path / "spm" / "tpm" / "TPM.nii"
    maps.parent.mkdir(parents=True)
    _image(maps, (6, 6, 4, 6))
    job = _job(spm_batches.segmentation(SETTINGS | {"folder": str(tmp_path / "spm")}, t1w).script)
    job = {key.removeprefix("spatial.preproc."): value for key, value in job.items()}
    assert [job[f"tissue({index}).tpm"] for index in range(1, 7)] == [[f"{maps},{index}"] for index in range(1, 7)]
    assert [job[f"tissue({index}).ngaus"] for index in range(1, 7)] == [1, 1, 2, 3, 4, 2]
    assert [job[f"tissue({index}).native"] for index in range(1, 7)] == [[1, 0]] * 3 + [[0, 0]] * 3
    assert [job[f"tissue({index}).warped"] for index in range(1, 7)] == [[0, 0]] * 6


@pytest.mark.parametrize("folder", [None, "/opt/spm"])
def test_segment_takes_other_tissue_maps_in_place_of_spms_own(tmp_path, folder):
    t1w, maps = _image(tmp_path / "T1w.nii", (6, 6, 4)), _image(tmp_path / "priors.nii", (6, 6, 4, 6))
    job = _job(spm_batches.segmentation(SETTINGS | {"folder": folder}, t1w, maps).script)
    assert [job[f"spatial.preproc.tissue({index}).tpm"] for index in range(1, 7)] == [[f"{maps},{index}"] for index in range(1, 7)]  # fmt: skip
    assert [job[f"spatial.preproc.tissue({index}).ngaus"] for index in range(1, 7)] == [1, 1, 1, 3, 4, 2]
    assert job["spatial.preproc.warp.reg"] == [0, 0, 0.1, 0.01, 0.04] and job["spatial.preproc.warp.samp"] == 3


def test_spms_own_tissue_maps_are_copied_from_where_spm_has_them(tmp_path):
    script = spm_batches.tissue_maps(SETTINGS, tmp_path / "own.nii").script
    assert f"copyfile(fullfile(spm('Dir'), 'tpm', 'TPM.nii'), '{tmp_path}/own.nii');" in script
    assert r"fprintf('SPM version: %s Release: %s\n', name, version);".replace("\\\\", "\\") in script


@pytest.mark.parametrize(("voxel_size", "last"), [(2, [90, 90, 108]), (4, [90, 90, 108]), (5, [90, 94, 108])])
def test_normalise_writes_on_conns_bounding_box(tmp_path, voxel_size, last):
    """Manual, 5.3: bounding box and voxel size in mm, B-spline of degree 4."""
    image, field = _image(tmp_path / "series.nii", (6, 6, 4, 2)), _image(tmp_path / "y_x.nii", (4, 4, 4, 1, 3))
    script = spm_batches.normalisation(SETTINGS, [image], field, voxel_size, 4).script
    job = {key.removeprefix("spatial.normalise.write."): value for key, value in _job(script).items()}
    assert job["subj.def"] == [str(field)]
    assert job["subj.resample"] == [f"{image},1", f"{image},2"]
    box = [[job[f"woptions.bb({row},{column})"] for column in (1, 2, 3)] for row in (1, 2)]
    assert box == [[-90, -126, -72], last]
    assert job["woptions.vox"] == [voxel_size] * 3
    assert job["woptions.interp"] == 4 and job["woptions.prefix"] == "w"


def test_smooth_has_its_width_in_mm_and_no_masking(tmp_path):
    """Manual, 8: FWHM in mm along each axis, the type of the input, no implicit mask."""
    image = _image(tmp_path / "series.nii", (6, 6, 4, 2))
    job = {key.removeprefix("spatial.smooth."): value for key, value in _job(spm_batches.smoothing(SETTINGS, image, 5).script).items()}  # fmt: skip
    job = {key.replace("(1)", ""): value for key, value in job.items()}
    assert job == {"data": [f"{image},1", f"{image},2"], "fwhm": [5, 5, 5], "dtype": 0, "im": 0, "prefix": "s"}


def test_every_script_runs_its_job_and_says_spms_version(tmp_path):
    script = spm_batches.smoothing(SETTINGS, _image(tmp_path / "a.nii", (6, 6, 4)), 5).script
    assert "spm_jobman('run', jobs);" in script and "fprintf('SPM version: %s Release: %s\\n'" in script


def test_the_standalone_program_gets_a_script_and_matlab_an_expression_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, folder = _image(tmp_path / "a.nii", (6, 6, 4)), tmp_path / "spm"
    folder.mkdir()
    alone = spm_batches.smoothing(SETTINGS | {"folder": str(folder)}, image, 5)
    alone.mlab.inputs.script = alone.script
    assert alone.mlab.cmdline == f"run_spm12.sh /opt/mcr script {tmp_path}/pyscript_smooth.m"
    assert "addpath" not in (tmp_path / "pyscript_smooth.m").read_text()  # a compiled program takes no other folder
    matlab = {"command": "matlab", "use_mcr": False, "folder": str(folder)}
    within = spm_batches.smoothing(matlab, image, 5)
    within.mlab.inputs.script = within.script
    assert within.mlab.cmdline.startswith("matlab -nodesktop -nosplash")
    assert within.mlab.cmdline.endswith(f"-r \"addpath('{tmp_path}');pyscript_smooth;exit\"")
    assert f"addpath('{folder}')" in (tmp_path / "pyscript_smooth.m").read_text()
