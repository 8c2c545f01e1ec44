"""A job ends with a sentence for what the user can mend and with a traceback for the rest; its log is there and stops nothing."""

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from restresponse.adapter import job
from restresponse.engines import EngineFailure
from restresponse.engines.folder import failure_of
from restresponse.engines.reading import processing
from restresponse.errors import DamagedFile, InputError


def end_of(tmp_path, capsys, error, log="a.log"):
    """What a job that raises `error` says on the terminal, and its log."""
    with pytest.raises(SystemExit), job(SimpleNamespace(rule="stage_step", log=[str(tmp_path / log)], output=[])):
        raise error
    told = capsys.readouterr().err
    return told, (tmp_path / log).read_text()


@pytest.mark.parametrize("error", [InputError("no such column; add it"), DamagedFile("results/a.npy", "cut short")])
def test_a_sentence_for_the_user_stands_alone(tmp_path, capsys, error):
    told, log = end_of(tmp_path, capsys, error)
    assert told == log == f"stage_step: {error}\n"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (MemoryError(), "ran out of memory. Give it more"),
        (np._core._exceptions._ArrayMemoryError((10,), np.dtype(float)), "ran out of memory. Give it more"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "your quota is used up"),
        (OSError(errno.EROFS, "Read-only file system", "results/a"), "results/a cannot be written"),
        (OSError(errno.EIO, "Input/output error", "results/a"), "the disk failed at results/a"),
    ],
)
def test_a_failure_of_the_machine_ends_with_what_to_do(tmp_path, capsys, error, remedy):
    told, log = end_of(tmp_path, capsys, error)
    assert told == log and "Traceback" in told
    assert remedy in told.splitlines()[-1] and "run the same command again" in told.splitlines()[-1]


def test_a_fault_of_the_program_ends_with_its_traceback_alone(tmp_path, capsys):
    told, _ = end_of(tmp_path, capsys, KeyError("x"))
    assert told.startswith("Traceback") and told.rstrip().endswith("KeyError: 'x'")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_on_a_full_disk_stops_no_job(tmp_path, capsys):
    (tmp_path / "a.log").symlink_to("/dev/full")
    with job(SimpleNamespace(rule="stage_step", log=[str(tmp_path / "a.log")], output=[])):
        print("said")
        print("warned", file=sys.stderr)
    assert capsys.readouterr() == ("said\n", "warned\n")


def test_a_log_that_cannot_be_opened_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SystemExit),
        job(SimpleNamespace(rule="stage_step", log=[str(tmp_path / "file/a.log")], output=[])),
    ):
        pytest.fail("not reached")
    assert "stage_step: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.ENOSPC, "No space left"), DamagedFile("T1w", "cut short")]
)
def test_what_the_machine_did_is_not_recorded_of_a_scan_and_nothing_is_left(tmp_path, error):
    outputs = {"image": tmp_path / "out/image.nii.gz", "record": tmp_path / "out/record.json"}
    with pytest.raises(type(error)), processing("embedded", {}, outputs, {}) as (works, _):
        (works.folder / "half").write_text("half")
        raise error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "limited", "kind"),
    [
        ("Return code: -9", False, MemoryError),
        ("terminate called after throwing std::bad_alloc", False, MemoryError),
        ("Return code: -7", False, MemoryError),
        ("Return code: -11", True, MemoryError),  # under a limit of memory
        ("Return code: -11", False, EngineFailure),
        ("Return code: 1", True, EngineFailure),
    ],
)
def test_a_program_that_died_for_want_of_memory_is_the_machines_failure(tmp_path, monkeypatch, said, limited, kind):
    import resource

    limit = 2**40 if limited else resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert type(failure_of("niimath", said, "its words", tmp_path)) is kind


def test_a_job_clears_what_a_killed_one_left_of_its_outputs(tmp_path):
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    left = tmp_path / f".{gone}-0123abcd-a.npy"
    left.write_text("half")
    with job(SimpleNamespace(rule="stage_step", log=[str(tmp_path / "a.log")], output=[str(tmp_path / "a.npy")])):
        assert not left.exists()
