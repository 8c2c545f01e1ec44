"""The JSON sidecar of a fitted artefact: on whom it was fitted, whose labels were read, to whom it was applied.

The lists are written by the code that loaded the files, from what it loaded; the audit in `metrics` checks them.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restresponse import __version__
from restresponse.files import digest_of, write_json

_RECORDED = (
    "numpy",
    "scipy",
    "nibabel",
    "scikit-learn",
    "nilearn",
    "nipype",
    "optuna",
    "keras",
    "tensorflow",
    "niimath",
    "picsl-greedy",
)


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that computed the results, read without importing them."""
    found = {"python": platform.python_version(), "restresponse": __version__}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_sidecar(
    path: str | Path,
    *,
    fitted_on: Iterable[str] = (),
    labels_of: Iterable[str] = (),
    applied_to: Iterable[str] = (),
    sources: Iterable[str | Path] = (),
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    **further: Any,
) -> None:
    """Write the sidecar of a fitted artefact.

    Parameters
    ----------
    path : path of the sidecar (`.json`).
    fitted_on : participants whose data the artefact was fitted on.
    labels_of : participants whose labels were read.
    applied_to : participants the artefact was applied to without being fitted on them.
    sources : files that were read; each is recorded with its SHA-256.
    parameters, seed : what the fit was given.
    further : any other facts of the artefact (JSON types).
    """
    write_json(
        path,
        {
            "fitted_on": sorted(fitted_on),
            "labels_of": sorted(labels_of),
            "applied_to": sorted(applied_to),
            "sources": {str(source): digest_of(source) for source in sources},
            "parameters": dict(parameters or {}),
            "seed": seed,
            "versions": versions(),
            **further,
        },
    )
