"""One step on a phantom by another program, against the engine's on the same images: error and CPU time."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
from preprocessing_errors import PARTICIPANT, coregistration_error, motion_error, normalisation_error

from restresponse import grid
from restresponse.engines import masks, warps
from restresponse.phantom.truth import read_truth

_MODULES = {"simpleitk": ("SimpleITK", "coregistration"), "ants": ("ants", "normalisation")}
# what fMRIPrep gives antsRegistration to normalise a T1w, not in a hurry: affine by Mattes' mutual information, then SyN by
# cross-correlation within 4 voxels on four levels, the last at 1 mm
_AFFINE = "-c [100x100,1e-06,20] -f 2x1 -u 1 -w [0.005,0.995]"
_SYN = "-t SyN[0.1,3.0,0.0] -c [100x70x50x20,1e-06,10] -f 8x4x2x1 -s 3x2x1x0vox -u 1"


def compare(peer: str, phantom: Path, engine: str) -> str:
    """One sentence: error and CPU seconds of the peer and of the engine, and their ratio; or why there is none."""
    if peer not in _MODULES:
        return f"\npeer {peer}: not known; there is {', '.join(_MODULES)}"
    module, step = _MODULES[peer]
    if importlib.util.find_spec(module) is None:
        return f"\npeer {peer}: {module} is not installed here, left out (pip install it where this can import it)"
    out = phantom / engine
    truth = read_truth(phantom / "bids_truth", PARTICIPANT)
    brain = warps.world_of(np.argwhere(grid.brain_mask(6)).astype(float), grid.grid(6)[1])
    if step == "coregistration":
        own = coregistration_error(truth, brain, motion_error(truth, out)[0], out).mean()
    else:
        own = normalisation_error(truth, brain, out).mean()
    taken = json.loads((out / "measured.json").read_text())["steps"]
    spent = next(one["cpu_seconds"] for stage in taken.values() for one in stage if one.get("step") == step)

    started = sum(os.times()[:4])
    in_t1w = truth.mni_to_t1w(brain.T).T
    if peer == "simpleitk":
        planted = warps.world_of(warps.world_of(in_t1w, truth.coregistration), truth.motion_matrices()[0])
        found = warps.world_of(in_t1w, _simpleitk(phantom, out))
    else:
        planted, found = in_t1w, _ants(out, brain)
    seconds = sum(os.times()[:4]) - started
    error = np.linalg.norm(found - planted, axis=1).mean()
    return (
        f"\n{step}: {engine} {own:.2f} mm in {spent:.1f} CPU s, {peer} {error:.2f} mm in {seconds:.1f} CPU s: "
        f"{seconds / spent:.1f} times the time"
    )


def _ants(out: Path, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) of MNI space carried to the engine's T1w by ANTs' SyN, brain to brain at 1 mm, one thread."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # read when ants is imported
    import ants
    import pandas as pd

    (head, within), affine = grid.template_maps(("T1w", "brain"))
    t1w = nib.load(out / "T1w.nii.gz")
    own = np.asarray(t1w.dataobj, np.float32) * (np.asarray(nib.load(out / "brain_mask.nii.gz").dataobj) > 0)
    folder = out / "peer_ants"
    folder.mkdir(exist_ok=True)
    nib.Nifti1Image((head * (within >= 0.5)).astype(np.float32), affine).to_filename(folder / "fixed.nii")
    nib.Nifti1Image(own, t1w.affine).to_filename(folder / "moving.nii")
    pair = f"{folder / 'fixed.nii'},{folder / 'moving.nii'}"
    mattes = f"-m Mattes[{pair},1,56,Regular,0.25]"
    words = (
        f"-d 3 --float 1 -o {folder}/found -r [{pair},1] -t Rigid[0.05] {mattes} {_AFFINE} -s 2x1vox "
        f"-t Affine[0.08] {mattes} {_AFFINE} -s 1x0vox {_SYN} -m CC[{pair},1,4] -w [0.005,0.995]"
    )
    status = ants.lib.antsRegistration(words.split())
    if status:
        raise RuntimeError(f"antsRegistration ended with status {status}")
    flip = np.array([-1.0, -1.0, 1.0])  # its world is LPS
    table = pd.DataFrame(points * flip, columns=["x", "y", "z"])
    transforms = [f"{folder}/found1Warp.nii.gz", f"{folder}/found0GenericAffine.mat"]
    return ants.apply_transforms_to_points(3, table, transforms)[["x", "y", "z"]].to_numpy() * flip


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
