"""When the machine fails: processes killed at random, a full or read-only disk, no memory, files cut in half, a lock left behind.

Once the cause is gone, one more run ends with the same numbers, and no half-written file was taken for whole.
"""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from short_study import GROUP, MAPS, ORDER, PARTICIPANTS, TARGETS, digests, write_study

from restresponse.files import read_array, read_json, read_table
from running import ROOT, run_snakemake, snakemake_command

pytestmark = pytest.mark.slow
SEEDS = int(os.environ.get("RESTRESPONSE_KILLS", "20"))  # fewer for a look
LATER = ("results/group_ica", "results/dual_regression")  # what the random kills are in
SCAN = "sub-01_task-rest"


def functional(number, ending):
    """A file of a scan's folder."""
    return f"results/functional/sub-{number}_task-rest/sub-{number}_task-rest_{ending}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The short study after a whole run."""
    study = write_study(tmp_path_factory.mktemp("short") / "study")
    before = digests(study, "store")
    run_snakemake(study, *TARGETS, config=study / "study.yaml")
    assert digests(study, "store") == before  # what the links of the dataset lead to
    return study


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study, times kept; the dataset's links still lead to the first one's images."""
    return copy_of(finished, tmp_path / "study")


def copy_of(finished, target):
    return Path(shutil.copytree(finished, target, copy_function=shutil.copy2, symlinks=True))


def numbers_of(study):
    """Digests of everything numeric that the later stages made; sidecars say the same of the same files."""
    found = digests(study, *LATER)
    return {path: digest for path, digest in found.items() if path.endswith((".npy", ".tsv", ".json"))}


def run(study, *arguments, check=True):
    return run_snakemake(study, *arguments, *TARGETS, config=study / "study.yaml", check=check)


def start(study, log, **popen):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib"), "PYTHONNOUSERSITE": "1"}
    command = snakemake_command(study, *TARGETS, config=study / "study.yaml")
    with log.open("w") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True, **popen
        )


def wait_for(running, log, wanted, times):
    """Wait until the log has a line of `wanted` so many times; False where the run ended before."""
    deadline = time.monotonic() + 300
    while len(re.findall(wanted, log.read_text(), re.MULTILINE)) < times:
        if running.poll() is not None:
            return False
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)
    return True


def jobs_in(study):
    """Processes of jobs at work in a study: those that run a script of Snakemake's."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(study / ".snakemake/scripts").encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def are_whole(study):
    """Everything under its final name can be read to its end, and a folder of a batch has all of its participants."""
    for part in LATER:
        for path in (study / part).rglob("*"):
            if any(step.startswith(".") for step in path.relative_to(study).parts) or not path.is_file():
                continue
            if path.suffix == ".npy":
                read_array(path, memory_map=False)
            elif path.suffix == ".json":
                read_json(path)
            elif path.suffix == ".tsv":
                read_table(path)
    for number, folder in enumerate(MAPS):
        if (study / folder).exists():
            names = {path.name for path in (study / folder).glob("*_maps.npy")}
            assert names == {f"{name}_maps.npy" for name in PARTICIPANTS[2 * number : 2 * number + 2]}
    return True


def test_a_run_killed_at_any_moment_ends_with_the_same_numbers_after_one_more(finished, tmp_path):
    """20 seeds: the scheduler alone (its jobs live on), everything at once, or a job alone; in an early or a late step."""
    wanted, killed = numbers_of(finished), 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        study = copy_of(finished, tmp_path / f"study{seed}")
        for part in LATER:
            shutil.rmtree(study / part)
        if seed % 5 == 0:
            shutil.rmtree(study / f"results/functional/{chance.choice(PARTICIPANTS)}_task-rest")
        log = tmp_path / f"log{seed}"
        running = start(study, log)
        after, delay, kind = chance.randrange(7), chance.uniform(0, 1.2), ("scheduler", "all", "job")[seed % 3]
        if wait_for(running, log, r"^Finished jobid" if after else r"^(local)?rule \w+:", max(after, 1)):
            time.sleep(delay)
            killed += kill(running, kind, study)
        running.wait(timeout=300)
        assert are_whole(study), f"seed {seed}"
        if kind != "job":
            run_snakemake(study, "--unlock", config=study / "study.yaml")
        run(study)
        assert numbers_of(study) == wanted, f"seed {seed}: {kind} killed {delay:.2f} s after {after} jobs"
        if kind != "scheduler":  # whose jobs may still be at it
            assert not [path for path in study.rglob("results/**/.*") if re.match(r"\.\d+-[0-9a-f]{8}-", path.name)]
        shutil.rmtree(study, ignore_errors=True)
    assert killed >= 0.75 * SEEDS  # else the test shows nothing: the runs ended before


def kill(running, kind, study):
    """SIGKILL; whether there was something to kill."""
    if running.poll() is not None:
        return False
    if kind == "all":
        os.killpg(running.pid, signal.SIGKILL)
    elif kind == "scheduler":
        os.kill(running.pid, signal.SIGKILL)
    else:
        jobs = jobs_in(study)
        for job in jobs[:1]:
            try:
                os.kill(job, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(jobs)
    return True


def test_a_stale_lock_is_explained_with_the_command_that_clears_it(study, tmp_path):
    for part in LATER:
        shutil.rmtree(study / part)
    log = tmp_path / "log"
    running = start(study, log)
    assert wait_for(running, log, r"^(local)?rule \w+:", 1)
    os.killpg(running.pid, signal.SIGSTOP)  # or it may have ended before the other one looks
    during = run(study, "--dry-run", check=False).stdout
    assert f"{study} is locked, and snakemake is at work there (process " in during and "--unlock" not in during
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    refused = run(study, check=False)
    assert refused.returncode != 0
    [command] = re.findall(r"clear the lock with\n\s+(.*--unlock .*)\n", refused.stdout)
    subprocess.run(shlex.split(command), check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "workflow/lib"})
    assert "is locked" not in run(study).stdout


KERNEL = f"results/classifier/kernels/all/order-{ORDER}/gram.npy"


@pytest.mark.parametrize(
    ("reader", "cut"),
    [
        ("functional_denoise", functional("03", "space-MNI152_desc-preproc_bold.nii.gz")),
        ("functional_denoise", functional("04", "desc-confounds_timeseries.tsv")),
        ("group_ica_reduce", f"results/functional/denoised/batch-01/{SCAN}_space-MNI152_desc-denoised_bold.nii.gz"),
        ("quality_inclusion", "results/quality/scans/batch-01/sub-02_task-rest.json"),
        ("group_ica_reduce", "results/quality/inclusion.tsv"),
        ("dual_regression_maps", "results/quality/group_mask.nii.gz"),
        ("group_ica_gram", "results/group_ica/participants/batch-02/sub-03_reduced.npy"),
        ("dual_regression_maps", f"{GROUP}/components.npy"),
        ("classifier_kernel", f"{MAPS[0]}/sub-01_maps.npy"),
    ],
    ids=("image", "confounds", "denoised", "measures", "inclusion", "mask", "reduction", "components", "maps"),
)
def test_a_file_cut_in_half_is_named_with_what_removes_it_and_never_counts_as_a_scans_failure(study, reader, cut):
    """Snakemake looks at a folder's time alone and would not read it again by itself: the job that reads it is asked for."""
    wanted, content = numbers_of(study), (study / cut).read_bytes()
    (study / cut).write_bytes(content[: len(content) // 2])
    targets = [*TARGETS, *([KERNEL] if reader == "classifier_kernel" else [])]
    done = run_snakemake(study, *targets, "--forcerun", reader, config=study / "study.yaml", check=False)
    assert done.returncode != 0, done.stdout[-3000:]
    assert f"{cut} is not whole" in done.stdout, done.stdout[-5000:]
    assert "Traceback" not in done.stdout
    records = [
        *study.glob("results/functional/*/*_task-rest.json"),
        *study.glob("results/functional/**/*denoised.json"),
    ]
    assert "failed" not in {read_json(path)["status"] for path in records}
    [remove] = set(re.findall(r"^\s+(rm .*)$", done.stdout, re.MULTILINE))
    subprocess.run(shlex.split(remove), check=True, cwd=study)
    run_snakemake(study, *targets, "--forcerun", reader, config=study / "study.yaml")  # the same command again
    assert numbers_of(study) == wanted


def test_a_job_out_of_memory_fails_and_is_not_taken_for_a_failed_scan(study):
    """A limit of address space, under which Python and its libraries load and one array more does not fit."""
    folder = study / "scan"
    job = f"""
import sys, resource
sys.path.insert(0, {str(ROOT / "workflow/lib")!r})
from types import SimpleNamespace
from restresponse.adapter import job
import nibabel, pandas, scipy.ndimage
from restresponse import grid
from restresponse.functional.derivatives import adopt_scan
from restresponse.engines import engine
import restresponse.engines.embedded
used = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 500_000, used + 500_000))
outputs = {{key: {str(folder)!r} + "/" + name for key, name in dict(image="i.nii.gz", mask="m.nii.gz", confounds="c.tsv", confounds_facts="c.json", record="r.json").items()}}
with job(SimpleNamespace(log=["results/logs/memory.log"], rule="functional_adopt", output=list(outputs.values()))):
    adopt_scan({str(study / f"preprocessed/sub-01/func/{SCAN}_space-MNI152_desc-preproc_bold.nii.gz")!r}, outputs, space="MNI152",
               origin=None, repetition_time=2.6, engine="embedded", voxel_size=12, smoothing_fwhm=0)
"""
    done = subprocess.run(
        [sys.executable, "-c", job],
        cwd=study,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1
    assert "functional_adopt: the job ran out of memory. Give it more" in done.stderr, done.stderr[-2000:]
    assert not list(folder.iterdir())  # no record that says failed, no work folder, nothing half-written


def test_a_full_disk_stops_the_run_with_a_sentence_and_loses_nothing(finished, tmp_path):
    """The results on a file system in memory that is too small, then made larger."""
    study, disk = copy_of(finished, tmp_path / "study"), tmp_path / "study/results"
    shutil.rmtree(disk)
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk))
    try:
        done = run(study, check=False)
        assert done.returncode != 0
        assert "the disk is full, or your quota is used up. Free some space" in done.stdout, done.stdout[-5000:]
        assert not [
            path
            for path in disk.rglob("functional/**/*.json")
            if json.loads(path.read_text() or "{}").get("status") == "failed"
        ]
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        run(study)
        assert numbers_of(study) == numbers_of(finished)
        assert read_table(study / "results/quality/inclusion.tsv")["included"].all()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_read_only_results_folder_stops_the_run_with_a_sentence(finished, study):
    results = study / "results"
    for part in LATER:
        shutil.rmtree(study / part)
    mount("--bind", str(results), str(results))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
        done = run(study, check=False)
        assert done.returncode != 0
        assert re.search("Read-only file system|Write-protected output", done.stdout), done.stdout[-3000:]
    finally:
        subprocess.run(["umount", "-l", str(results)], check=True)
    run_snakemake(study, "--unlock", config=study / "study.yaml")
    run(study)
    assert numbers_of(study) == numbers_of(finished)


def mount(*arguments):
    """Mount, or skip by name where this user cannot."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(
            f"NO MOUNT: this user cannot mount a file system here ({done.stderr.strip()}), so this fault was not made"
        )
