"""Holds an engine to being a set of nipype interfaces: while a step runs, voxels are read and written in interfaces alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import FileBasedImage
from nipype.interfaces.base import BaseInterface

from restresponse.engines import Engine

OPTIONAL = {"coregister_undistorted", "align", "unwarp_by_field", "unwarp_with_motion", "unwarp_by_registration"}
STEPS = Engine.__abstractmethods__ | OPTIONAL
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
        for name in ("__array__", "__getitem__", "get_unscaled"):
            patch.setattr(ArrayProxy, name, refused(getattr(ArrayProxy, name)))
        patch.setattr(FileBasedImage, "to_filename", refused(FileBasedImage.to_filename))
        yield seen
