"""What a run keeps of its scans: for the tests of how much lies in the results folder."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib


def kept_series(results: Path) -> dict[str, list[str]]:
    """The whole 4D images that preprocessing and denoising kept, compressed or not, by scan: how their names end."""
    found: dict[str, list[str]] = {}
    for image in sorted([*results.glob("functional/**/*.nii*"), *results.glob("anatomical/**/*.nii*")]):
        if image.stat().st_size and nib.load(image).ndim == 4:  # of a failed scan there are empty files
            scan, _, ending = image.name.partition("_space-")
            found.setdefault(scan, []).append(ending)
    return found


def left_behind(results: Path) -> list[Path]:
    """Working folders and files that were not yet renamed when their job ended; Snakemake's own files are none of them."""
    hidden = [path for path in results.rglob(".*") if not path.name.startswith(".snakemake")]
    return [path for path in hidden if path.name != ".bidsignore"]
