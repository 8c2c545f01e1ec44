"""The fabricated results as fixtures, and the report's page of them."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from restresponse.report.page import Run


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> tuple[Path, SimpleNamespace]:
    """The folder of the fabricated results, made once a session, and what the workflow's rules would be given."""
    from fabricated_cohort import tiny_config
    from fabricated_metrics import write_metrics
    from fabricated_results import build

    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        tree = build(tiny_config())
        write_metrics(tree)
    return folder, tree


@pytest.fixture
def tree(whole, tmp_path, monkeypatch) -> SimpleNamespace:
    """A copy of the fabricated results in the working directory; what the rules would be given.

    Files are linked: whole files are replaced by the library's writers, never changed in place.
    """
    folder, found = whole
    shutil.copytree(folder / "results", tmp_path / "results", copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def tested(tree) -> list[str]:
    """The test participants of the fold that is tampered with, the first."""
    from restresponse.files import read_table

    folds = read_table("results/folds/folds.tsv")
    return sorted(folds.loc[folds["fold"] == tree.plan.folds[0], "participant_id"])


@pytest.fixture
def run(tree) -> Run:
    """`tree` as the report's rule gives it to the page."""
    from fabricated_page import run_of

    return run_of(tree)


@pytest.fixture(scope="session")
def shown(whole) -> dict[str, Any]:
    """What the page of the untouched results shows."""
    from fabricated_page import run_of

    from restresponse.report.page import content

    folder, tree = whole
    with contextlib.chdir(folder):
        return content(run_of(tree))
