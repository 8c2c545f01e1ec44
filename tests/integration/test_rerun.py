"""Only what is invalid reruns, and what was killed ends as if it had not been: shown by running Snakemake."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from running import ROOT, TINY, jobs_of, run_snakemake, snakemake_command

pytestmark = pytest.mark.slow
FOLD = "results/classifier/clean/asc/voxnet/rep-1_fold-01"


def rules_run(study, *arguments, config=TINY):
    """The names of the rules that a run of the study executes."""
    return {job["rule"] for job in jobs_of(run_snakemake(study, *arguments, config=config).stdout)} - {"all"}


def of_stages(rules):
    """The first words of rule names: their stages (`group_ica` and `dual_regression` lose their second word)."""
    return {rule.split("_")[0] for rule in rules}


def test_a_second_run_and_another_number_of_cores_do_nothing(study):
    for arguments in ((), ("--cores", "1"), ("--cores", "2", "--jobs", "1", "--max-threads", "1")):
        assert "Nothing to be done" in run_snakemake(study, *arguments, config=TINY).stdout


def test_removing_one_folds_model_reruns_that_fold_the_metrics_and_the_report_alone(study):
    before = (study / FOLD / "predictions.tsv").read_text()
    (study / FOLD / "model.keras").unlink()
    jobs = jobs_of(run_snakemake(study, config=TINY).stdout)
    classified = [job for job in jobs if job["rule"].startswith("classifier")]
    assert [job["output"][0].rsplit("/", 1)[0] for job in classified] == [FOLD]
    assert of_stages({job["rule"] for job in jobs} - {"all"}) <= {"classifier", "metrics", "report"}
    assert (study / FOLD / "predictions.tsv").read_text() == before


def test_changing_a_learning_rate_reruns_the_networks_and_not_the_preprocessing(study, tmp_path):
    changed = yaml.safe_load(TINY.read_text())
    changed["classifier"]["models"]["voxnet"]["learning_rate"] = 0.002
    config = tmp_path / "changed.yaml"
    config.write_text(yaml.safe_dump(changed))
    rules = rules_run(study, config=config)
    assert "classifier_network" in rules
    assert of_stages(rules) <= {"classifier", "metrics", "report"}


def test_editing_a_module_reruns_what_depends_on_it_and_nothing_else(study, tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", checkout)
    module = checkout / "workflow" / "lib" / "restresponse" / "components" / "selection.py"
    module.write_text(module.read_text() + "\n# edited\n")
    before = (study / "results/metrics/metrics.tsv").read_text()
    edited = ("--snakefile", str(checkout / "Snakefile"))
    rules = rules_run(study, *edited)
    assert {"components_select", "components_measure"} <= rules
    assert not of_stages(rules) & {"dataset", "anatomical", "functional", "quality", "folds", "group"}
    assert (study / "results/metrics/metrics.tsv").read_text() == before  # the edit was a comment
    assert "Nothing to be done" in run_snakemake(study, *edited, config=TINY).stdout


def test_a_run_killed_twice_in_the_middle_ends_with_the_same_metrics(tiny_study, tiny_cohort, tmp_path):
    """First the scheduler alone dies, whose jobs live on, in `functional`; then the whole process group, in `group_ica`."""
    study = tmp_path / "study"
    shutil.copytree(tiny_cohort, study)
    killed_at(study, "results/functional/sub-03_task-rest", os.kill, tmp_path / "log")
    run_snakemake(study, "--unlock", config=TINY)
    killed_at(study, "results/group_ica/all", os.killpg, tmp_path / "log")
    run_snakemake(study, "--unlock", config=TINY)
    run_snakemake(study, config=TINY)
    for name in ("predictions.tsv", "metrics.tsv"):
        assert (study / "results" / "metrics" / name).read_text() == (
            tiny_study / "results" / "metrics" / name
        ).read_text()


def killed_at(study, moment, kill, log):
    """Run the workflow and send SIGKILL by `kill` as soon as the path `moment` is there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib")}
    with log.open("w") as stream:
        running = subprocess.Popen(
            snakemake_command(study, config=TINY),
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        deadline = time.monotonic() + 600
        while not (study / moment).exists():
            assert running.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        kill(running.pid, signal.SIGKILL)
        running.wait()
    assert not (study / "results" / "report" / "index.html").exists()
