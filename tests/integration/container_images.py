"""The image of the Python steps for tests that run in containers: one for all of them, found or made once.

Nothing is installed or built unless RESTRESPONSE_TEST_INSTALL=1 (as in .ci/run): otherwise the tests take the image that
`make container` made or that RESTRESPONSE_TEST_IMAGE names, and are skipped, by name, where Apptainer or the image is missing.
"""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from restresponse import __version__
from restresponse.config import validate
from restresponse.containers import images
from running import ROOT

INSTALL = os.environ.get("RESTRESPONSE_TEST_INSTALL") == "1"
INSTALLER = ROOT.parent / "shared" / "tools" / "install_apptainer.sh"
MINOR = ".".join(platform.python_version_tuple()[:2])


def output_of(*command: str | Path, **variables: str) -> str:
    """Standard output of a command; where it fails, the test fails with all that the command said."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | variables,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@functools.cache
def found(*programs: str) -> str:
    """What is missing of the programs, as the reason of a skip; nothing where all are there or could be installed."""
    missing, said = [program for program in programs if not shutil.which(program)], ""
    if missing and INSTALL and os.geteuid() == 0 and shutil.which("apt-get"):
        try:
            if "apptainer" in missing and INSTALLER.is_file():
                output_of("bash", INSTALLER)
            if packages := [program for program in missing if program != "apptainer"]:
                apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600")
                output_of(*apt, "update")
                output_of(*apt, "install", "-y", "--no-install-recommends", *packages)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            said = f" (installing it failed: {' '.join(str(error).split())[-300:]})"
        missing = [program for program in programs if not shutil.which(program)]
    return ", ".join(missing) + (said if missing else "")


@pytest.fixture(scope="session")
def apptainer() -> str:
    if missing := found("apptainer"):
        pytest.skip(
            f"CONTAINERS NOT RUN: {missing} is not found; install Apptainer, or set RESTRESPONSE_TEST_INSTALL=1"
        )
    return "apptainer"


@pytest.fixture(scope="session")
def builder(apptainer, tmp_path_factory):
    """Run `containers/build` in storage and output of this run of the tests, on a root filesystem made here."""
    if not INSTALL:
        pytest.skip("IMAGES NOT BUILT: building takes minutes and gigabytes; RESTRESPONSE_TEST_INSTALL=1 does it")
    if missing := found("buildah", "mmdebstrap"):
        pytest.skip(f"IMAGES NOT BUILT: {missing} is not found and could not be installed (needs root and apt-get)")
    folder = tmp_path_factory.mktemp("containers")
    variables = {"ENGINE": "buildah", "STORAGE": str(folder / "storage"), "OUTPUT": str(folder)}
    output_of("containers/build", "rootfs", **variables)
    variables["OFFLINE_BASE"] = str(folder / f"rootfs-py{MINOR}.tar")
    storage = ("--root", folder / "storage/root", "--runroot", folder / "storage/run")
    yield lambda *stages, **more: output_of("containers/build", "image", *stages, **variables, **more), folder, storage
    output_of("buildah", *storage, "rm", "--all")
    output_of("buildah", *storage, "rmi", "--all", "--force")


@pytest.fixture(scope="session")
def image(apptainer, request) -> Path:
    """The image of the Python steps: the one that is there, or the stage's files as buildah mounts them (a SIF takes minutes)."""
    ready = os.environ.get("RESTRESPONSE_TEST_IMAGE") or images(validate({}, ROOT)["containers"], ROOT)["python"]
    if Path(ready).exists() or not INSTALL:
        if not Path(ready).exists():
            pytest.skip(
                f"CONTAINERS NOT RUN: no image {ready}; `make container` makes it, RESTRESPONSE_TEST_IMAGE names another"
            )
        return Path(ready)
    build, _, storage = request.getfixturevalue("builder")
    build("python", SIF="no")
    name = f"localhost/restresponse-python:{__version__}-py{MINOR}"
    container = output_of("buildah", *storage, "from", name).strip()
    return Path(output_of("buildah", *storage, "mount", container).strip())
