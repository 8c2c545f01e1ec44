"""A lock on the working directory is told of with the command that clears it, or with who is at work there."""

import subprocess
import sys

import pytest

from restresponse.locks import locked, running_in

COMMAND = [".venv/bin/snakemake", "--cores", "2", "--configfile", "my study.yaml"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    return tmp_path


def test_without_a_lock_nothing_is_said(folder, tmp_path):
    assert locked(folder, COMMAND) is None
    assert locked(tmp_path / "new", COMMAND) is None


def test_the_command_that_clears_the_lock_is_the_one_given_with_unlock(folder):
    (folder / ".snakemake/locks/0.output.lock").write_text("results/a\n")
    told = locked(folder, COMMAND)
    assert told.startswith(f"{folder} is locked, and no run is at work there on this machine")
    assert "\n  .venv/bin/snakemake --unlock --cores 2 --configfile 'my study.yaml'\n" in told
    assert f"\n  {sys.executable} -m snakemake --unlock -n\n" in locked(folder, ["/x/snakemake/__main__.py", "-n"])


def test_a_run_that_is_at_work_is_waited_for_and_its_lock_not_cleared(folder):
    (folder / ".snakemake/locks/0.output.lock").write_text("results/a\n")
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "snakemake"],
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    try:
        other.stdout.readline()
        assert running_in(folder) == [other.pid]
        told = locked(folder, COMMAND)
        assert f"snakemake is at work there (process {other.pid})" in told and "--unlock" not in told
    finally:
        other.kill()
        other.wait()
    assert running_in(folder) == []
