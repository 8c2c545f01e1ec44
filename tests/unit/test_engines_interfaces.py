"""Every engine is a set of nipype interfaces and nothing more; the chains of the real programs are held to it too."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from engine_watch import OPTIONAL, STEPS, as_interface, voxels_in_interfaces_alone
from nipype.interfaces.base import BaseInterface, traits
from preprocessed_phantom import phantom  # noqa: F401

from restresponse import engines, grid
from restresponse.engines import (
    EngineFailure,
    PhaseEncoding,
    array_interfaces,
    deformations,
    distortion,
    fsl_transforms,
    segmentation,
    spm_batches,
    spm_priors,
    tissues,
    warp_interfaces,
    warps,
)
from restresponse.engines.array_interfaces import ArrayInterface, write
from restresponse.engines.embedded import Embedded
from restresponse.engines.spm import Spm
from restresponse.files import read_json

FOLDER = Path(engines.__file__).parent
OWN = (array_interfaces, deformations, distortion, fsl_transforms, segmentation, spm_priors, warp_interfaces)
INTERFACES = {
    name: one
    for module in OWN
    for name, one in vars(module).items()
    if isinstance(one, type) and issubclass(one, ArrayInterface) and one is not ArrayInterface
}
ON_VOXELS = {"nibabel", "scipy", "nilearn", "shutil", "subprocess"}
ON_VOXELS |= {f"restresponse.{name}" for name in ("grid", "images")}
ON_VOXELS |= {f"restresponse.engines.{name}" for name in ("masks", "shifts", "tissues", "unwarping")}
ON_VOXELS |= {f"restresponse.engines.array_interfaces.{name}" for name in ("read", "write")}


def test_the_embedded_engine_touches_no_voxel_outside_an_interface(phantom):  # noqa: F811
    """It was watched while the phantom was made, and would have stopped there."""
    assert set(read_json(phantom / "steps.json")) >= STEPS - OPTIONAL | {"unwarp_by_registration"}


class StandIn(Spm):
    """The engine SPM with every batch's outputs written in SPM's place: images of the right grids, nothing moved."""

    @as_interface
    def _run(self, batch: Any) -> None:
        inputs, kind = batch.inputs, type(batch)
        if kind is spm_batches.Segment:
            self._segment(Path(inputs.channel_files[0]))
        elif kind is spm_batches.Normalise:
            shape, affine = grid.grid(inputs.write_voxel_sizes[0])
            from_the_right = affine @ np.array([[-1.0, 0, 0, shape[0] - 1], *np.eye(4)[1:]])
            for path in map(Path, inputs.apply_to_files):
                data = np.ones((*shape, *nib.load(path).shape[3:]), np.float32)
                write(path.with_name(f"w{path.name}"), data, from_the_right)
        elif kind is not spm_batches.Coregister:
            self._series(Path(inputs.in_files[0]), kind.__name__)

    def _segment(self, path: Path) -> None:
        image = nib.load(path)
        places = warps.points_of(image.shape, image.affine).reshape(*image.shape, 1, 3)
        write(path.with_name(f"y_{path.name}"), places.astype(np.float32), image.affine)
        write(path.with_name(f"m{path.name}"), np.asarray(image.dataobj), image.affine)
        maps = [grid.template_image(name, 4) for name in ("GM", "WM", "brain")]
        for index, share in enumerate(tissues.template_priors(*maps).values(), start=1):
            write(path.with_name(f"c{index}{path.name}"), share, image.affine)

    def _series(self, path: Path, kind: str) -> None:
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        start = {"SliceTiming": "a", "Realign": "", "RealignUnwarp": "u", "Smooth": "s"}[kind]
        write(path.with_name(f"{start}{path.name}"), data.copy(), image.affine)
        if "Realign" in kind:
            write(path.with_name(f"mean{start}{path.name}"), data.mean(axis=3), image.affine)
            np.savetxt(path.with_name(f"rp_{path.stem}.txt"), np.zeros((data.shape[3], 6)))


@pytest.mark.parametrize("priors", ["template", "spm"])
def test_the_engine_spm_touches_no_voxel_outside_an_interface(tmp_path, monkeypatch, priors):
    """All its steps, on the template as a head; what SPM does, a stand-in does."""
    affine = grid.grid(4)[1]
    grey, white, brain = (grid.template_image(name, 4) for name in ("GM", "WM", "brain"))
    t1w = write(tmp_path / "T1w.nii", 1000 * grid.template_image("T1w", 4), affine)
    still = 800 * brain + 200 * grey - 200 * white
    noise = np.random.default_rng(0).normal(0, 5, (*still.shape, 6)).astype(np.float32)
    bold = write(tmp_path / "bold.nii", still[..., None] + noise, affine)
    hertz = write(tmp_path / "hertz.nii", 10 * brain, affine)
    np.savetxt(tmp_path / "spm.sh", [])
    (tmp_path / "spm.sh").chmod(0o755)
    write(tmp_path / "priors.nii", np.ones((4, 4, 4, 6), np.float32), affine)  # what they are, their own test holds
    monkeypatch.setattr(distortion, "beyond_chance", lambda gain, chance: True)

    works = StandIn(tmp_path, {"command": f"{tmp_path}/spm.sh script", "priors": priors})
    with voxels_in_interfaces_alone(StandIn) as seen:
        mask = works.brain_extract(t1w)
        flat = works.bias_correct(t1w, mask)
        normalisation = works.normalise(flat, mask)
        maps = works.segment(flat, mask, normalisation, 5)
        works.to_template(maps["GM"], normalisation)
        timed = works.slice_timing(bold, [0.0, 1.0] * 23, 2.0)
        realignment = works.realign(timed)
        epi_mask = works.functional_mask(realignment.reference)
        images = (realignment.reference, epi_mask, flat, mask)
        coregistration = works.coregister(*images)
        works.coregister_undistorted(*images)
        works.align(*images)
        works.unwarp_by_field(timed, realignment, hertz, PhaseEncoding(1, -1, 0.03))
        works.unwarp_with_motion(timed, realignment, 1)
        found = works.unwarp_by_registration(timed, realignment, epi_mask, 1, flat, mask, coregistration)
        works.resample(epi_mask, None, coregistration, normalisation, 4)
        works.resample(timed, realignment, coregistration, normalisation, 4)
        works.smooth(works.resample(timed, realignment, coregistration, normalisation, 4, found), 5)
    assert seen == STEPS


def test_the_watch_sees_a_step_that_works_on_voxels_itself(tmp_path):
    image = write(tmp_path / "T1w.nii", np.ones((8, 8, 8), np.float32), np.eye(4))
    grid.template_image("T1w", 4)  # ready in memory now

    ones = nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4))
    wrong = {
        "reads": lambda works, series: np.asarray(nib.load(series).dataobj),
        "slices": lambda works, series: nib.load(series).slicer[2:],
        "writes": lambda works, series: ones.to_filename(works.folder / "smooth.nii"),
        "turns into bytes": lambda works, series: ones.to_bytes(),
        "knows the template": lambda works, series: grid.template_image("T1w", 4),
        "copies": lambda works, series: shutil.copyfile(series, works.folder / "copy.nii"),
    }
    for how, step in wrong.items():
        one = type(f"One that {how}", (Embedded,), {"smooth": lambda self, series, fwhm, step=step: step(self, series)})
        with voxels_in_interfaces_alone(one), pytest.raises(AssertionError, match=f"One that {how} uses .* outside"):
            one(tmp_path).smooth(image, 5)
    with voxels_in_interfaces_alone(Embedded) as seen:
        Embedded(tmp_path).smooth(image, 5)
        nib.load(image).get_fdata()  # no step
    assert seen == {"smooth"}


@pytest.mark.parametrize("name", ["embedded", "fsl", "spm"])
def test_an_engines_module_imports_interfaces_matrices_and_words(name):
    """Nothing that reads voxels or works on them: also where a step's program is not there to run it."""
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert not imported & ON_VOXELS, imported & ON_VOXELS


@pytest.mark.parametrize("name", sorted(INTERFACES))
def test_an_own_interface_says_what_it_wants_and_gives_files_and_numbers(name):
    interface = INTERFACES[name]
    assert issubclass(interface, BaseInterface)
    assert interface.input_spec().traits(mandatory=True), f"{name} has no mandatory input"
    with pytest.raises(ValueError, match="requires a value for input"):
        interface().run()
    for output, trait in interface.output_spec().traits(transient=None).items():  # voxels would leave it so
        if trait.is_trait_type(traits.Array):
            assert trait.trait_type.shape in ((4, 4), (3,)), f"{name}.{output}"


def test_an_empty_mask_is_a_failure_of_the_data(tmp_path):
    for name, value in (("full", 1), ("empty", 0)):
        write(tmp_path / f"{name}.nii", np.full((8, 8, 8), value, np.uint8), np.eye(4))
    for interface in (
        array_interfaces.Centres(fixed="full.nii", moving="empty.nii"),
        array_interfaces.CoarseMasked(in_file="full.nii", mask="empty.nii", margin=1, voxel_size=2, out_file="a.nii"),
    ):
        with pytest.raises(EngineFailure, match=r"the brain mask empty\.nii is empty"):
            interface.run(cwd=str(tmp_path))


def test_an_engines_folder_may_be_reached_by_a_link(tmp_path):
    """The files that interfaces give are named as the engine names its folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    image = write(tmp_path / "link" / "T1w.nii", 1000 * grid.template_image("T1w", 4), grid.grid(4)[1])
    mask = write(tmp_path / "link" / "mask.nii", grid.brain_mask(4).astype(np.uint8), grid.grid(4)[1])
    works = Embedded(tmp_path / "link")
    np.savetxt(tmp_path / "link" / "T1w.mat", np.eye(4))
    normalisation = engines.Normalisation(tmp_path / "link" / "T1w.mat", None)
    maps = works.segment(image, mask, normalisation, 5)
    assert works.to_template(maps["GM"], normalisation).parent == tmp_path / "link"
