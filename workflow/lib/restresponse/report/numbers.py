"""Numbers as the pages show them."""

from __future__ import annotations

from typing import Any

import numpy as np


def number(value: Any, digits: int = 2) -> str:
    """A number with fixed digits; n/a for what is missing."""
    return f"{value:.{digits}f}" if isinstance(value, int | float | np.number) and np.isfinite(value) else "n/a"


def p_value(value: Any) -> str:
    """A p value: three digits, never 0."""
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        return "n/a"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
