"""The plan of the jobs where images were preprocessed elsewhere: adopted, and from `quality` on as ever."""

import pytest
import yaml

from running import jobs_of, run_snakemake, write_bids_tree, write_derivatives_tree

SPACE = "MNI152NLin2009cAsym"


def write_config(folder, **dataset):
    config = folder / "config.yaml"
    settings = {"folds": {"n_folds": 2}, "functional": {"voxel_size": 6}, "classifier": {"inner_folds": 2}}
    config.write_text(yaml.safe_dump(settings | {"dataset": dataset}))
    return config


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adopted")
    write_derivatives_tree(folder / "fmriprep", SPACE)
    config = write_config(folder, bids_dir=None, derivatives="fmriprep")
    return jobs_of(run_snakemake(folder, "--dry-run", "--forceall", config=config).stdout)


def test_scans_are_adopted_and_nothing_raw_is_asked_for(plan):
    rules = [job["rule"] for job in plan]
    assert rules.count("functional_adopt") == 8 and rules.count("functional_denoise") == 1  # a batch of eight
    assert "functional_preprocess" not in rules and not [rule for rule in rules if rule.startswith("anatomical_")]
    assert {"group_ica_components", "classifier_network", "metrics_audit", "report_page"} <= set(rules)
    adopted = next(job for job in plan if job["rule"] == "functional_adopt" and "sub-01" in job["output"][0])
    names = [path.rsplit("/", 1)[-1] for path in adopted["input"]]
    assert names == [
        f"sub-01_task-rest_space-{SPACE}_res-2_desc-preproc_bold.nii.gz",
        f"sub-01_task-rest_space-{SPACE}_res-2_desc-brain_mask.nii.gz",
        "sub-01_task-rest_desc-confounds_timeseries.tsv",
    ]


def test_only_the_dataset_stage_reads_the_folders_table_of_participants(plan):
    readers = {job["rule"] for job in plan if "fmriprep/participants.tsv" in job["input"]}
    assert readers == {"dataset_tables"}


def test_derivatives_that_cannot_be_used_are_refused_before_any_job_in_words(tmp_path):
    write_bids_tree(tmp_path / "bids")
    config = write_config(tmp_path, bids_dir="bids", derivatives="bids")
    done = run_snakemake(tmp_path, "--dry-run", config=config, check=False)
    assert done.returncode != 0
    assert "spaces of the 8 BOLD images there: none in the name" in done.stdout
    assert "Traceback" not in done.stdout
