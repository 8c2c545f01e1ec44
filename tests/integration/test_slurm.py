"""The Slurm profile on a real Slurm of one node and two made-up GPUs (slurm_cluster.py): skipped, by name, without.

Every wait has a bound: a Slurm that leaves a job pending would otherwise keep Snakemake waiting for good.
"""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import slurm_cluster

from running import ROOT, TINY, snakemake_command

pytestmark = pytest.mark.slow
PROFILE = ROOT / "profiles" / "slurm" / "config.yaml"
FOLDS = [
    f"results/classifier/{protocol}/asc/voxnet/rep-1_fold-0{fold}" for protocol in ("clean", "paper") for fold in (1, 2)
]
CANCELLED, STARVED = FOLDS[0], FOLDS[3]
# What the profile says for a cluster, at the size of this one: two processors, answers at once, GPUs although the
# networks are trained on the CPU (TensorFlow would not find the made-up ones), and one fold with too little memory.
HERE = [
    *("--cores", "2", "--jobs", "8", "--latency-wait", "20", "--slurm-init-seconds-before-status-checks", "3"),
    *("--set-resources", "classifier_network:gpu=1", "classifier_network:runtime=15"),
]
STARVING = (
    "classifier_network:mem_mb=(500 if wildcards.protocol == 'paper' and wildcards.fold == 'rep-1_fold-02' else 2000)"
    " * 2 ** (attempt - 1)"
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A running cluster."""
    if reason := slurm_cluster.reason_not():
        pytest.skip(f"no Slurm: {reason}")
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")):
        yield


class Run:
    """Snakemake with the Slurm profile on a study, in the background."""

    def __init__(self, study: Path, targets: list[str], *options: str, seconds: int) -> None:
        self.study = study
        self.output = study / "slurm_run.log"
        self.first = max((job.number for job in slurm_cluster.jobs()), default=0) + 1
        command = snakemake_command(study, *targets, "--profile", str(PROFILE.parent), *HERE, *options, config=TINY)
        self._process = subprocess.Popen(
            ["timeout", "--signal=INT", "--kill-after=20", str(seconds), *command],
            stdout=self.output.open("w"),
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib"), "PYTHONNOUSERSITE": "1"},
        )

    def jobs(self, *parts: str) -> list[slurm_cluster.Job]:
        """The run's Slurm jobs, in the order of submission; those alone whose comment has all `parts`."""
        return [
            job
            for job in slurm_cluster.jobs()
            if job.number >= self.first and all(part in job.comment for part in parts)
        ]

    def wait_for(self, *parts: str, state: str, seconds: float) -> slurm_cluster.Job:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := [job for job in self.jobs(*parts) if job.state == state]:
                return found[0]
            time.sleep(0.3)
        raise AssertionError(f"no job of {parts} was {state} in {seconds} s\n{self.jobs()}\n{self._tail()}")

    def end(self) -> str:
        code = self._process.wait()
        assert code == 0, f"snakemake ended with {code}\n{self.jobs()}\n{self._tail()}"
        return self.output.read_text()

    def _tail(self) -> str:
        return self.output.read_text()[-5000:]


def words_of(fold: str) -> tuple[str, str, str]:
    """What a fold's job is called in Slurm's comment."""
    protocol, _, _, name = fold.split("/")[2:]
    return "classifier_network", protocol, name


def device_of(study: Path, fold: str) -> str:
    log = study / "results" / "logs" / "classifier_network" / f"{'_'.join(fold.split('/')[2:])}.log"
    return re.search(r"^GPU (\S+) was given to this job", log.read_text(), re.MULTILINE)[1]


def forget(study: Path, files: list[str]) -> dict[str, bytes]:
    """Take files away; what was in them."""
    contents = {file: (study / file).read_bytes() for file in files}
    for file in files:
        (study / file).unlink()
    return contents


def test_folds_go_to_different_devices_and_what_was_cancelled_or_starved_is_tried_again_alone(slurm, study):
    scan = "sub-01_task-rest"
    chain = ["results/anatomical/sub-01_T1w/sub-01_T1w.json", f"results/quality/{scan}.json"]
    before = forget(study, [f"{fold}/predictions.tsv" for fold in FOLDS])
    run = Run(study, list(before), "--set-resources", *HERE[-2:], STARVING, seconds=240)
    cancelled = run.wait_for(*words_of(CANCELLED), state="RUNNING", seconds=120)
    subprocess.run(["scancel", str(cancelled.number)], check=True, timeout=20)
    run.end()

    assert {file: (study / file).read_bytes() for file in before} == before
    attempts = {fold: run.jobs(*words_of(fold)) for fold in FOLDS}
    print({fold: [(job.number, job.state, job.memory_mb) for job in jobs] for fold, jobs in attempts.items()})
