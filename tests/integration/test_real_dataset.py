"""Real BIDS data through the workflow: one person's raw scan, and a published trial's metadata."""

import pytest
import yaml

from restresponse.files import read_json, read_table
from running import run_snakemake

pytestmark = pytest.mark.slow
SCAN = "sub-001_task-rest"


def test_one_real_person_goes_to_quality_and_later_stages_say_why_they_cannot_run(shared_data, tmp_path):
    """With the default confounds its 20 volumes leave no degrees of freedom; with motion and trend alone they do."""
    settings = {
        "dataset": {"bids_dir": str(shared_data / "pumi-minitest")},
        "functional": {"voxel_size": 4},
        "folds": {"n_folds": 2},
        "classifier": {"arms": {"rsp": {"volumes": 10}}},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    run_snakemake(tmp_path, "results/quality/inclusion.tsv", config=config)
    row = read_table(tmp_path / "results/quality/inclusion.tsv", text_columns=("scan", "reason")).iloc[0]
    assert (row["scan"], row["included"]) == (SCAN, False)
    assert "degree of freedom is left" in row["reason"] and "9 dimensions of 20 volumes" in row["reason"]

    settings["functional"]["denoising"] = {
        "wm_components": 0,
        "csf_components": 0,
        "motion_parameters": 6,
        "bandpass_low": None,
        "bandpass_high": None,
    }
    settings["quality"] = {"minimum_dof": 5}
    config.write_text(yaml.safe_dump(settings))
    run_snakemake(tmp_path, "results/quality/inclusion.tsv", config=config)
    row = read_table(tmp_path / "results/quality/inclusion.tsv", text_columns=("scan", "reason")).iloc[0]
    assert row["included"], row["reason"]
    measures = read_json(tmp_path / f"results/quality/scans/batch-01/{SCAN}.json")
    assert measures["overlap"] > 0.85
    assert measures["dof_residual"] >= 20 - 1 - 1 - 6 - measures["n_outliers"]

    done = run_snakemake(tmp_path, "results/group_ica/all/order-30/components.npy", config=config, check=False)
    assert done.returncode != 0
    assert "1 participant(s) with an included scan; expected at least 2" in done.stdout
    done = run_snakemake(tmp_path, "results/folds/folds.tsv", config=config, check=False)
    assert done.returncode != 0
    assert "pain_pre" in done.stdout
