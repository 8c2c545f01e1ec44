"""Still pictures of volumes in MNI space, drawn with nilearn: three rows of slices, the same ones on every page.

What a reader can switch is in `montage`, what runs in time in `traces`: nilearn's carpet has no motion above it, and nireports'
pictures, which do, are still ones as these are and need seaborn, pybids and templateflow.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from restresponse import grid

if TYPE_CHECKING:
    import nibabel

_CUTS = 7  # slices along each axis
_SIZE = (8.4, 4.1)  # inches
_MARGIN = 6.0  # mm around the brain
_BAR = (0.955, 0.06, 0.01, 0.88)  # left, bottom, width and height of the colour bar, in shares of the picture
_BESIDE_BAR = 0.93  # share of the picture that slices have beside a colour bar


@dataclass(frozen=True)
class Picture:
    """A drawn volume: its words, what to look for, a JPEG as a data URI, of how many scans it is."""

    words: str
    tells: str
    image: str
    count: int = 1


class Mosaic:
    """Where slices lie, chosen once from the template's brain, so that pictures can be compared.

    Parameters
    ----------
    affine : (4, 4), voxel index to mm, of the volumes to be drawn; they are on `grid.grid` of its voxel size
    dots : an inch of 8.4 across
    font : size of the letters in points
    """

    def __init__(self, affine: np.ndarray, *, dots: int, font: float) -> None:
        self._dots, self._font = dots, font
        voxel_size = abs(float(affine[0, 0]))
        self._template = grid.template_image("T1w", voxel_size)
        self.brain = grid.brain_mask(voxel_size)
        places, margin = np.argwhere(self.brain), round(_MARGIN / voxel_size)
        first = np.maximum(places.min(axis=0) - margin, 0)
        self._box = tuple(map(slice, first, places.max(axis=0) + margin + 1))
        self._affine = np.array(affine, np.float64)
        self._affine[:3, 3] += self._affine[:3, :3] @ first
        # where nearly all of the brain lies: the outermost slices would show next to nothing
        extent = np.percentile(places @ affine[:3, :3].T + affine[:3, 3], [1, 99], axis=0).T
        self._cuts = [np.linspace(low, high, _CUTS + 2).round()[1:-1].tolist() for low, high in extent]

    def draw(
        self,
        values: np.ndarray,
        top: float,
        *,
        colours: str = "gray",
        above: float | None = None,
        outlines: Mapping[str, np.ndarray] | None = None,
        bar: str = "",
    ) -> str:
        """A JPEG of a volume as a data URI.

        Parameters
        ----------
        values : (n_x, n_y, n_z); what is missing counts as 0, the darkest colour
        top : value of the brightest colour
        colours : name of a colour map of matplotlib
        above : what is not above it is left to the template, in grey
        outlines : colour -> (n_x, n_y, n_z), outlined where it passes through 0.5
        bar : words beside a colour bar; without them there is none
        """
        plotting = _plotting()
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure  # not pyplot's, which would be kept until it is closed

        figure, shown, under = Figure(figsize=_SIZE), self._image(values), None
        if above is not None:
            under = self._image(self._template)
            if not (np.asarray(shown.dataobj) > above).any():  # nilearn draws no volume that is masked everywhere
                shown, under, top, above, colours, bar = under, None, float(self._template.max()), None, "gray", ""
        display = plotting.plot_img(
            shown, bg_img=under, threshold=above, vmin=0, vmax=top, cmap=colours, interpolation="bilinear",
            display_mode="mosaic", cut_coords=dict(zip("xyz", self._cuts, strict=True)), annotate=False, draw_cross=False,
            black_bg=True, colorbar=False, figure=figure, axes=(0, 0, _BESIDE_BAR if bar else 1, 1),
        )  # fmt: skip
        for colour, volume in (outlines or {}).items():
            outlined = self._image(volume)
            if (np.asarray(outlined.dataobj) > 0.5).any():
                display.add_contours(outlined, levels=[0.5], colors=colour, linewidths=0.6)
        display.annotate(size=self._font, positions=True, left_right=True)
        if bar:
            scale = figure.colorbar(ScalarMappable(Normalize(0, top), colours), cax=figure.add_axes(_BAR))
            scale.ax.tick_params(colors="white", labelsize=self._font)
            scale.ax.yaxis.set_ticks_position("left")
            scale.set_label(bar, color="white", size=self._font)
        stream = io.BytesIO()
        options = {"quality": 75, "optimize": True}
        figure.savefig(stream, format="jpeg", dpi=self._dots, facecolor="black", pil_kwargs=options)
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"

    def _image(self, values: np.ndarray) -> nibabel.Nifti1Image:
        import nibabel as nib

        return nib.Nifti1Image(
            np.nan_to_num(np.asarray(values, np.float32)[self._box], posinf=0, neginf=0), self._affine
        )


@functools.cache
def _plotting():
    """nilearn's plotting, without a screen."""
    import gc

    import matplotlib as mpl

    mpl.use("Agg")
    from nilearn import plotting

    gc.collect()
    gc.freeze()  # nilearn collects garbage several times a picture: what was just imported need not be walked each time
    return plotting
