"""A small scan of noise and its confounds, for the tests of stage `functional`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from restresponse.functional.confounds import confounds

TR, SHAPE = 2.6, (10, 10, 10)


def noise_scan(n_scans: int = 160) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], pd.DataFrame]:
    """Noise with white matter and CSF in two corners, its drifting motion, its masks, and its confounds."""
    random = np.random.default_rng(0)
    image = (1000 + 10 * random.standard_normal((*SHAPE, n_scans))).astype(np.float32)
    motion = np.cumsum(random.standard_normal((n_scans, 6)) * ([0.02] * 3 + [0.0002] * 3), axis=0)
    masks = {name: np.zeros(SHAPE, bool) for name in ("brain", "WM", "CSF")}
    masks["brain"][1:-1, 1:-1, 1:-1] = True
    masks["WM"][2:5, 2:6, 2:5], masks["CSF"][6:9, 2:6, 6:9] = True, True
    return image, motion, masks, confounds(image, np.eye(4), TR, motion, masks)
