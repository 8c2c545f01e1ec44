"""The coregistration of a phantom by another program, against the engine's on the same images: error and CPU time."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
from preprocessing_errors import PARTICIPANT, coregistration_error, motion_error

from restresponse import grid
from restresponse.engines import masks, warps
from restresponse.phantom.truth import read_truth

_MODULES = {"simpleitk": "SimpleITK"}


def compare(peer: str, phantom: Path, engine: str) -> str:
    """One sentence: error and CPU seconds of the peer and of the engine, and their ratio; or why there is none."""
    if peer not in _MODULES:
        return f"\npeer {peer}: not known; there is {', '.join(_MODULES)}"
    if importlib.util.find_spec(_MODULES[peer]) is None:
        return f"\npeer {peer}: {_MODULES[peer]} is not installed here, left out (pip install {_MODULES[peer]})"
    out = phantom / engine
    truth = read_truth(phantom / "bids_truth", PARTICIPANT)
    brain = warps.world_of(np.argwhere(grid.brain_mask(6)).astype(float), grid.grid(6)[1])
    own = coregistration_error(truth, brain, motion_error(truth, out)[0], out).mean()
    steps = json.loads((out / "measured.json").read_text())["steps"]["functional"]
    spent = next(step["cpu_seconds"] for step in steps if step["step"] == "coregistration")

    started = sum(os.times()[:4])
    found = _simpleitk(phantom, out)
    seconds = sum(os.times()[:4]) - started
    in_t1w = truth.mni_to_t1w(brain.T).T
    planted = warps.world_of(warps.world_of(in_t1w, truth.coregistration), truth.motion_matrices()[0])
    error = np.linalg.norm(warps.world_of(in_t1w, found) - planted, axis=1).mean()
    return (
        f"\ncoregistration: {engine} {own:.2f} mm in {spent:.1f} CPU s, {peer} {error:.2f} mm in {seconds:.1f} CPU s: "
        f"{seconds / spent:.1f} times the time"
    )


def _simpleitk(phantom: Path, out: Path) -> np.ndarray:
    """Rigid matrix (4, 4) in RAS, T1w to the first volume, by Mattes' mutual information on three levels, one thread."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    t1w = nib.load(out / "T1w.nii.gz")
    masked = np.asarray(t1w.dataobj, np.float32) * (np.asarray(nib.load(out / "brain_mask.nii.gz").dataobj) > 0)
    bold = nib.load(phantom / "bids" / PARTICIPANT / "func" / f"{PARTICIPANT}_task-rest_bold.nii.gz")
    paths = out / "peer_fixed.nii", out / "peer_moving.nii"
    nib.Nifti1Image(*masks.coarser(masked, t1w.affine, 2.0)).to_filename(paths[0])  # as the engine has them
    volume = np.asarray(bold.dataobj[..., 0], np.float32)
    volume *= masks.functional_brain(volume, np.array(bold.header.get_zooms()[:3], float))
    nib.Nifti1Image(volume, bold.affine).to_filename(paths[1])
    fixed, moving = (SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32) for path in paths)
    start = SimpleITK.Euler3DTransform()
    start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.5, 7)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    centre = np.array(start.GetCenter())
    rotation = np.array(start.GetMatrix()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.array(start.GetTranslation()) - rotation @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # its world is LPS
    for path in paths:
        path.unlink()
    return flip @ matrix @ flip
