"""`--resources gpu=2` on one machine: Snakemake runs two folds at a time, and each has a device to itself."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from running import ROOT

pytestmark = pytest.mark.slow
SNAKEFILE = """
container: {image!r}


rule all:
    input:
        expand("{{fold}}.txt", fold=range(4)),


rule train:
    output:
        "{{fold}}.txt",
    resources:
        gpu=1,
    script:
        "train.py"
"""
# A training lasts until it has seen another that runs, or has run: the first two are side by side however slow the machine.
SCRIPT = """
import os, pathlib, sys, time
sys.path.insert(0, os.environ["RESTRESPONSE_LIBRARY"])
from restresponse.classifier.devices import device
with device(1) as chosen:
    start = time.time()
    pathlib.Path(f"{snakemake.wildcards.fold}.running").touch()
    while len(list(pathlib.Path().glob("*.running"))) < 2 and time.time() < start + 60:
        time.sleep(0.05)
    where = os.environ.get("APPTAINER_CONTAINER", "host")
    with open(snakemake.output[0], "w") as file:
        print(os.environ["CUDA_VISIBLE_DEVICES"], start, time.time(), where, file=file)
"""


def trainings(folder: Path, image: Path | None, *options: str) -> list[tuple[str, float, float, str]]:
    """Device, start, end and container of each of four trainings on a machine whose user named two devices."""
    (folder / "Snakefile").write_text(SNAKEFILE.format(image=image and str(image)))
    (folder / "train.py").write_text(SCRIPT)
    library = ROOT / "workflow" / "lib"
    command = [sys.executable, "-m", "snakemake", "--cores", "4", "--quiet", "all", "--workflow-profile", "none"]
    done = subprocess.run(
        [*command, "--directory", folder, "--snakefile", folder / "Snakefile", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "4,6", "RESTRESPONSE_LIBRARY": str(library)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [(folder / f"{fold}.txt").read_text().split() for fold in range(4)]
    return sorted((device, float(start), float(end), where) for device, start, end, where in rows)


def check(found: list[tuple[str, float, float, str]]) -> None:
    assert {device for device, *_ in found} == {"4", "6"}
    for _, held in itertools.groupby(found, key=lambda row: row[0]):
        assert all(first[2] <= second[1] for first, second in itertools.pairwise(held))
    starts, ends = sorted(row[1] for row in found), sorted(row[2] for row in found)
    assert starts[1] < ends[0], "no two trainings ran side by side"
    assert all(start >= end for start, end in zip(starts[2:], ends, strict=False)), "more than two ran side by side"


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "SGE_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def test_two_folds_at_a_time_each_on_its_own_device(tmp_path):
    found = trainings(tmp_path, None, "--resources", "gpu=2")
    check(found)
    assert {where for *_, where in found} == {"host"}


def test_in_containers_too(tmp_path, image):
    library = ROOT / "workflow" / "lib"
    options = ("--use-singularity", "--apptainer-args", f"--bind {library}")
    found = trainings(tmp_path, image, "--resources", "gpu=2", *options)
    check(found)
    assert {Path(where).name for *_, where in found} == {image.name}


def test_without_a_limit_the_folds_wait_for_a_device_themselves(tmp_path):
    found = trainings(tmp_path, None)
    check(found)
