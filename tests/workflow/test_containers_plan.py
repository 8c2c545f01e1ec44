"""Which image each rule runs in and what is said where one is missing, read from dry runs; without the flag nothing is asked."""

import os
import re

import pytest
import yaml

from running import run_snakemake

IMAGES = {kind: f"docker://example.org/restresponse-{kind}:1" for kind in ("python", "gpu", "spm", "fsl")}


@pytest.fixture
def dry_run(bids_tree, tmp_path, monkeypatch):
    """Run `snakemake --dry-run` on a study of zeros; a dry run asks Apptainer for its version and for nothing else."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text("#!/bin/sh\necho apptainer version 1.4.5\n")
    (programs / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def run(*arguments, check=True, **config):
        file = tmp_path / "study.yaml"
        settings = {"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}, "classifier": {"inner_folds": 2}}
        file.write_text(yaml.safe_dump(settings | config))
        return run_snakemake(tmp_path, "--dry-run", *arguments, config=file, check=check).stdout

    return run


def pulled(output: str) -> set[str]:
    return set(re.findall(r"Singularity image docker://example.org/restresponse-(\w+):1 will be pulled", output))


def test_anatomical_and_functional_run_in_the_image_of_their_engine(dry_run):
    config = {
        "containers": IMAGES,
        "anatomical": {"engine": "spm"},
        "functional": {"engine": "fsl"},
        "engines": {"spm": {"command": "run_spm12.sh /opt/mcr script"}},
    }
    assert pulled(dry_run("results/anatomical/sub-01", "--use-singularity", **config)) == {"spm"}
    target = "results/functional/sub-01_task-rest"
    assert pulled(dry_run(target, "--use-singularity", **config)) == {"spm", "fsl"}


def test_networks_train_in_the_gpu_image_where_a_gpu_is_asked_for(dry_run):
    target = "results/classifier/clean/asc/voxnet/rep-1_fold-01/predictions.tsv"
    classifier = {"inner_folds": 2, "gpu": 1}
    assert pulled(dry_run(target, "--use-singularity", containers=IMAGES)) == {"python"}
    assert pulled(dry_run(target, "--use-singularity", containers=IMAGES, classifier=classifier)) == {"python", "gpu"}


@pytest.mark.parametrize("flag", [["--use-singularity"], ["--software-deployment-method", "apptainer"]], ids=str)
def test_a_missing_image_is_told_before_any_job_with_the_command_that_makes_it(dry_run, flag):
    containers = IMAGES | {"python": "missing.sif"}
    output = dry_run(*flag, containers=containers, check=False)
    assert "The containers cannot be used (1 problem)" in output
    assert re.search(r"containers\.python: no image \S+/missing\.sif; .*`make container`", output)
    assert "Traceback" not in output and "Job stats" not in output


def test_without_the_flag_no_image_is_asked_for(dry_run):
    output = dry_run(containers=IMAGES | {"python": "missing.sif"})
    assert "Job stats" in output and "missing.sif" not in output


def test_null_runs_a_step_on_the_host(dry_run):
    target = "results/anatomical/sub-01"
    assert pulled(dry_run(target, "--use-singularity", containers=dict.fromkeys(IMAGES))) == set()
