"""Slices of a volume in three rows, as an image and as outlines that lie on it: drawn without a plotting library."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np

_PIXEL = 1.6  # mm of one pixel
_SLICES = (8, 8, 7)  # in the axial, coronal and sagittal row
_ROWS = (2, 1, 0)  # axis that the slices of each row cross
_GAP = 4  # pixels between slices
OUTLINE_UNIT = 0.25  # pixels, of the numbers in an outline's path
_SPACING = 1.3  # pixels, least distance of an outline's points
_MARGIN = 3.0  # mm around the brain


@dataclass(frozen=True)
class Cell:
    """One slice: the axis it crosses, its index there, its place in mm, and its corner and size in pixels."""

    axis: int
    index: int
    place: float
    left: float
    top: float
    width: float
    height: float


class Montage:
    """Where slices lie on a canvas, chosen once from masks, so that every volume of the grid is drawn on the same.

    Parameters
    ----------
    brain : (n_x, n_y, n_z) bool, what the slices must show
    affine : (4, 4), voxel index to mm; axes point right, front and up
    """

    def __init__(self, brain: np.ndarray, affine: np.ndarray) -> None:
        self._scale = float(affine[0, 0]) / _PIXEL  # pixels of a voxel
        margin = int(np.ceil(_MARGIN / float(affine[0, 0])))
        places = np.nonzero(brain) if brain.any() else tuple(np.array([0, size - 1]) for size in brain.shape)
        self._low = [max(int(axis.min()) - margin, 0) for axis in places]
        self._high = [min(int(axis.max()) + margin + 1, size) for axis, size in zip(places, brain.shape, strict=True)]
        extent = [(high - low) * self._scale for low, high in zip(self._low, self._high, strict=True)]
        widths = [count * extent[1 if axis == 0 else 0] for count, axis in zip(_SLICES, _ROWS, strict=True)]
        self.width = int(np.ceil(max(width + _GAP * n for width, n in zip(widths, _SLICES, strict=True))))
        self.cells: list[Cell] = []
        top = 0.0
        for axis, count, width in zip(_ROWS, _SLICES, widths, strict=True):
            across, up = (extent[other] for other in range(3) if other != axis)
            step = self.width / count
            first, last = int(places[axis].min()), int(places[axis].max())
            chosen = np.linspace(first, last, count + 2).round().astype(int)[1:-1]
            for number, index in enumerate(chosen):
                left = number * step + (step - width / count) / 2
                place = float(affine[axis, axis] * index + affine[axis, 3])
                self.cells.append(Cell(axis, int(index), place, left, top, across, up))
            top += up + _GAP
        self.height = int(np.ceil(top - _GAP))

    def photograph(self, volume: np.ndarray, low: float, high: float, quality: int = 70) -> str:
        """A grey JPEG of a volume (n_x, n_y, n_z), `low` black and `high` white, as a data URI."""
        return data_uri(self._canvas(_bytes(volume, low, high)), "JPEG", quality=quality, optimize=True)

    def outline(self, volume: np.ndarray, level: float = 0.5) -> str:
        """Where a volume passes through `level` on every slice, as the data of one SVG path in quarters of a pixel."""
        from contourpy import contour_generator

        parts = []
        for cell in self.cells:
            view = np.pad(self._slice(np.asarray(volume, np.float32), cell), 1)
            if view.min() > level or view.max() < level:
                continue
            for line in contour_generator(z=view).lines(level):
                points = (line - 1 + 0.5) * self._scale  # a voxel's value is at its middle; the padding is one voxel
                points = np.column_stack([cell.left + points[:, 0], cell.top + cell.height - points[:, 1]])
                parts.append(svg_path(_spaced(points), OUTLINE_UNIT))
        return "".join(parts)

    def _slice(self, volume: np.ndarray, cell: Cell) -> np.ndarray:
        """(up, across) of one slice inside the box."""
        box = tuple(slice(low, high) for low, high in zip(self._low, self._high, strict=True))
        index = list(box)
        index[cell.axis] = cell.index
        return volume[tuple(index)].T

    def _canvas(self, volume: np.ndarray):
        from PIL import Image

        canvas = Image.new("L", (self.width, self.height))
        for cell in self.cells:
            size = round(cell.left + cell.width) - round(cell.left), round(cell.top + cell.height) - round(cell.top)
            view = Image.fromarray(np.ascontiguousarray(self._slice(volume, cell)[::-1]))
            canvas.paste(view.resize(size, Image.Resampling.BILINEAR), (round(cell.left), round(cell.top)))
        return canvas


def data_uri(image, kind: str, **options) -> str:
    """An image as a data URI."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def svg_path(points: np.ndarray, unit: float = 0.1) -> str:
    """Data of an SVG path through (n, 2) points, relative and in whole `unit`s, so that the text is short.

    Points that fall on one another or on a straight line are left out; the path must be scaled by `unit`.
    """
    whole = np.rint(np.asarray(points, np.float64) / unit).astype(int)
    whole = whole[np.concatenate([[True], np.any(np.diff(whole, axis=0) != 0, axis=1)])]
    if len(whole) > 2:
        before, after = whole[1:-1] - whole[:-2], whole[2:] - whole[1:-1]
        bends = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        whole = whole[np.concatenate([[True], bends, [True]])]
    if len(whole) < 2:
        return ""
    steps = " ".join(f"{x} {y}" for x, y in np.diff(whole, axis=0)).replace(" -", "-")
    return f"M{whole[0, 0]} {whole[0, 1]}l{steps}"


def window(volume: np.ndarray, inside: np.ndarray, low: float = 1, high: float = 99.5) -> tuple[float, float]:
    """Percentiles of a volume inside a mask, never equal; 0 to 1 where there is nothing."""
    values = volume[inside & np.isfinite(volume)]
    if not values.size:
        return 0.0, 1.0
    bottom, top = (float(value) for value in np.percentile(values, [low, high]))
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def _bytes(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (np.nan_to_num(np.asarray(volume, np.float64)) - low) / (high - low)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _spaced(points: np.ndarray) -> np.ndarray:
    """Points at least `_SPACING` pixels apart, the ends kept: a fine grid's outline has more than a screen shows."""
    kept = [0]
    for index in range(1, len(points) - 1):
        across, up = points[index] - points[kept[-1]]
        if across * across + up * up >= _SPACING**2:
            kept.append(index)
    return points[[*kept, len(points) - 1]]
