"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from running import SHARED_DATA, write_bids_tree


@pytest.fixture
def bids_tree(tmp_path: Path) -> Path:
    """Eight participants, five of them responders; images of zeros."""
    return write_bids_tree(tmp_path / "bids")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; the test is skipped, by name, where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {SHARED_DATA} is not there, so this test of real input did not run")
    return SHARED_DATA
