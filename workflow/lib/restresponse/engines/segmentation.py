"""Tissues of a T1w image with the template's as priors: a step that engines share whose own program misses them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from restresponse import __version__, grid
from restresponse.engines import TISSUES, Normalisation, masks, tissues, warps
from restresponse.engines.folder import InFolder

_RIM = 3.0  # mm beyond the brain mask in which the template's brain is believed
_EDGE = 0.02  # of the template's brain


class Segmentation(InFolder):
    """The step of an engine that finds tissues with `restresponse.engines.tissues`."""

    def segment(self, t1w: Path, brain_mask: Path, normalisation: Normalisation, iterations: int) -> dict[str, Path]:
        from scipy import ndimage

        method = (
            "Grey matter, white matter and cerebrospinal fluid were segmented by expectation maximisation over pure and "
            "mixed voxels, with the template's tissue maps, brought back to the T1w image, as priors."
        )
        inputs = {"iterations": iterations}
        with self.step("segmentation", "restresponse", __version__, inputs, method) as facts:
            image = nib.load(t1w)
            zooms = np.array(image.header.get_zooms()[:3], float)
            mask = self._read(brain_mask) > 0
            window = masks.window(mask, np.ceil(_RIM / zooms).astype(int) + 1)
            corner = masks.cornered(image.affine, window)
            near = masks.around(mask[window], _RIM, zooms)
            field = self._displacements(normalisation)
            points = warps.template_places(near, corner, np.loadtxt(normalisation.affine), *field)
            maps, affine = grid.template_maps(("GM", "WM", "brain"))
            places = warps.world_of(points, np.linalg.inv(affine).astype(np.float32)).T
            gm, wm, brain = (ndimage.map_coordinates(one, places, order=1) for one in maps)
            # a brain has few voxels of fluid alone: those at its edge tell fluid's intensity, too
            looked = mask[window][near] | (brain > _EDGE)
            near[near], gm, wm, brain = looked, gm[looked], wm[looked], brain[looked]
            priors = tissues.template_priors(gm, wm, brain)
            shares = tissues.segment(self._read(t1w)[window][near], priors, iterations)
            # the first mask has lost some of the fluid around the brain; the registered template gives it back
            kept = mask[window][near] | (brain > 0.5)
            shares = {name: share * kept for name, share in shares.items()}
            shares["CSF"] *= brain  # fluid beyond the template's brain is none of the brain's
            paths = {}
            for name in TISSUES:
                whole = np.zeros(mask.shape, np.float32)
                whole[window][near] = shares[name]
                paths[name] = self._write(f"{name}.nii", whole, image.affine)
                facts[f"{name}_ml"] = round(float(whole.sum() * np.prod(zooms) / 1e3), 1)
            return paths
