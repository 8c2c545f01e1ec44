"""Small pictures of one component: slices with its template's outline, spectrum of its time courses, amplitudes by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from restresponse.quality.pages.montage import data_uri, svg_path

LEAST, MOST = 2.0, 8.0  # |z| at which the colours begin and end
WARM = ((140, 20, 20), (215, 48, 31), (252, 141, 60), (254, 217, 118), (255, 255, 210))
COLD = ((20, 40, 120), (33, 102, 172), (67, 147, 195), (146, 197, 222), (225, 240, 250))
RESPONDER, OTHER = "#0072B2", "#D55E00"
_PIXEL = 1.5  # mm
_GAP = 3  # pixels between slices
_UNIT = 0.25  # pixels, of the numbers in an outline's path


@dataclass(frozen=True)
class Drawing:
    """An SVG of numbers alone, which a template may show as it is."""

    svg: str


@dataclass(frozen=True)
class Slices:
    """Three slices through a component's peak.

    Attributes
    ----------
    image : JPEG as a data URI
    outlines : of its template, SVG paths with how far down they begin and the unit of their numbers
    width, height : pixels
    place : of the peak, mm
    """

    image: str
    outlines: list[dict[str, Any]]
    width: int
    height: int
    place: tuple[int, int, int]


class Slicer:
    """Draws maps on the template brain, on pixels of 1.5 mm whatever the voxels are.

    Parameters
    ----------
    mask : (n_x, n_y, n_z) bool
    affine : (4, 4), voxel index of the mask to mm; its axes may point either way
    """

    def __init__(self, mask: np.ndarray, affine: np.ndarray) -> None:
        from restresponse.grid import template_maps

        self._mask, self._affine = mask, affine
        (behind,), self._template_affine = template_maps(("T1w",))
        self._behind = behind
        corners = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
        self._low, self._high = corners.min(axis=0) - 6, corners.max(axis=0) + 6

    def draw(self, values: np.ndarray, template: np.ndarray | None = None) -> Slices:
        """Slices of a map `(n_voxels,)` through its peak, with the outline of a template `(n_voxels,)` at half its maximum."""
        from PIL import Image

        volume = self._volume(values)
        network = None if template is None else self._volume(template)
        peak = np.unravel_index(np.argmax(np.abs(volume)), volume.shape)
        place = self._affine[:3, :3] @ peak + self._affine[:3, 3]
        panels, paths, left = [], [], 0
        for axis in (0, 1, 2):
            points = self._points(axis, place[axis])
            grey = np.clip(_sample(self._behind, self._template_affine, points), 0, 1)
            panels.append(_coloured(grey, _sample(volume, self._affine, points)))
            if network is not None:
                paths.append(_outline(_sample(network, self._affine, points) / network.max(), left))
            left += panels[-1].shape[1] + _GAP
        height = max(panel.shape[0] for panel in panels)
        canvas = np.zeros((height, left - _GAP, 3), np.uint8)
        left = 0
        for panel in panels:
            canvas[height - panel.shape[0] :, left : left + panel.shape[1]] = panel
            left += panel.shape[1] + _GAP
        image = data_uri(Image.fromarray(canvas), "JPEG", quality=78, optimize=True)
        outlines = [
            {"path": path, "down": height - panel.shape[0], "scale": _UNIT}
            for panel, path in zip(panels, paths, strict=False)
            if path
        ]
        return Slices(image, outlines, canvas.shape[1], height, tuple(round(float(value)) for value in place))

    def _volume(self, values: np.ndarray) -> np.ndarray:
        volume = np.zeros(self._mask.shape, np.float32)
        volume[self._mask] = values
        return volume

    def _points(self, axis: int, place: float) -> np.ndarray:
        """Places (3, up, across) in mm of a slice's pixels, the top row first."""
        across, up = (other for other in range(3) if other != axis)
        right = np.arange(self._low[across], self._high[across], _PIXEL)
        top = np.arange(self._low[up], self._high[up], _PIXEL)[::-1]
        points = np.empty((3, len(top), len(right)))
        points[axis], points[across], points[up] = place, right[None], top[:, None]
        return points


def _sample(volume: np.ndarray, affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    inverse = np.linalg.inv(affine)
    index = np.tensordot(inverse[:3, :3], points, axes=1) + inverse[:3, 3].reshape(3, 1, 1)
    return ndimage.map_coordinates(volume, index, order=1, mode="constant")


def _coloured(grey: np.ndarray, z: np.ndarray) -> np.ndarray:
    """RGB bytes: the template in grey, |z| above `LEAST` in warm or cold colours."""
    found = np.repeat((200 * grey**0.9)[..., None], 3, axis=2)
    for sign, stops in ((1, WARM), (-1, COLD)):
        strength = (sign * z - LEAST) / (MOST - LEAST)
        shown = strength > 0
        places = np.linspace(0, 1, len(stops))
        for channel in range(3):
            colour = np.interp(np.clip(strength, 0, 1), places, [stop[channel] for stop in stops])
            found[..., channel] = np.where(shown, colour, found[..., channel])
    return found.astype(np.uint8)


def _outline(network: np.ndarray, left: int) -> str:
    """SVG path, in `_UNIT`s, where a slice of the template crosses half its maximum."""
    from contourpy import contour_generator

    if network.max() < 0.5:
        return ""
    lines = contour_generator(z=np.pad(network, 1)).lines(0.5)
    return "".join(svg_path(line - 1 + 0.5 + [left, 0], _UNIT) for line in lines)


def colour_bar() -> str:
    """CSS gradient of the colours, from the lowest z to the highest."""
    stops = [*COLD[::-1], *WARM]
    return "linear-gradient(90deg, " + ", ".join("rgb({}, {}, {})".format(*stop) for stop in stops) + ")"


def power(courses: np.ndarray, repetition_time: float, frequencies: np.ndarray) -> np.ndarray:
    """Power of time courses at given frequencies, of total 1 over them.

    Parameters
    ----------
    courses : (n_scans, n_components)
    repetition_time : s
    frequencies : (n_frequencies,) Hz, below half the sampling rate

    Returns
    -------
    (n_components, n_frequencies)
    """
    centred = courses - courses.mean(axis=0)
    tapered = centred * np.hanning(len(centred))[:, None]
    waves = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(len(centred)) * repetition_time))
    found = np.abs(waves @ tapered).T ** 2
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def spectrum_drawing(spectrum: np.ndarray, highest: float, width: int = 120, height: int = 64) -> Drawing:
    """SVG of a spectrum `(n_frequencies,)`, the frame's top at `highest`."""
    across = np.linspace(0, width, len(spectrum))
    up = height - (height - 2) * spectrum / highest
    points = np.column_stack([across, up])
    curve = svg_path(points, 0.1)
    area = svg_path(np.vstack([[0, height], points, [width, height]]), 0.1)
    return Drawing(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" class="spectrum" aria-hidden="true">'
        f'<g transform="scale(.1)"><path class="area" d="{area}"/><path class="curve" d="{curve}"/></g>'
        f'<path class="axis" d="M0 {height - 0.5}h{width}"/></svg>'
    )


def strip_drawing(values: np.ndarray, response: np.ndarray, width: int = 150, height: int = 46) -> Drawing:
    """SVG of one dot a participant, responders above, with each group's mean and its standard error."""
    low, high = float(values.min()), float(values.max())
    room = (high - low) or 1.0
    parts = []
    for group, line, colour in ((1, 0.28, RESPONDER), (0, 0.72, OTHER)):
        own = values[response == group]
        places = 5 + (width - 10) * (own - low) / room
        shifts = _shifts(places, height * 0.16)
        dots = "".join(
            f'<circle cx="{place:.1f}" cy="{line * height + shift:.1f}" r="2"/>'
            for place, shift in zip(places, shifts, strict=True)
        )
        mean = float(places.mean())
        error = float(places.std(ddof=1) / np.sqrt(len(places))) if len(places) > 1 else 0.0
        top, bottom = line * height - height * 0.2, line * height + height * 0.2
        parts.append(
            f'<g fill="{colour}" stroke="none"><rect x="{mean - error:.1f}" y="{top:.1f}" width="{2 * error:.1f}" '
            f'height="{bottom - top:.1f}" opacity=".22"/>{dots}</g>'
            f'<path d="M{mean:.1f} {top:.1f}V{bottom:.1f}" stroke="{colour}" stroke-width="2"/>'
        )
    return Drawing(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" class="strip" aria-hidden="true">'
        + "".join(parts)
        + "</svg>"
    )


def _shifts(places: np.ndarray, room: float) -> np.ndarray:
    """How far up or down each dot goes so that near ones do not hide one another; the same at every run."""
    shifts = np.zeros(len(places))
    pattern: Sequence[float] = (0.0, 1.0, -1.0, 0.5, -0.5)
    last, turn = -np.inf, 0
    for index in np.argsort(places, kind="stable"):
        turn = turn + 1 if places[index] - last < 4 else 0
        shifts[index] = pattern[turn % len(pattern)] * room
        last = places[index]
    return shifts
