"""What a page calls each measure, part and number; and how a page is rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.files import write_text
from restresponse.quality.inclusion import LIMITS


@dataclass(frozen=True)
class Measure:
    """Words of one measure: name, as the heading of a narrow column, unit, digits, what it tells."""

    words: str
    short: str
    unit: str
    digits: int
    tells: str


WORDS = {
    "n_volumes": Measure("volumes", "volumes", "", 0, "length of the scan"),
    "mean_framewise_displacement": Measure(
        "mean framewise displacement", "mean FD", "mm", 3, "how much the head moved between volumes (Power 2012)"
    ),
    "maximum_framewise_displacement": Measure(
        "greatest framewise displacement", "greatest FD", "mm", 2, "the worst jerk"
    ),
    "n_outliers": Measure(
        "outlier volumes",
        "outlier volumes",
        "",
        0,
        "volumes that moved or jumped too far; each costs a degree of freedom",
    ),
    "mean_dvars": Measure(
        "mean DVARS", "DVARS", "of 1000", 1, "change of the image from volume to volume, brain's median at 1000"
    ),
    "mean_std_dvars": Measure(
        "mean standardised DVARS", "std. DVARS", "", 2, "the same, against what the noise predicts: 1 in a quiet scan"
    ),
    "tsnr": Measure(
        "temporal SNR", "tSNR", "", 0, "median over the brain of mean / standard deviation in time, after smoothing"
    ),
    "coverage": Measure("coverage", "coverage", "", 3, "share of the template's brain in which the scan has signal"),
    "overlap": Measure(
        "overlap of the brain masks",
        "overlap",
        "Dice",
        3,
        "the scan's own brain mask, carried to MNI, with the template's",
    ),
    "brain_volume": Measure(
        "T1w: brain volume", "brain", "ml", 0, "what brain extraction left of the T1w; an adult's is 1,000 to 2,000 ml"
    ),
    "template_correlation": Measure(
        "T1w: likeness to the template",
        "T1w likeness",
        "r",
        2,
        "correlation of the normalised T1w with the template inside the brain; below 0.3 it has failed",
    ),
    "dof_bandpass": Measure(
        "dimensions in the band", "dof of the band", "", 0, "degrees of freedom that the band-pass filter leaves"
    ),
    "dof_residual": Measure(
        "residual degrees of freedom", "residual dof", "", 0, "what filter and regressors leave together"
    ),
}
PARTS = {  # part of the denoising -> words, colour
    "mean": ("mean", "#8a8a8a"),
    "bandpass": ("band-pass filter", "#56B4E9"),
    "motion": ("motion parameters", "#D55E00"),
    "white_matter": ("white-matter components", "#E69F00"),
    "csf": ("CSF components", "#CC79A7"),
    "linear_trend": ("linear trend", "#F0E442"),
    "outlier_volumes": ("outlier volumes", "#7a3b00"),
}
LIMIT_OF = {measure: (key, side) for measure, key, side, _, _ in LIMITS}


def render(
    template: str, page: str | Path, content: Mapping[str, Any], check: Callable[[str], None] | None = None
) -> None:
    """Render a template of this folder: every value escaped, an unknown one an error; `check` looks at the page before."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("restresponse.quality.pages", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(content)
    if check is not None:
        check(text)
    write_text(page, text)


def shown(value: Any, digits: int = 2) -> str:
    """A number with fixed digits; n/a for what is missing."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        return "n/a"
    return f"{value:.{digits}f}"


def measure_rows(measures: Mapping[str, Any], limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a measure: words, value, limit and whether the value keeps it (None: there is no limit)."""
    rows = []
    for name, words in WORDS.items():
        key, side = LIMIT_OF.get(name, (None, None))
        limit, value = limits.get(key) if key else None, measures.get(name)
        keeps = None
        if limit is not None:
            keeps = value is not None and (value <= limit if side == "above" else value >= limit)
        rows.append(
            {
                "words": words.words,
                "unit": words.unit,
                "tells": words.tells,
                "value": shown(value, words.digits),
                "measured": value is not None,
                "limit": "" if limit is None else f"{'at most' if side == 'above' else 'at least'} {limit:g}",
                "keeps": keeps,
            }
        )
    return rows
