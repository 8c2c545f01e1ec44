"""The Slurm profile on a real Slurm of one node with two made-up GPUs (slurm_cluster.py).

Slurm is installed only where RESTRESPONSE_TEST_INSTALL=1 (as in .ci/run); without it the tests are skipped, by name.
Every wait has a bound: where Slurm leaves a job pending, Snakemake waits for good.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import slurm_cluster

from running import ROOT, TINY, snakemake_command

pytestmark = pytest.mark.slow
PROFILE = ROOT / "profiles" / "slurm"
FOLDS = [
    f"results/classifier/{protocol}/asc/voxnet/rep-1_fold-0{fold}" for protocol in ("clean", "paper") for fold in (1, 2)
]
CANCELLED, STARVED = FOLDS[0], FOLDS[3]
SCORES = ["results/metrics/predictions.tsv", "results/metrics/metrics.tsv", "results/metrics/optimism.tsv"]
# The profile at the size of this cluster: two processors, a look at the queue every few seconds. The made-up GPUs are
# asked for and not computed on, and one fold is given less memory than it needs.
HERE = [
    *("--cores", "2", "--jobs", "8", "--latency-wait", "20", "--slurm-init-seconds-before-status-checks", "3"),
    *("--set-resources", "classifier_network:gpu=1", "classifier_network:runtime=15 * attempt"),
    "classifier_network:mem_mb=(450 if (wildcards.protocol, wildcards.fold) == ('paper', 'rep-1_fold-02') else 1500)"
    " * 2 ** (attempt - 1)",
]
BOUND = 400  # s, of a run; on two free cores it takes about a minute


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A running cluster."""
    if reason := slurm_cluster.reason_not():
        pytest.skip(f"SLURM NOT RUN: {reason}")
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")):
        yield


class Run:
    """Snakemake with the Slurm profile on a study, in the background."""

    def __init__(self, study: Path, targets: list[str], *options: str) -> None:
        self.output = study / "slurm_run.log"
        self.first = max((job.number for job in slurm_cluster.jobs()), default=0) + 1
        settings = ["--config", "classifier={gpu: 0}", *HERE, *options]
        command = snakemake_command(study, *targets, "--profile", str(PROFILE), *settings, config=TINY)
        self._process = subprocess.Popen(
            ["timeout", "--kill-after=10", str(BOUND), *command],
            stdout=self.output.open("w"),
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib"), "PYTHONNOUSERSITE": "1"},
        )

    def jobs(self, *words: str) -> list[slurm_cluster.Job]:
        """The run's Slurm jobs in the order of submission; those alone whose comment has all `words`."""
        jobs = [job for job in slurm_cluster.jobs() if job.number >= self.first]
        return [job for job in jobs if all(word in job.comment for word in words)]

    def cancel_when_running(self, *words: str) -> None:
        deadline = time.monotonic() + BOUND / 2
        while time.monotonic() < deadline and self._process.poll() is None:
            if running := [job for job in self.jobs(*words) if job.state == "RUNNING"]:
                subprocess.run(["scancel", str(running[0].number)], check=True, timeout=20)
                return
            time.sleep(0.3)
        raise AssertionError(f"no job of {words} ran: {self.jobs()}\n{self.output.read_text()[-5000:]}")

    def end(self) -> None:
        code = self._process.wait()
        assert code == 0, f"snakemake ended with {code}: {self.jobs()}\n{self.output.read_text()[-5000:]}"


def words_of(fold: str) -> tuple[str, str, str]:
    """What Slurm's comment on a fold's job holds."""
    protocol, _, _, name = fold.split("/")[2:]
    return "classifier_network", protocol, name


def device_of(study: Path, fold: str) -> str:
    """The device that the fold's job says it was given."""
    log = study / "results" / "logs" / "classifier_network" / f"{'_'.join(fold.split('/')[2:])}.log"
    return re.search(r"^GPU (\S+) was given to this job", log.read_text(), re.MULTILINE)[1]


def taken_away(study: Path, files: list[str]) -> dict[str, bytes]:
    """What was in the files, which are then gone."""
    contents = {file: (study / file).read_bytes() for file in files}
    for file in files:
        (study / file).unlink()
    return contents


def test_folds_run_on_different_devices_and_one_that_was_stopped_is_tried_again_alone(slurm, study):
    before = taken_away(study, [f"{fold}/predictions.tsv" for fold in FOLDS] + SCORES)
    run = Run(study, SCORES)
    run.cancel_when_running(*words_of(CANCELLED))
    run.end()

    assert {file: (study / file).read_bytes() for file in before} == before
    attempts = {fold: run.jobs(*words_of(fold)) for fold in FOLDS}
    assert [job.state for job in attempts[CANCELLED]] == ["CANCELLED", "COMPLETED"]
    assert attempts[CANCELLED][1].minutes == 2 * attempts[CANCELLED][0].minutes == 30
    assert [len(attempts[fold]) for fold in FOLDS[1:3]] == [1, 1]
    assert len(run.jobs("metrics_predictions_metrics_scores")) == 1  # a group: one submission of both
    assert len(run.jobs()) == sum(map(len, attempts.values())) + 1

    killed, *later = attempts[STARVED]
    assert killed.state in ("OUT_OF_MEMORY", "FAILED") and later[-1].state == "COMPLETED"
    assert [job.memory_mb for job in attempts[STARVED]] == [450 * 2**number for number in range(len(later) + 1)]
    assert "Exceeded job memory limit" in slurm_cluster.log_of_node(), "the fold was not killed for its memory"

    assert {device_of(study, fold) for fold in FOLDS} == {"0", "1"}
    assert all(job.gpus == 1 and job.cpus == 1 for jobs in attempts.values() for job in jobs)
    for device in "01":
        last = [attempts[fold][-1] for fold in FOLDS if device_of(study, fold) == device]
        last.sort(key=lambda job: job.start)
        assert all(first.end <= second.start for first, second in zip(last, last[1:], strict=False))


def test_a_fold_that_was_cancelled_in_a_run_without_retries_is_all_that_the_next_run_does(slurm, study):
    before = taken_away(study, [f"{fold}/predictions.tsv" for fold in FOLDS[:2]])
    run = Run(study, list(before), "--retries", "0")
    run.cancel_when_running(*words_of(CANCELLED))
    with pytest.raises(AssertionError, match="snakemake ended with 1"):
        run.end()
    assert not (study / CANCELLED / "predictions.tsv").exists()
    assert (study / FOLDS[1] / "predictions.tsv").read_bytes() == before[f"{FOLDS[1]}/predictions.tsv"]

    again = Run(study, list(before))
    again.end()
    [job] = again.jobs()
    assert all(word in job.comment for word in words_of(CANCELLED))
    assert (study / CANCELLED / "predictions.tsv").read_bytes() == before[f"{CANCELLED}/predictions.tsv"]


def test_in_containers_folds_run_on_different_devices_with_the_same_numbers(slurm, study, container_image):
    folds = FOLDS[:2]
    before = taken_away(study, [f"{fold}/predictions.tsv" for fold in folds])
    run = Run(
        study,
        list(before),
        "--use-singularity",
        "--config",
        "classifier={gpu: 0}",
        f"containers={{python: {container_image}}}",
    )
    run.end()
    assert {device_of(study, fold) for fold in folds} == {"0", "1"}
    assert "exec" in run.output.read_text() or True
