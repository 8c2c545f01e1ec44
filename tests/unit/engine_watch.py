"""Holds an engine to being a set of nipype interfaces: while a step runs, voxels are read and written in interfaces alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import pytest
from nibabel.analyze import AnalyzeImage
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Pair
from nipype.interfaces.base import BaseInterface

from restresponse import grid
from restresponse.engines import Engine

OPTIONAL = {"coregister_undistorted", "align", "unwarp_by_field", "unwarp_with_motion", "unwarp_by_registration"}
STEPS = Engine.__abstractmethods__ | OPTIONAL
# under everything that gets voxels out of a file or into one, and what has the template's ready in memory
VOXELS: dict[Any, tuple[str, ...]] = {
    ArrayProxy: ("_get_scaled", "_get_unscaled"),
    AnalyzeImage: ("to_file_map",),
    Nifti1Pair: ("to_file_map",),
    shutil: ("copyfile",),
    np: ("fromfile",),
    grid: ("template_image", "template_maps", "brain_mask", "resample"),
}
_depth = {"step": 0, "interface": 0}


@contextmanager
def _within(what: str) -> Iterator[None]:
    _depth[what] += 1
    try:
        yield
    finally:
        _depth[what] -= 1


def as_interface(method: Callable) -> Callable:
    """A method whose work counts as an interface's: one that stands for a program in a test."""

    @wraps(method)
    def run(*arguments: Any, **named: Any) -> Any:
        with _within("interface"):
            return method(*arguments, **named)

    return run


@contextmanager
def voxels_in_interfaces_alone(works: type[Engine]) -> Iterator[set[str]]:
    """Fail where a step of an engine reads or writes voxels itself; yields the names of the steps that were run."""
    seen: set[str] = set()

    def watched(name: str, method: Callable) -> Callable:
        @wraps(method)
        def run(*arguments: Any, **named: Any) -> Any:
            seen.add(name)
            with _within("step"):
                return method(*arguments, **named)

        return run

    def refused(method: Callable) -> Callable:
        @wraps(method)
        def run(*arguments: Any, **named: Any) -> Any:
            assert not _depth["step"] or _depth["interface"], (
                f"a step of {works.__name__} uses {method.__qualname__} outside a nipype interface"
            )
            return method(*arguments, **named)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(works, name, watched(name, getattr(works, name)))
        patch.setattr(BaseInterface, "run", as_interface(BaseInterface.run))
        for place, names in VOXELS.items():
            for name in names:
                patch.setattr(place, name, refused(getattr(place, name)))
        yield seen
