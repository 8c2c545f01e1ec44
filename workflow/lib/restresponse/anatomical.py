"""The T1w image of a participant, from raw to MNI space: bias field, brain, normalisation, tissues.

One call does one image; what an engine does at each step is the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse import grid
from restresponse.engines import TISSUES, EngineFailure
from restresponse.engines.masks import correlation, dice
from restresponse.engines.reading import check_axes, header_notes, processing, read_raw
from restresponse.files import save_image, write_image, write_text

if TYPE_CHECKING:
    import nibabel

LEAST_OVERLAP = 0.5  # Dice with the template's brain below which the registration has failed
LEAST_CORRELATION = 0.3  # with the template: heads of every engine had 0.64 and more, a neck taken for brain 0.10


def normalise_anatomical(
    t1w: str | Path,
    outputs: Mapping[str, str | Path],
    *,
    engine: str,
    engine_settings: Mapping[str, Any] | None = None,
    bias_correction: bool,
    segmentation_iterations: int,
    voxel_size: float,
) -> None:
    """Bring a T1w image to MNI space and segment it.

    Data that fail (unreadable, constant, no brain found, registration off the template) end in a record of status
    `failed` with the reason and in empty files for all other outputs.

    Parameters
    ----------
    t1w : raw T1w image of a head, with or without skull and neck
    outputs : paths by name: `T1w`, `brain_mask`, `GM`, `WM`, `CSF` (on the T1w's voxels, in RAS order), `affine` and `warp`
        (see `engines.Normalisation`), `T1w_MNI`, `GM_MNI`, `WM_MNI`, `CSF_MNI` (on the functional grid) and `record`.
    engine : name of the engine
    engine_settings : the engine's own part of the config's section `engines`
    bias_correction : whether the bias field is removed
    segmentation_iterations : steps of expectation maximisation
    voxel_size : of the functional grid, mm
    """
    import nibabel as nib

    with processing(engine, engine_settings or {}, outputs, {"source": str(t1w)}) as (works, facts):
        data, image = read_raw(t1w, 3, "T1w")
        check_axes(image, t1w, "T1w")
        facts["notes"] = header_notes(image, t1w, "T1w")
        upright = nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))
        raw = works.folder / "T1w.nii"
        nib.Nifti1Image(np.clip(upright.get_fdata(dtype=np.float32), 0, None), upright.affine).to_filename(raw)
        mask = works.brain_extract(raw)
        flat = works.bias_correct(raw, mask) if bias_correction else raw
        normalisation = works.normalise(flat, mask)
        tissues = works.segment(flat, mask, normalisation, segmentation_iterations)

        images = {"T1w": flat, **tissues}
        normalised = {name: works.to_template(path, normalisation) for name, path in images.items()}
        at_template = {name: np.asarray(nib.load(path).dataobj, np.float32) for name, path in normalised.items()}
        own = np.asarray(nib.load(works.to_template(mask, normalisation)).dataobj) > 0.5
        extracted = nib.load(mask)
        volume = float((np.asarray(extracted.dataobj) > 0).sum() * abs(np.linalg.det(extracted.affine)) / 1e3)
        facts["quality"] = fit_to_template(at_template["T1w"], at_template["GM"], own, volume)
        facts["spaces"] = {
            "MNI152": works.space,
            "label": works.space_label,
            "voxel_size": voxel_size,
        }

        shape, affine = grid.grid(voxel_size)
        _, fine = grid.grid(2)
        for name, values in at_template.items():
            write_image(outputs[f"{name}_MNI"], grid.resample(values, fine, shape, affine), affine)
        for name in TISSUES:
            save_image(outputs[name], _in_16_bits(tissues[name]))
        save_image(outputs["T1w"], _in_16_bits(flat))
        save_image(outputs["brain_mask"], nib.load(mask))
        save_image(outputs["warp"], nib.load(normalisation.warp))
        write_text(outputs["affine"], normalisation.affine.read_text())


def fit_to_template(t1w: np.ndarray, grey: np.ndarray, own: np.ndarray, brain_volume: float) -> dict[str, float]:
    """How well a normalised T1w image lies on the template.

    Parameters
    ----------
    t1w, grey : on the grid of 2 mm: the T1w image and its share of grey matter
    own : bool, the T1w's brain mask carried there
    brain_volume : of that mask in the T1w image, ml

    Returns
    -------
    facts : `brain_volume`, `template_dice` (of the brain masks), `template_correlation` (of the T1w images, in the template's
        brain) and `grey_matter_dice`

    Raises
    ------
    EngineFailure
        The registration has failed.
    """
    brain = grid.template_image("brain", 2) >= 0.5
    overlap, likeness = dice(own, brain), correlation(t1w, grid.template_image("T1w", 2), brain)
    if overlap < LEAST_OVERLAP:
        raise EngineFailure(
            f"normalisation failed: the T1w's brain overlaps the template's by a Dice of {overlap:.2f}; expected more than "
            f"{LEAST_OVERLAP}: look at the T1w and at its brain mask"
        )
    if likeness < LEAST_CORRELATION:
        raise EngineFailure(
            f"normalisation failed: inside the template's brain the T1w correlates with the template by {likeness:.2f}; expected "
            f"more than {LEAST_CORRELATION}. Its brain mask holds {brain_volume:,.0f} ml, an adult's brain 1,000 to 2,000: look "
            "at the T1w, whether it is T1-weighted and whether neck or eyes were taken for brain"
        )
    return {
        "brain_volume": brain_volume,
        "template_dice": overlap,
        "template_correlation": likeness,
        "grey_matter_dice": dice(grey > 0.5, grid.template_image("GM", 2) > 0.5),
    }


def _in_16_bits(path: Path) -> nibabel.Nifti1Image:
    """An image as 16-bit integers with a power of two as scale: half of floats to compress, and what is 0 or 1 stays so."""
    import nibabel as nib

    image = nib.load(path)
    data = np.asarray(image.dataobj, np.float32)
    largest = max(float(np.abs(data).max()), 1e-6)
    scale = float(2.0 ** np.ceil(np.log2(largest / np.iinfo(np.int16).max)))
    stored = nib.Nifti1Image(np.rint(data / np.float32(scale)).astype(np.int16), image.affine)
    stored.header.set_slope_inter(scale, 0)
    stored.header.set_xyzt_units("mm", "sec")
    return stored
