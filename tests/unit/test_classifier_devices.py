"""Training jobs on one machine: each on a device of its own, the scheduler's choice taken, no GPU needed here."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restresponse.classifier.devices import device, listed_devices, named_devices
from restresponse.errors import InputError
from running import ROOT

JOB = """
import os, sys, time
from pathlib import Path
from restresponse.classifier.devices import device
with device(1) as chosen:
    assert chosen == os.environ["CUDA_VISIBLE_DEVICES"], chosen
    start = time.monotonic()
    Path(sys.argv[1]).write_text(chosen)
    time.sleep(float(sys.argv[2]))
    Path(sys.argv[1]).with_suffix(".times").write_text(f"{chosen} {start} {time.monotonic()}")
"""
LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-6b1f0a52-0000-4a4b-8bb0-1f0d8a1b0001)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-6b1f0a52-0000-4a4b-8bb0-1f0d8a1b0002)
"""
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-6b1f0a52-0000-4a4b-8bb0-1f0d8a1b0001)
  MIG 3g.20gb     Device  0: (UUID: MIG-1c2d0001-0000-5f00-a000-000000000001)
  MIG 3g.20gb     Device  1: (UUID: MIG-1c2d0001-0000-5f00-a000-000000000002)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-6b1f0a52-0000-4a4b-8bb0-1f0d8a1b0002)
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with two GPUs to use and no scheduler; its locks lie in the test's own folder."""
    for name in ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "SGE_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # which remembers another test's TMPDIR
    monkeypatch.delitem(
        sys.modules, "tensorflow", raising=False
    )  # imported by other tests, never by a job before it chooses
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    lister(tmp_path, LISTING)


def lister(folder: Path, text: str) -> None:
    """The lister of devices as a machine with GPUs has it: a program that prints them."""
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && cat <<"EOF"\n{text}EOF\n')
    program.chmod(0o755)


def start(report: Path, seconds: float, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(report), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib"), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(report: Path, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while not report.exists() or not report.read_text():
        assert time.monotonic() < deadline, f"{report.name} did not come in {seconds} s"
        time.sleep(0.02)
    return report.read_text()


def test_five_jobs_on_two_devices_are_never_two_on_one_and_use_both(tmp_path):
    jobs = [start(tmp_path / f"{number}", 0.3) for number in range(5)]
    assert [job.wait(timeout=60) for job in jobs] == [0] * 5
    times = [(tmp_path / f"{number}.times").read_text().split() for number in range(5)]
    assert {name for name, _, _ in times} == {"0", "1"}
    for name in "01":
        held = sorted((float(start), float(end)) for device, start, end in times if device == name)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(held))


def test_a_job_that_is_killed_frees_its_device_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    first = start(tmp_path / "first", 60)
    assert wait_for(tmp_path / "first") == "1"
    second = start(tmp_path / "second", 0)
    assert second.stdout.readline().strip() == "waiting for a GPU: 1 are held by other jobs"
    assert second.poll() is None and not (tmp_path / "second").exists()
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=10)
    assert second.wait(timeout=20) == 0
    assert (tmp_path / "second").read_text() == "1"


def test_without_a_list_all_devices_of_the_machine_are_used_each_once(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    jobs = [start(tmp_path / f"{number}", 1) for number in range(2)]
    assert {wait_for(tmp_path / f"{number}") for number in range(2)} == {"0", "1"}
    assert [job.wait(timeout=20) for job in jobs] == [0, 0]


@pytest.mark.parametrize("scheduler", ["SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "SGE_TASK_ID"])
def test_the_device_that_a_scheduler_chose_is_taken_and_not_locked(tmp_path, monkeypatch, capsys, scheduler):
    monkeypatch.setenv(scheduler, "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # as the scheduler numbers them
    with device(1) as first, device(1) as second:
        assert first == second == os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert capsys.readouterr().out.startswith("on GPU 7, the scheduler's choice\n")
    assert not list(tmp_path.glob("restresponse-gpus-*"))


def test_jobs_inside_one_allocation_of_several_devices_share_them_out(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with device(1) as first, monkeypatch.context() as other:
        other.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with device(1) as second:
            assert {first, second} == {"0", "1"}
        other.setenv("SLURM_JOB_ID", "18")  # another allocation may call other devices by these numbers
        other.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with device(1) as third:
            assert third == "0"


def test_a_job_without_a_gpu_changes_nothing_and_says_that_the_one_it_was_given_is_not_used(monkeypatch, capsys):
    with device(0) as chosen:
        assert chosen is None and os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with device(0):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert capsys.readouterr().out == "GPU 0,1 was given to this job and is not used: classifier.gpu is 0\n"


def test_the_environment_is_as_before_when_the_device_is_given_back(monkeypatch):
    with device(1) as chosen:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen == "0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with device(1) as chosen:
        assert chosen == "0"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_where_nothing_says_which_devices_there_are_nothing_is_changed(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    lister(tmp_path, "")
    with device(1) as chosen:
        assert chosen is None and "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0,7", r"^CUDA_VISIBLE_DEVICES names GPU 7, and nvidia-smi lists 0, 1 alone; list .* or unset it"),
        ("GPU-123", r"^CUDA_VISIBLE_DEVICES names GPU GPU-123, and nvidia-smi lists 0, 1 alone"),
        (
            "",
            r"^CUDA_VISIBLE_DEVICES is '', which hides GPUs, and classifier.gpu is 1; unset .* set classifier.gpu to 0",
        ),
        ("-1", r"^CUDA_VISIBLE_DEVICES is '-1', which hides GPUs"),
    ],
)
def test_a_gpu_that_is_not_there_or_hidden_is_a_sentence(monkeypatch, given, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    with pytest.raises(InputError, match=message), device(1):
        pass


def test_devices_are_named_by_number_uuid_or_its_beginning_and_parts_of_a_gpu_stand_for_it():
    assert list(listed_devices(LISTING)) == ["0", "1"]
    assert list(listed_devices(DIVIDED)) == [*re.findall(r"MIG-[\w-]+", DIVIDED), "1"]
    assert listed_devices("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") == {}
    uuid = "GPU-6b1f0a52-0000-4a4b-8bb0-1f0d8a1b0002"
    for given in (["1"], [uuid], [uuid[:40], "0"]):
        assert named_devices(", ".join(given), listed_devices(LISTING)) == given
    assert named_devices("3,3, 5", {}) == ["3", "5"]


def test_a_device_is_chosen_before_tensorflow_or_not_at_all(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    with pytest.raises(RuntimeError, match="before tensorflow is imported"), device(1):
        pass


def test_a_folder_of_locks_that_someone_else_planted_is_not_used(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"restresponse-gpus-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not a folder of this user's own"), device(1):
        pass
