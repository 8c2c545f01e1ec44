"""Averages of the scans that are used, in MNI space: sharp where every scan lies as the template does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from restresponse import grid
from restresponse.files import read_array, read_json, write_array, write_json
from restresponse.quality.pages.mosaic import Mosaic, Picture

_LEAST_LOST = 0.005  # share of scans without signal from which a voxel is coloured


def maps_of_scan(
    mean: np.ndarray, deviation: np.ndarray | None, signal: np.ndarray, t1w: np.ndarray | None, brain: np.ndarray
) -> dict[str, np.ndarray]:
    """What one scan adds to the averages, each (n_x, n_y, n_z) and of a scale that scans share.

    Parameters
    ----------
    mean, deviation : (n_x, n_y, n_z) in time; a deviation of None: the mean in time is not known, and so are both maps of it
    signal : (n_x, n_y, n_z) bool, where the scan has signal
    t1w : (n_x, n_y, n_z), the participant's T1w image; None where there is none
    brain : (n_x, n_y, n_z) bool, the template's

    Returns
    -------
    maps : `lost`, 1 where the brain has no signal; `EPI` and `T1w`, median of 1 in the brain; `tSNR`
    """
    maps = {"lost": (brain & ~signal).astype(np.float32)}
    if deviation is not None and signal.any():
        maps["EPI"] = (mean / np.median(mean[signal])).astype(np.float32)
        varying = signal & (deviation > 0)
        maps["tSNR"] = np.divide(mean, deviation, out=np.zeros_like(mean), where=varying).astype(np.float32)
    if t1w is not None and (t1w[brain] > 0).any():
        maps["T1w"] = (t1w / np.median(t1w[brain & (t1w > 0)])).astype(np.float32)
    return maps


class Sums:
    """Sums of maps over scans, so that a batch hands on one volume a map however many scans it has."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}

    def add(self, maps: Mapping[str, np.ndarray], count: int = 1) -> None:
        """Add maps of one scan, or sums of `count`."""
        for name, values in maps.items():
            self._sums[name] = self._sums.get(name, 0) + np.asarray(values, np.float64)
            self._counts[name] = self._counts.get(name, 0) + count

    def write(self, folder: Path) -> None:
        """Write `averages.json`, number of scans by map, and a `sum_{map}.npy` each."""
        for name, values in self._sums.items():
            write_array(folder / f"sum_{name}.npy", values.astype(np.float32))
        write_json(folder / "averages.json", self._counts)

    def averages(self) -> dict[str, tuple[np.ndarray, int]]:
        """Map -> average over its scans, number of them."""
        return {name: (values / self._counts[name], self._counts[name]) for name, values in self._sums.items()}


def read_averages(folders: Iterable[str | Path]) -> dict[str, tuple[np.ndarray, int]]:
    """The averages over all batches: map -> (n_x, n_y, n_z) array, number of scans."""
    sums = Sums()
    for folder in map(Path, folders):
        for name, count in read_json(folder / "averages.json").items():
            sums.add({name: read_array(folder / f"sum_{name}.npy")}, count)
    return sums.averages()


def draw_averages(averages: Mapping[str, tuple[np.ndarray, int]], affine: np.ndarray) -> list[Picture]:
    """Draw what there is of the averages on slices in MNI space, the template's white matter outlined.

    Parameters
    ----------
    averages : of `read_averages`
    affine : (4, 4), of their grid
    """
    if not averages:
        return []
    mosaic, outline = Mosaic(affine, dots=110, font=9), {"#56B4E9": grid.template_image("WM", abs(float(affine[0, 0])))}

    def drawn(name: str) -> str:
        values = averages[name][0]
        if name == "lost":
            return mosaic.draw(values, 1.0, colours="autumn", above=_LEAST_LOST)
        if name == "tSNR":
            return mosaic.draw(values, _top(values[mosaic.brain]), colours="magma", bar="temporal SNR")
        return mosaic.draw(values, _top(values[mosaic.brain]), outlines=outline)

    order = [name for name in ("T1w", "EPI", "tSNR", "lost") if name in averages]
    return [Picture(*_words(name, averages[name], mosaic.brain), drawn(name), averages[name][1]) for name in order]


def _words(name: str, average: tuple[np.ndarray, int], inside: np.ndarray) -> tuple[str, str]:
    values, count = average
    of = f"of {count} scan" + ("s" if count > 1 else "")
    whole = 100 * float((values[inside] < 0.5 / count).mean())
    return {
        "T1w": (f"T1w image, mean {of}", "Blue: the template's white matter. Folds that are blurred here differ between participants; a whole edge beside the line is a fault of normalisation."),
        "EPI": (f"BOLD, mean {of}", "Blue: the template's white matter. Ventricles and the brain's rim should lie where the T1w images have them; a shift in front or below the temples is distortion."),
        "tSNR": (f"Temporal SNR, mean {of}", "After smoothing, before denoising. Dark: what no analysis of these scans can tell much about."),
        "lost": (f"Signal lost, share {of}", f"{whole:.1f} % of the template's brain has signal in every scan. Red: in a few there is none; yellow: in none there is any."),
    }[name]  # fmt: skip


def _top(values: np.ndarray) -> float:
    return float(np.percentile(values, 99.5)) or 1.0
