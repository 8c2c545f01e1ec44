"""A real Slurm of one node on this machine, with two made-up GPUs: its daemons, its munge, started and stopped.

    python tests/integration/slurm_cluster.py FOLDER

starts one to try things by hand, until Enter is pressed. It needs root: `/etc/slurm/slurm.conf` is where jobs of jobs
look for the configuration, and is only ever written where there is none.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")
MARK = "# of a restresponse test"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "munged")
INSTALL = "RESTRESPONSE_TEST_INSTALL"

_CONF = """{mark}
ClusterName=restresponse
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdParameters=config_overrides
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,defer=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MinJobAge=900
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP
"""


@dataclass(frozen=True)
class Job:
    """A job as `scontrol` shows it: what it is, what was asked for, how and when it ended."""

    number: int
    comment: str
    state: str
    memory_mb: int
    cpus: int
    minutes: int
    gpus: int
    start: str
    end: str


def reason_not() -> str | None:
    """Why no cluster can be started here, after installing what is missing where that is allowed; None where one can."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    if not _missing() or os.environ.get(INSTALL) != "1":
        return f"{', '.join(_missing())} not installed ({INSTALL}=1 installs them)" if _missing() else _occupied()
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *command],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    if _missing():
        return f"{', '.join(_missing())} could not be installed: {done.stderr.strip()[-300:]}"
    return _occupied()


def _missing() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


def _occupied() -> str | None:
    conf = CONFIGURATION / "slurm.conf"
    if conf.exists() and not conf.read_text().startswith(MARK):
        return f"{conf} is there already, and a real cluster's configuration is not touched"
    return None


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start munge, the controller and the node; wait until the node is idle; stop all at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir(exist_ok=True)
    host = socket.gethostname().split(".")[0]
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) // 1024
    devices = [_made_up_device(folder / f"gpu{index}") for index in range(2)]
    CONFIGURATION.mkdir(exist_ok=True)
    conf, gres = CONFIGURATION / "slurm.conf", CONFIGURATION / "gres.conf"
    conf.write_text(
        _CONF.format(
            mark=MARK,
            folder=folder,
            host=host,
            memory=min(memory - 500, 12000),
            ctld_port=_free_port(),
            slurmd_port=_free_port(),
        )
    )
    gres.write_text(f"{MARK}\n" + "".join(f"NodeName={host} Name=gpu File={path}\n" for path in devices))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    munge = [f"--{name}-file={folder}/munge.{name.split('-')[0]}" for name in ("key", "pid", "log", "seed")]
    daemons: list[subprocess.Popen] = []
    log = (folder / "daemons.log").open("w")
    try:
        for command in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D"],
        ):
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            time.sleep(1)
        _wait_until_idle(folder, 60)
        yield
    finally:
        _cancel_all(20)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
        log.close()
        conf.unlink()
        gres.unlink()


def _made_up_device(path: Path) -> Path:
    """A character device as a GPU has one: a second name of /dev/null."""
    if not path.exists():
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 3))
    return path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_until_idle(folder: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done = subprocess.run(["sinfo", "--noheader", "--format=%T %G"], capture_output=True, text=True, check=False)
        if done.stdout.split() == ["idle", "gpu:2"]:
            return
        time.sleep(0.5)
    logs = "".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"the node is not idle after {seconds} s: {done.stdout}{done.stderr}\n{logs}")


def _cancel_all(seconds: float) -> None:
    """End every job: what still runs when the daemons stop would run on without them."""
    deadline = time.monotonic() + seconds
    subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=seconds, check=False)
    while time.monotonic() < deadline:
        left = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=seconds, check=False)
        if not left.stdout.strip():
            return
        time.sleep(0.3)


def jobs() -> list[Job]:
    """Every job the controller remembers, in the order of submission."""
    done = subprocess.run(
        ["scontrol", "--details", "--oneliner", "show", "job"], capture_output=True, text=True, timeout=20, check=True
    )
    found = []
    for line in done.stdout.splitlines():
        if not line.startswith("JobId="):
            continue
        comment = re.search(r"Comment=(.*?) \w+=", line)
        value = dict(re.findall(r"(\w+)=(\S*)", line))
        hours, minutes, _ = map(int, value["TimeLimit"].replace("-", ":").split(":")[-3:])
        found.append(
            Job(
                number=int(value["JobId"]),
                comment=comment[1] if comment else "",
                state=value["JobState"],
                memory_mb=_mib(value["MinMemoryNode"]),
                cpus=int(value["NumCPUs"].split("-")[0]),
                minutes=60 * hours + minutes,
                gpus=int(re.search(r"gres:gpu:(\d+)", value.get("TresPerJob", "gres:gpu:0"))[1]),
                start=value["StartTime"],
                end=value["EndTime"],
            )
        )
    return sorted(found, key=lambda job: job.number)


def log_of_node() -> str:
    """What the node's daemon has written."""
    return Path(re.search(r"SlurmdLogFile=(.*)", (CONFIGURATION / "slurm.conf").read_text())[1]).read_text()


def _mib(text: str) -> int:
    return round(float(text.rstrip("KMGT")) * {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}.get(text[-1], 1))


if __name__ == "__main__":
    if reason := reason_not():
        sys.exit(reason)
    with cluster(Path(sys.argv[1]).resolve()):
        input("Slurm is running; press Enter to stop it. ")
