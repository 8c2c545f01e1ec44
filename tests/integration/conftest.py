"""Runs of the workflow that the integration tests share: the demo (once, in place) and a tiny cohort (once)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from container_images import apptainer, builder, image  # noqa: F401 (fixtures)

from running import ROOT, TINY, run_snakemake


def make_phantom(bids: Path, truth: Path, *arguments: str) -> None:
    """Make a phantom cohort, or leave the complete one that is there."""
    subprocess.run(
        [sys.executable, "-m", "restresponse.phantom", str(bids), "--truth", str(truth), "--jobs", "2", *arguments],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib")},
    )


@pytest.fixture(scope="session")
def demo() -> Path:
    """The checkout after `make demo`: nothing is computed again where that has run."""
    make_phantom(ROOT / "demo" / "bids", ROOT / "demo" / "truth")
    run_snakemake(ROOT, "--quiet", "rules", config=ROOT / "config" / "demo.yaml")
    return ROOT


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a phantom of eight participants at a size for tests."""
    folder = tmp_path_factory.mktemp("tiny")
    make_phantom(
        folder / "bids",
        folder / "truth",
        *("--participants", "8", "--responders", "4", "--volumes", "60"),
        *("--bold-voxel-size", "8", "--t1w-voxel-size", "4"),
    )
    return folder


@pytest.fixture(scope="session")
def tiny_study(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort after a whole run of the workflow; tests work on copies of it."""
    study = tmp_path_factory.mktemp("tiny_study") / "study"
    shutil.copytree(tiny_cohort, study)
    run_snakemake(study, config=TINY)
    return study


@pytest.fixture
def study(tiny_study: Path, tmp_path: Path) -> Path:
    """A copy of the finished tiny study, times of the files kept."""
    return Path(shutil.copytree(tiny_study, tmp_path / "study", copy_function=shutil.copy2))
