"""Tissues of a T1w image with the template's as priors: an interface, and a step that engines share whose own program misses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from restresponse import grid
from restresponse.engines import TISSUES, Normalisation, masks, tissues, warps
from restresponse.engines.array_interfaces import VERSION, ArrayInterface, read, volume_ml, write
from restresponse.engines.folder import InFolder
from restresponse.engines.warp_interfaces import NormalisationInput, displacements_of, inputs_of

_RIM = 3.0  # mm beyond the brain mask in which the template's brain is believed
_EDGE = 0.02  # of the template's brain


class Segmentation(InFolder):
    """The step of an engine that finds tissues with the template's as priors."""

    def segment(self, t1w: Path, brain_mask: Path, normalisation: Normalisation, iterations: int) -> dict[str, Path]:
        method = (
            "Grey matter, white matter and cerebrospinal fluid were segmented by expectation maximisation over pure and "
            "mixed voxels, with the template's tissue maps, brought back to the T1w image, as priors."
        )
        inputs = {"iterations": iterations}
        with self.step("segmentation", "restresponse", VERSION, dict(inputs), method) as facts:
            images = {"in_file": t1w, "brain_mask": brain_mask, **inputs_of(normalisation)}
            found = self._found(TissueSegmentation, **images, **inputs)
            facts |= {f"{name}_ml": volume for name, volume in zip(TISSUES, found.volumes_ml, strict=True)}
            return {name: Path(path) for name, path in zip(TISSUES, found.out_files, strict=True)}


class _SegmentationInput(NormalisationInput):
    in_file = File(mandatory=True, desc="T1w image without its bias field")
    brain_mask = File(mandatory=True)
    iterations = traits.Int(mandatory=True, desc="steps of expectation maximisation")


class _SegmentationOutput(TraitedSpec):
    out_files = traits.List(File(), desc="share of each of `TISSUES`, in their order: GM.nii and so on")
    volumes_ml = traits.List(traits.Float())


class TissueSegmentation(ArrayInterface):
    """Shares of the tissues in each voxel, see `restresponse.engines.tissues`."""

    input_spec, output_spec = _SegmentationInput, _SegmentationOutput

    def compute(self) -> dict[str, Any]:
        from scipy import ndimage

        inputs = self.inputs
        image = nib.load(inputs.in_file)
        zooms = np.array(image.header.get_zooms()[:3], float)
        mask = read(inputs.brain_mask) > 0
        window = masks.window(mask, np.ceil(_RIM / zooms).astype(int) + 1)
        corner = masks.cornered(image.affine, window)
        near = masks.around(mask[window], _RIM, zooms)
        field = displacements_of(inputs)
        points = warps.template_places(near, corner, np.loadtxt(inputs.affine), *field)
        maps, affine = grid.template_maps(("GM", "WM", "brain"))
        places = warps.world_of(points, np.linalg.inv(affine).astype(np.float32)).T
        gm, wm, brain = (ndimage.map_coordinates(one, places, order=1) for one in maps)
        # a brain has few voxels of fluid alone: those at its edge tell fluid's intensity, too
        looked = mask[window][near] | (brain > _EDGE)
        near[near], gm, wm, brain = looked, gm[looked], wm[looked], brain[looked]
        priors = tissues.template_priors(gm, wm, brain)
        shares = tissues.segment(read(inputs.in_file)[window][near], priors, inputs.iterations)
        # the first mask has lost some of the fluid around the brain; the registered template gives it back
        kept = mask[window][near] | (brain > 0.5)
        shares = {name: share * kept for name, share in shares.items()}
        shares["CSF"] *= brain  # fluid beyond the template's brain is none of the brain's
        paths, volumes = [], []
        for name in TISSUES:
            whole = np.zeros(mask.shape, np.float32)
            whole[window][near] = shares[name]
            paths.append(str(write(self.folder / f"{name}.nii", whole, image.affine)))
            volumes.append(volume_ml(whole, image.affine))
        return {"out_files": paths, "volumes_ml": volumes}
