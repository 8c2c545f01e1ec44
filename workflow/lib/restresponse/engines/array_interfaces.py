"""Nipype interfaces over the house's own arrays: images of a job's working folder in, images and numbers out.

What an engine does to voxels and no program does for it goes through one of these, as its programs go through theirs. Names
of files are relative to the folder in which an interface runs, or whole paths.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from restresponse import __version__, grid
from restresponse.engines import EngineFailure, masks, warps

VERSION = __version__


def read(path: Path | str) -> np.ndarray:
    """Voxels (n_x, n_y, n_z) or (n_x, n_y, n_z, n_scans) of an image, float32; what is no finite number is 0."""
    return np.nan_to_num(np.asarray(nib.load(path).dataobj, np.float32), posinf=0, neginf=0)


def write(path: Path | str, data: np.ndarray, affine: np.ndarray) -> Path:
    """Write voxels (n_x, n_y, n_z) or (n_x, n_y, n_z, n_scans) in the array's own type; `affine`: (4, 4), voxel index to mm."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return Path(path)


def volume_ml(shares: np.ndarray, affine: np.ndarray) -> float:
    """Volume in ml that a mask, or shares of 0 to 1, (n_x, n_y, n_z) make together."""
    return round(float(shares.sum() * abs(np.linalg.det(affine)) / 1e3), 1)


class FileOutput(TraitedSpec):
    """What most interfaces give."""

    out_file = File(desc="what was written")


class ArrayInterface(SimpleInterface):
    """An interface whose work is the method `compute`.

    Attributes
    ----------
    folder : in which it runs, as the engine names it
    """

    input_spec = BaseInterfaceInputSpec
    output_spec = FileOutput
    version = VERSION
    folder: Path

    def compute(self) -> dict[str, Any]:
        """The outputs by name, but for `out_file`."""
        raise NotImplementedError

    def _run_interface(self, runtime: Any) -> Any:
        self.folder = Path(runtime.cwd)
        found = self.compute()
        if hasattr(self.inputs, "out_file"):
            found["out_file"] = str(self.folder / self.inputs.out_file)
        self._results |= found
        return runtime


class _TemplateInput(BaseInterfaceInputSpec):
    content = traits.Enum("T1w", "brain", "grid", mandatory=True, desc="`grid`: nothing but the grid")
    voxel_size = traits.Float(mandatory=True, desc="mm")
    brain = traits.Enum(
        "more than half", "at least half", usedefault=True, desc="of a voxel must be brain to count as brain"
    )
    cut = traits.Bool(False, usedefault=True, desc="0 outside the brain")
    scale = traits.Float(1.0, usedefault=True, desc="of intensities, which are 0 to 1")
    margin = traits.Int(desc="voxels around the brain that are kept; the whole grid where it is not given")
    out_file = File(mandatory=True)


class TemplateImage(ArrayInterface):
    """An image of the MNI152 template on its grid: float32, a mask uint8."""

    input_spec = _TemplateInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        shape, affine = grid.grid(inputs.voxel_size)
        if inputs.content == "grid":
            write(inputs.out_file, np.zeros(shape, np.uint8), affine)
            return {}
        share = grid.template_image("brain", inputs.voxel_size)
        brain = share > 0.5 if inputs.brain == "more than half" else share >= 0.5
        image = brain.astype(np.uint8)
        if inputs.content == "T1w":
            image = grid.template_image("T1w", inputs.voxel_size)
            image = (image * brain if inputs.cut else image) * np.float32(inputs.scale)
        if isdefined(inputs.margin):
            window = masks.window(brain, inputs.margin)
            image, affine = image[window], masks.cornered(affine, window)
        write(inputs.out_file, image, affine)
        return {}


class _CopiedInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True)
    like = File(desc="image whose place in the world the copy takes")
    moved = traits.Array(shape=(4, 4), desc="mm to mm, applied to the place")
    filled = traits.Bool(False, usedefault=True, desc="0 for what is not a number")
    out_file = File(mandatory=True)


class Copied(ArrayInterface):
    """An uncompressed copy as float32, at its own place, at another image's, or moved."""

    input_spec = _CopiedInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        image = nib.load(inputs.in_file)
        affine = nib.load(inputs.like).affine if isdefined(inputs.like) else image.affine
        if isdefined(inputs.moved):
            affine = inputs.moved @ affine
        data = read(inputs.in_file) if inputs.filled else np.asarray(image.dataobj, np.float32)
        write(inputs.out_file, data, affine)
        return {}


class _TwoFiles(BaseInterfaceInputSpec):
    in_file = File(mandatory=True)
    out_file = File(mandatory=True)


class AxisParallel(ArrayInterface):
    """A copy of an uncompressed image whose header says: voxels parallel to the axes, centred."""

    input_spec = _TwoFiles

    def compute(self) -> dict[str, Any]:
        shutil.copyfile(self.inputs.in_file, self.inputs.out_file)
        header = nib.load(self.inputs.in_file).header.copy()
        zooms = np.array(header.get_zooms()[:3], float)
        plain = np.diag([*zooms, 1.0])
        plain[:3, 3] = -zooms * (np.array(header.get_data_shape()[:3]) - 1) / 2
        header.set_sform(plain, code=1)
        header.set_qform(plain, code=1)
        header.set_data_offset(header.single_vox_offset)  # nibabel forgets it on loading; the bytes stay where they are
        with Path(self.inputs.out_file).open("r+b") as stream:
            stream.write(header.binaryblock)
        return {}


class _ScaledInput(_TwoFiles):
    factor = traits.Float(mandatory=True)
    like = File(desc="image whose place in the world the result takes; its own where it is not given")


class Scaled(ArrayInterface):
    """An image times a number."""

    input_spec = _ScaledInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        affine = nib.load(inputs.like if isdefined(inputs.like) else inputs.in_file).affine
        write(inputs.out_file, read(inputs.in_file) * np.float32(inputs.factor), affine)
        return {}


class _WithoutFieldInput(_TwoFiles):
    field = File(mandatory=True, desc="bias field; where it is 0, it is not known")


class WithoutField(ArrayInterface):
    """An image divided by its bias field, and as it is where the field is not known."""

    input_spec = _WithoutFieldInput

    def compute(self) -> dict[str, Any]:
        image, field = read(self.inputs.in_file), read(self.inputs.field)
        flat = np.divide(image, field, out=image.copy(), where=field > 0)
        write(self.inputs.out_file, flat, nib.load(self.inputs.in_file).affine)
        return {}


class _MaskedInput(_TwoFiles):
    mask = File(mandatory=True)


class Masked(ArrayInterface):
    """An image, 0 outside a mask."""

    input_spec = _MaskedInput

    def compute(self) -> dict[str, Any]:
        inside = read(self.inputs.mask) > 0
        write(self.inputs.out_file, read(self.inputs.in_file) * inside, nib.load(self.inputs.in_file).affine)
        return {}


class _CoarseInput(_MaskedInput):
    margin = traits.Int(mandatory=True, desc="voxels kept around the mask")
    voxel_size = traits.Float(mandatory=True, desc="mm")


class CoarseMasked(ArrayInterface):
    """The part of an image that a mask fills, 0 outside it, of larger voxels: means over whole blocks of voxels.

    Raises `EngineFailure` where the mask is empty.
    """

    input_spec = _CoarseInput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        inside = _filled(inputs.mask)
        window = masks.window(inside, inputs.margin)
        part = (read(inputs.in_file) * inside)[window]
        corner = masks.cornered(nib.load(inputs.in_file).affine, window)
        write(inputs.out_file, *masks.coarser(part, corner, inputs.voxel_size))
        return {}


class _PairInput(BaseInterfaceInputSpec):
    fixed = File(mandatory=True, desc="mask")
    moving = File(mandatory=True, desc="mask")


class _CentresOutput(TraitedSpec):
    shift = traits.Array(shape=(3,), desc="from the centre of the fixed mask to that of the moving one, mm")


class Centres(ArrayInterface):
    """How far apart two masks lie; `EngineFailure` where one is empty."""

    input_spec, output_spec = _PairInput, _CentresOutput

    def compute(self) -> dict[str, Any]:
        centres = [
            warps.world_of(np.argwhere(_filled(path)).mean(axis=0)[None], nib.load(path).affine)[0]
            for path in (self.inputs.fixed, self.inputs.moving)
        ]
        return {"shift": centres[1] - centres[0]}


class _OverlapInput(_PairInput):
    matrix = traits.Array(shape=(4, 4), mandatory=True, desc="mm of fixed to mm of moving")


class _OverlapOutput(TraitedSpec):
    dice = traits.Float()


class Overlap(ArrayInterface):
    """Dice of two masks after a rigid registration."""

    input_spec, output_spec = _OverlapInput, _OverlapOutput

    def compute(self) -> dict[str, Any]:
        fixed, moving = nib.load(self.inputs.fixed), nib.load(self.inputs.moving)
        through = np.linalg.inv(moving.affine) @ self.inputs.matrix @ fixed.affine
        onto = masks.carried(read(self.inputs.moving) > 0, through, fixed.shape[:3])
        return {"dice": masks.dice(onto > 0.5, read(self.inputs.fixed) > 0)}


class _MaskOutput(FileOutput):
    volume_ml = traits.Float()


def _keep(mask: np.ndarray, affine: np.ndarray, path: str) -> dict[str, Any]:
    """Write a mask, uint8, and give its volume."""
    write(path, mask.astype(np.uint8), affine)
    return {"volume_ml": volume_ml(mask, affine)}


def _filled(path: str) -> np.ndarray:
    """A mask, bool, that is not empty."""
    mask = read(path) > 0
    if not mask.any():
        raise EngineFailure(f"the brain mask {Path(path).name} is empty: look at the image that it was made from")
    return mask


class _VolumeInput(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc="shares, 0 to 1")


class _VolumeOutput(TraitedSpec):
    volume_ml = traits.Float()


class Volume(ArrayInterface):
    """The volume that shares make together."""

    input_spec, output_spec = _VolumeInput, _VolumeOutput

    def compute(self) -> dict[str, Any]:
        return {"volume_ml": volume_ml(read(self.inputs.in_file), nib.load(self.inputs.in_file).affine)}


class _HeadBrainInput(_TwoFiles):
    in_file = File(mandatory=True, desc="T1w image on the template's grid, without its bias field")
    t1w = File(mandatory=True, desc="the same as it was scanned")
    matrix = traits.Array(shape=(4, 4), mandatory=True, desc="mm of the template to mm of the T1w")
    voxel_size = traits.Float(mandatory=True, desc="of the template's grid, mm")
    least_likeness = traits.Float(
        mandatory=True, desc="correlation with the template's brain below which it is no head"
    )


class _HeadBrainOutput(_MaskOutput):
    likeness = traits.Float(desc="correlation with the template's brain")


class HeadBrain(ArrayInterface):
    """Brain mask of the T1w image of a head that an affine has brought to the template, see `masks.head_brain`.

    Raises `EngineFailure` where the image is not like the template, or no brain is found in it.
    """

    input_spec, output_spec = _HeadBrainInput, _HeadBrainOutput

    def compute(self) -> dict[str, Any]:
        inputs = self.inputs
        template = {name: grid.template_image(name, inputs.voxel_size) for name in ("T1w", "GM", "WM", "brain")}
        flat = read(inputs.in_file)
        likeness = masks.correlation(flat, template["T1w"], template["brain"] > 0.5)
        if likeness < inputs.least_likeness:
            raise EngineFailure(
                f"after the affine, the T1w correlates with the template's brain by {likeness:.2f}; expected more than "
                f"{inputs.least_likeness}: the image is not a T1-weighted head, or its orientation in the header is wrong"
            )
        brain = masks.head_brain(flat, template, inputs.voxel_size)
        t1w = nib.load(inputs.t1w)
        through = np.linalg.inv(grid.grid(inputs.voxel_size)[1]) @ np.linalg.inv(inputs.matrix) @ t1w.affine
        mask = masks.carried(brain, through, t1w.shape[:3]) > 0.5
        return {"likeness": round(likeness, 3), **_keep(mask, t1w.affine, inputs.out_file)}


class EpiBrain(ArrayInterface):
    """Brain mask of an EPI image, made from it alone, see `masks.functional_brain`; `EngineFailure` where there is none."""

    input_spec, output_spec = _TwoFiles, _MaskOutput

    def compute(self) -> dict[str, Any]:
        image = nib.load(self.inputs.in_file)
        zooms = np.array(image.header.get_zooms()[:3], float)
        return _keep(masks.functional_brain(read(self.inputs.in_file), zooms), image.affine, self.inputs.out_file)


class _TissueBrainInput(BaseInterfaceInputSpec):
    in_files = traits.List(File(), mandatory=True, desc="probabilities of grey matter, white matter and fluid")
    like = File(mandatory=True, desc="image that was segmented, whose place in the world the mask takes")
    out_file = File(mandatory=True)


class TissueBrain(ArrayInterface):
    """Brain mask where the tissues are together more likely than not, in one piece; `EngineFailure` where there is none."""

    input_spec, output_spec = _TissueBrainInput, _MaskOutput

    def compute(self) -> dict[str, Any]:
        mask = masks.one_piece(sum(read(path) for path in self.inputs.in_files) > 0.5)
        return _keep(mask, nib.load(self.inputs.like).affine, self.inputs.out_file)


class _ProgramMaskInput(_TwoFiles):
    whole = File(desc="image of which `in_file` is a part of the grid; the mask comes on the whole of it")


class _ProgramMaskOutput(_MaskOutput):
    empty = traits.Bool()


class ProgramMask(ArrayInterface):
    """A program's mask as the house keeps masks, on the whole grid where it was made on a part."""

    input_spec, output_spec = _ProgramMaskInput, _ProgramMaskOutput

    def compute(self) -> dict[str, Any]:
        part = nib.load(self.inputs.in_file)
        mask, affine = read(self.inputs.in_file) > 0.5, part.affine
        if isdefined(self.inputs.whole):
            whole = nib.load(self.inputs.whole)
            uncut = np.zeros(whole.shape[:3], bool)
            uncut[masks.window_of(part.shape[:3], part.affine, whole.affine)] = mask
            mask, affine = uncut, whole.affine
        return {"empty": not mask.any(), **_keep(mask, affine, self.inputs.out_file)}
