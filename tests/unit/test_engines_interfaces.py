"""Every engine is a set of nipype interfaces and nothing more; the chains of all three engines are held to it too."""

from __future__ import annotations

import ast
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from engine_watch import OPTIONAL, STEPS, voxels_in_interfaces_alone
from nipype.interfaces.base import BaseInterface
from preprocessed_phantom import phantom, preprocess_again  # noqa: F401

from restresponse import engines
from restresponse.engines import (
    array_interfaces,
    deformations,
    distortion,
    fsl_transforms,
    segmentation,
    spm_priors,
    warp_interfaces,
)
from restresponse.engines.array_interfaces import ArrayInterface
from restresponse.engines.embedded import Embedded

FOLDER = Path(engines.__file__).parent
OWN = (array_interfaces, deformations, distortion, fsl_transforms, segmentation, spm_priors, warp_interfaces)
INTERFACES = {
    name: one
    for module in OWN
    for name, one in vars(module).items()
    if isinstance(one, type) and issubclass(one, ArrayInterface) and one is not ArrayInterface
}


def test_the_embedded_engine_touches_no_voxel_outside_an_interface(phantom, tmp_path):  # noqa: F811
    with voxels_in_interfaces_alone(Embedded) as seen:
        preprocess_again(phantom, tmp_path)
    assert seen >= STEPS - OPTIONAL | {"unwarp_by_registration"}


def test_the_watch_sees_a_step_that_works_on_voxels_itself(tmp_path):
    """Both ways, reading and writing; an interface may."""
    image = tmp_path / "T1w.nii"
    nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4)).to_filename(image)

    class Reading(Embedded):
        def smooth(self, series, fwhm):
            return np.asarray(nib.load(series).dataobj)

    class Writing(Embedded):
        def smooth(self, series, fwhm):
            nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4)).to_filename(self.folder / "smooth.nii")

    for wrong in (Reading, Writing):
        with voxels_in_interfaces_alone(wrong), pytest.raises(AssertionError, match="outside a nipype interface"):
            wrong(tmp_path).smooth(image, 5)
    with voxels_in_interfaces_alone(Embedded) as seen:
        Embedded(tmp_path).smooth(image, 5)
        nib.load(image).get_fdata()  # no step
    assert seen == {"smooth"}


@pytest.mark.parametrize("name", ["embedded", "fsl", "spm"])
def test_an_engines_module_has_no_library_of_images_or_filters(name):
    """Also of steps that run here by no program: what it imports are interfaces, matrices and words."""
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & {"nibabel", "scipy", "nilearn", "subprocess"}, imported


@pytest.mark.parametrize("name", sorted(INTERFACES))
def test_an_own_interface_says_what_it_wants_and_refuses_to_run_without(name):
    interface = INTERFACES[name]
    assert issubclass(interface, BaseInterface)
    wanted = interface.input_spec().traits(mandatory=True)
    assert wanted, f"{name} has no mandatory input"
    with pytest.raises(ValueError, match="requires a value for input"):
        interface().run()
