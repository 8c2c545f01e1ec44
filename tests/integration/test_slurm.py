"""The Slurm profile on a real Slurm of one node with two made-up GPUs (slurm_cluster.py).

Slurm is installed only where RESTRESPONSE_TEST_INSTALL=1 (as in .ci/run); without it the tests are skipped, by name.
Every wait has a bound: where Slurm leaves a job pending, Snakemake waits for good.
"""

from __future__ import annotations

import itertools
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
    f"results/classifier/{fold}/rep-1_fold-0{number}"
    for fold, number in (("clean/asc/voxnet", 1), ("clean/asc/voxnet", 2), ("paper/asc/voxnet", 1))
]
LINEAR = [f"results/classifier/{fold}/linear/rep-1_fold-01" for fold in ("clean/asc", "paper/ssc")]
# The profile at the size of this cluster, with a look at the queue every few seconds. The made-up GPUs are asked for
# and not computed on; linear models, which share a submission, are given less memory than they need.
HERE = [
    *("--cores", "1", "--jobs", "8", "--latency-wait", "20", "--slurm-init-seconds-before-status-checks", "3"),
    *("--set-resources", "classifier_network:gpu=1", "classifier_network:runtime=15 * attempt"),
    *("classifier_linear:mem_mb=100 * 2 ** (attempt - 1)", "classifier_linear:runtime=5 * attempt"),
]
BOUND = 900  # s, of a run; on two free cores it takes a minute or two


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A running cluster."""
    if reason := slurm_cluster.reason_not():
        pytest.skip(f"SLURM NOT RUN: {reason}")
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")):
        yield


class Run:
    """Snakemake with the Slurm profile on a study, in the background."""

    def __init__(self, study: Path, targets: list[str], *options: str, image: Path | None = None) -> None:
        self.output = study / "slurm_run.log"
        self.first = max((job.number for job in slurm_cluster.jobs()), default=0) + 1
        containers = [] if image is None else [f"containers={{python: {image}}}"]
        settings = ["--config", "classifier={gpu: 0}", *containers, *HERE, *options]
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

    def cancel_the_first_that_runs(self, *words: str) -> slurm_cluster.Job:
        deadline = time.monotonic() + BOUND / 2
        while time.monotonic() < deadline and self._process.poll() is None:
            if running := [job for job in self.jobs(*words) if job.state == "RUNNING"]:
                subprocess.run(["scancel", str(running[0].number)], check=True, timeout=20)
                return running[0]
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


def scores_of(table: bytes) -> list[float]:
    """The scores in a fold's table of predictions, in its order."""
    return [float(line.split("\t")[1]) for line in table.decode().splitlines()[1:]]


def taken_away(study: Path, files: list[str]) -> dict[str, bytes]:
    """What was in the files, which are then gone."""
    contents = {file: (study / file).read_bytes() for file in files}
    for file in files:
        (study / file).unlink()
    return contents


def test_folds_run_on_different_devices_and_what_was_stopped_is_tried_again_alone(slurm, study):
    before = taken_away(study, [f"{fold}/predictions.tsv" for fold in FOLDS + LINEAR])
    run = Run(study, list(before))
    cancelled = run.cancel_the_first_that_runs("classifier_network")
    run.end()

    assert {file: (study / file).read_bytes() for file in before} == before
    tries = {fold: run.jobs(*words_of(fold)) for fold in FOLDS}
    for jobs in tries.values():
        again = jobs[0].number == cancelled.number
        assert [job.state for job in jobs] == ["CANCELLED", "COMPLETED"][not again :]
        assert [job.minutes for job in jobs] == [15, 30][: 1 + again]
        assert jobs[-1].memory_mb == (1 + again) * jobs[0].memory_mb
    check_devices(study, {fold: jobs[-1] for fold, jobs in tries.items()})

    group = run.jobs("linear_classifier_linear")
    assert len(run.jobs()) == len(group) + sum(map(len, tries.values()))
    assert group[0].state in ("OUT_OF_MEMORY", "FAILED") and group[-1].state == "COMPLETED"
    assert "Exceeded job memory limit" in slurm_cluster.log_of_node()
    assert [job.memory_mb for job in group] == [100, 200, 400][: len(group)]
    # both models, one after the other: one processor, the memory of one, the time of two
    assert [(job.cpus, job.minutes) for job in group] == [(1, 10), (1, 20), (1, 30)][: len(group)]


def check_devices(study: Path, jobs: dict[str, slurm_cluster.Job]) -> None:
    """Both devices are used, and no two folds at a time are on one."""
    devices = {fold: device_of(study, fold) for fold in jobs}
    assert set(devices.values()) == {"0", "1"}
    assert all(job.gpus == 1 and job.cpus == 1 for job in jobs.values())
    for device in "01":
        held = sorted((job.start, job.end) for fold, job in jobs.items() if devices[fold] == device)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(held))


def test_in_containers_folds_run_on_different_devices_too_with_the_same_numbers(slurm, study, image):
    folds = FOLDS[:2]
    before = taken_away(study, [f"{fold}/predictions.tsv" for fold in folds])
    run = Run(study, list(before), "--use-singularity", "--slurm-keep-successful-logs", image=image)
    run.end()
    logs = [
        path.read_text() for path in (study / ".snakemake" / "slurm_logs" / "rule_classifier_network").rglob("*.log")
    ]
    assert len(logs) == 2 and all(f"Activating singularity image {image}" in log for log in logs)
    check_devices(study, {fold: run.jobs(*words_of(fold))[-1] for fold in folds})
    for file, content in before.items():
        assert scores_of((study / file).read_bytes()) == pytest.approx(scores_of(content), abs=1e-5)
