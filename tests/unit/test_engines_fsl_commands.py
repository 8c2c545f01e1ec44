"""The command of every step of the engine on FSL, against what FSL's manuals ask for: s, mm, rad/s, directions."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from engine_watch import voxels_in_interfaces_alone
from fsl_conventions import (  # noqa: F401
    KINDS,
    SHAPE,
    Recorded,
    epi_affine,
    fsl_home,
    fsl_millimetres,
    turned,
    voxel_of,
    write_image,
)
from scipy import ndimage

from restresponse import grid
from restresponse.engines import Distortion, EngineFailure, Normalisation, PhaseEncoding, Realignment, motion, warps
from restresponse.engines import fsl_transforms as transforms
from restresponse.errors import InputError


@pytest.fixture(autouse=True)
def _watched():
    with voxels_in_interfaces_alone(Recorded):
        yield


def _anatomical(folder: Path) -> tuple[Path, Path]:
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    t1w = write_image(folder / "T1w.nii", np.full(SHAPE, 100, np.float32), affine)
    return t1w, write_image(folder / "brain_mask.nii", np.ones(SHAPE, np.uint8), affine)


def test_brain_extraction_is_bet_with_a_robust_centre(tmp_path, home):
    def mask(path: Path) -> None:
        write_image(path, np.pad(np.ones((4, 4, 4), np.float32), 4), np.eye(4))

    t1w, _ = _anatomical(tmp_path)
    image = nib.load(t1w)
    upper = image.slicer[:, :, 3:]  # what robustfov leaves

    def brain(path: Path) -> None:
        write_image(path, np.ones(upper.shape, np.float32), upper.affine)

    works = Recorded(tmp_path, answers={"head.nii": brain, "bet_mask.nii": brain, "epi_mask.nii": mask})
    found = nib.load(works.brain_extract(t1w))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.affine, image.affine)
    on = np.asarray(found.dataobj)
    assert on.shape == image.shape and on[:, :, 3:].all() and not on[:, :, :3].any()
    works.functional_mask(t1w)
    assert works.commands == [
        "robustfov -i T1w.nii -r head.nii -m head.mat",
        "bet head.nii bet.nii -f 0.50 -m -R",
        "bet T1w.nii epi.nii -f 0.30 -m",
    ]
    assert works.steps[0]["parameters"]["volume_ml"] == pytest.approx(np.prod(upper.shape) * 0.512, abs=0.1)
    assert works.steps[0]["version"] == "6.0.7.11"
    works.answers["bet_mask.nii"] = lambda path: write_image(path, np.zeros((4, 4, 4), np.float32), upper.affine)
    with pytest.raises(EngineFailure, match="BET found no brain"):
        works.brain_extract(t1w)


def test_fast_corrects_the_bias_field(tmp_path, home):
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    field = np.zeros(SHAPE, np.float32)
    field[5:15] = 2
    works = Recorded(tmp_path, answers={"bias_bias.nii": lambda path: write_image(path, field, affine)})
    flat = np.asarray(nib.load(works.bias_correct(*_anatomical(tmp_path))).dataobj)
    assert (flat[5:15] == 50).all() and (flat[:5] == 100).all()
    # T1, three classes, -b: the bias field is written
    assert works.commands == ["fast -t 1 --nopve -n 3 -o bias -b -S 1 T1w_brain.nii"]


def test_normalisation_is_flirt_then_fnirt_on_nilearns_template(tmp_path, home):
    """Every parameter of FSL's own configuration is in the command, for that configuration names FSL's template.

    Names are relative, for the folder's own path may have spaces.
    """
    tmp_path = tmp_path / "my results"
    tmp_path.mkdir()
    shape, affine = grid.grid(2)
    field = np.zeros((*shape, 3), np.float32) + np.array([4, -6, 2], np.float32)
    flirt = turned(1, 4, (5, 6, 7))

    def answers(works: Recorded) -> Normalisation:
        works.answers = {
            "affine.flirt": lambda path: np.savetxt(path, flirt),
            "fnirt_field.nii": lambda path: write_image(path, field, affine),
        }
        return works.normalise(*_anatomical(tmp_path))

    works = Recorded(tmp_path, {"nonlinear": True})
    found = answers(works)
    assert works.commands == [
        "flirt -in T1w_brain.nii -ref template_brain.nii -out T1w_affine.nii -omat affine.flirt -dof 12",
        "fnirt --aff=affine.flirt --applyinmask=1,1,1,1,1,1 --estint=1,1,1,1,1,0 --applyrefmask=1,1,1,1,1,1 "
        "--biaslambda=10000.000000 --biasres=50,50,50 --fout=fnirt_field.nii --cout=fnirt_coefficients.nii "
        "--in=T1w_brain.nii --infwhm=8,6,5,5,3,2 --intmod=global_non_linear_with_bias --intorder=5 --logout=fnirt.log "
        "--miter=5,5,5,5,5,10 --ref=template_brain.nii --reffwhm=8,6,5,4,2,0 --refmask=template_within.nii "
        "--lambda=300.0,150.0,100.0,50.0,40.0,30.0 --regmod=bending_energy --impinm=0 --imprefm=0 "
        "--subsamp=4,4,2,2,1,1 --warpres=10,10,10 --iout=fnirt_T1w.nii",
    ]
    template = nib.load(tmp_path / "template_brain.nii")
    np.testing.assert_allclose(template.affine, affine)
    values = np.asarray(template.dataobj)
    assert values.max() > 5000 and (values[grid.template_image("brain", 2) < 0.5] == 0).all()
    within = np.asarray(nib.load(tmp_path / "template_within.nii").dataobj)
    np.testing.assert_array_equal(within, grid.brain_mask(2))

    source = transforms.frame_of(SHAPE, (8, 8, 8), np.diag([8.0, 8.0, 8.0, 1.0]))
    target = transforms.frame_of(shape, (2, 2, 2), affine)
    matrix = np.loadtxt(found.affine)
    np.testing.assert_allclose(matrix, np.linalg.inv(transforms.world_matrix(flirt, source, target)), atol=1e-8)
    displacements = warps.field_of(np.asarray(nib.load(found.warp).dataobj))
    index = np.array([40, 50, 30])
    there = fsl_millimetres(index, shape, 2.0, affine) + np.array([4, -6, 2])
    expected = np.diag([8.0, 8.0, 8.0, 1.0]) @ [*voxel_of(there, SHAPE, 8.0, np.eye(4)), 1]
    place = (affine @ [*index, 1])[:3] + displacements[tuple(index)]
    np.testing.assert_allclose(matrix @ [*place, 1], expected, atol=1e-3)

    alone = Recorded(tmp_path, {"nonlinear": False})
    found = answers(alone)
    assert len(alone.commands) == 1 and alone.commands[0] == works.commands[0]
    assert not np.asarray(nib.load(found.warp).dataobj).any()
    assert "FNIRT" in works.steps[0]["method"] and "FNIRT" not in alone.steps[0]["method"]


def test_slicetimer_gets_shifts_in_repetition_times_to_the_middle(tmp_path, home):
    """Its manual: times in fractions of TR, positive values shift a slice forwards; the first slice comes from before."""
    works = Recorded(tmp_path)
    bold = write_image(tmp_path / "bold.nii", np.zeros((4, 4, 4, 6), np.float32), np.eye(4), 2.6)
    works.slice_timing(bold, [0.0, 1.3, 2.5, 0.65], 2.6)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "slices.txt"), [0.5, 0.0, 0.5 - 2.5 / 2.6, 0.25], atol=1e-7)
    assert works.commands == [
        "slicetimer --in=bold.nii --tcustom=slices.txt --out=timed.nii --direction=3 --repeat=2.600000"
    ]
    assert works.steps[0]["parameters"] == {"reference": 1.3, "times": [0.0, 1.3, 2.5, 0.65]}


@pytest.mark.parametrize("kind", KINDS)
def test_realignment_is_mcflirt_twice_the_second_time_smoothed_and_gives_the_houses_parameters(tmp_path, home, kind):
    affine = epi_affine(kind)
    frame = transforms.frame_of(SHAPE, (3, 3, 4), affine)
    centre = warps.world_of((np.array(SHAPE)[None] - 1) / 2, affine)[0]
    planted = np.array([[0, 0, 0, 0, 0, 0], [1, -2, 0.5, 0.01, -0.02, 0.03], [0.2, 0.1, -0.3, 0.02, 0.01, 0.0]])
    stack = np.linalg.inv(np.linalg.inv(frame) @ motion.matrices_of(planted, centre) @ frame)

    def series(path: Path) -> None:
        write_image(path, np.zeros((*SHAPE, 3), np.float32), affine)

    def realigned(path: Path) -> None:
        series(path)
        (tmp_path / "realigned.mat").mkdir()
        for number, matrix in enumerate(stack):
            np.savetxt(tmp_path / "realigned.mat" / f"MAT_{number:04d}", matrix, fmt="%.10g", delimiter="  ")

    mean = {"mean.nii": lambda path: write_image(path, np.ones(SHAPE, np.float32), affine)}
    soft = {"soft.nii": series, "soft_mean.nii": lambda path: write_image(path, np.zeros(SHAPE, np.float32), affine)}
    works = Recorded(tmp_path, answers={"moved.nii": series, "realigned.nii": realigned, **mean, **soft})
    bold = write_image(tmp_path / "bold.nii", np.zeros((*SHAPE, 3), np.float32), affine, 2.6)
    found = works.realign(bold)
    assert works.commands == [
        "mcflirt -in bold.nii -cost normcorr -dof 6 -out moved -refvol 1",
        "fslmaths moved.nii -Tmean mean.nii -odt float",
        "fslmaths bold.nii -s 2.12330 soft.nii -odt float",
        "fslmaths mean.nii -s 2.12330 soft_mean.nii -odt float",
        "mcflirt -in soft.nii -cost normcorr -dof 6 -out realigned -reffile soft_mean.nii -mats -stages 4",
    ]
    np.testing.assert_allclose(found.motion, planted, atol=1e-7)
    np.testing.assert_allclose(np.loadtxt(found.transforms).reshape(-1, 4, 4), stack, atol=1e-9)  # applywarp's premat
    np.testing.assert_allclose(nib.load(found.reference).affine, affine, atol=1e-6)
    np.testing.assert_array_equal(nib.load(found.reference).dataobj, nib.load(tmp_path / "mean.nii").dataobj)  # sharp
    assert not any((tmp_path / name).exists() for name in ("moved.nii", "soft.nii", "realigned.nii"))
    (tmp_path / "realigned.mat" / "MAT_0002").unlink()
    works.answers["realigned.nii"] = series
    with pytest.raises(EngineFailure, match="no matrix for 1 of 3 volumes: MAT_0002"):
        works.realign(bold)


def test_coregistration_is_boundary_based_after_a_rigid_start(tmp_path, home):
    t1w, brain = _anatomical(tmp_path)
    straight, affine = np.diag([8.0, 8.0, 8.0, 1.0]), np.diag([-8.0, 8.0, 8.0, 1.0])
    affine[0, 3] = 19 * 8
    # the same scaled voxels at the same place: from the EPI's world, left to right, to that of the T1w, right to left
    frames = transforms.frame_of(SHAPE, (8, 8, 8), affine), transforms.frame_of(SHAPE, (8, 8, 8), straight)
    good, bad, lost = np.eye(4), np.eye(4), np.eye(4)
    good[:3, 3], bad[:3, 3], lost[:3, 3] = [8, 4, -4], [48, 0, 0], [0, 40, 0]
    ball = np.linalg.norm(np.indices(SHAPE).T - np.array([9, 12, 9]), axis=-1).T < 6
    head = ball * (100 + 20 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1) / 0.2)
    through = np.linalg.inv(straight) @ transforms.world_matrix(good, *frames) @ affine
    shown = [ndimage.affine_transform(image, through, order=1) for image in (ball * 300 - head, ball.astype(float))]
    write_image(t1w, head.astype(np.float32), straight)
    write_image(brain, ball.astype(np.uint8), straight)
    write_image(tmp_path / "reference.nii", shown[0].astype(np.float32), affine)
    write_image(tmp_path / "reference_mask.nii", (shown[1] > 0.5).astype(np.uint8), affine)

    def coregister(start, bound, distorted=False) -> tuple[Recorded, np.ndarray]:
        works = Recorded(tmp_path)
        works.answers = {
            "reference_start.flirt": lambda path: np.savetxt(path, start),
            "reference_bbr.flirt": lambda path: np.savetxt(path, bound),
        }
        images = tmp_path / "reference.nii", tmp_path / "reference_mask.nii"
        register = works.coregister if distorted else works.coregister_undistorted
        return works, np.loadtxt(register(*images, t1w, brain))

    works, found = coregister(np.eye(4), good)
    assert works.commands == [
        "fast -t 1 -N --nopve -n 3 -o fixed -g -S 1 fixed.nii",
        "flirt -in moving.nii -ref fixed.nii -out start.nii -omat reference_start.flirt -dof 6",
        "flirt -in reference.nii -ref T1w.nii -out bbr.nii -omat reference_bbr.flirt -cost bbr -dof 6 -init "
        f"reference_start.flirt -schedule {home}/etc/flirtsch/bbr.sch -wmseg fixed_seg_2.nii",
    ]
    np.testing.assert_allclose(np.linalg.inv(found), transforms.world_matrix(good, *frames), atol=1e-8)
    facts = works.steps[0]["parameters"]
    assert facts["taken"] == "bbr" and facts["unexplained"] < 0.1 < facts["unexplained_start"]
    assert "boundary-based cost on FAST's white matter" in works.steps[0]["method"]
    for start, bound, distorted, taken, words in (
        (good, np.eye(4), False, "start", "explains less of the EPI and was not used"),
        (good, np.eye(4), True, "bbr", "FAST's white matter"),  # distortion moves intensities more than the boundary
        (good, bad, True, "start", "led off the brain and was not used"),
        (np.eye(4), bad, False, "start", "led off the brain and was not used"),
        (
            lost,
            np.eye(4),
            False,
            "bbr",
            "FAST's white matter",
        ),  # hardly a brain is compared, so that little is unexplained
    ):
        works, found = coregister(start, bound, distorted)
        assert works.steps[0]["parameters"]["taken"] == taken
        assert words in works.steps[0]["method"]
        expected = transforms.world_matrix(start if taken == "start" else bound, *frames)
        np.testing.assert_allclose(found, np.linalg.inv(expected), atol=1e-8)
    (tmp_path / "fixed_seg_2.nii").write_bytes(b"")
    bad[0, 3] = 300
    with pytest.raises(EngineFailure, match=r"overlaps the T1w's by a Dice of 0\.00"):
        coregister(bad, bad)
    (tmp_path / "fsl" / "etc" / "flirtsch" / "bbr.sch").unlink()
    with pytest.raises(FileNotFoundError, match=r"bbr\.sch is not in FSL's folder"):
        coregister(good, good)


def test_a_field_maps_magnitude_is_registered_by_intensity_alone_and_leaves_the_t1w_its_own_boundary(tmp_path, home):
    """White matter of a T1w is no boundary of a magnitude, nor the other way round."""
    t1w, brain = _anatomical(tmp_path)
    write_image(brain, np.ones(SHAPE, np.uint8), np.eye(4) * [8, 8, 8, 1])
    for name in ("reference", "reference_mask", "magnitude"):
        write_image(tmp_path / f"{name}.nii", np.ones(SHAPE, np.float32), np.eye(4) * [8, 8, 8, 1])
    works = Recorded(tmp_path)
    works.answers = {
        name: lambda path: np.savetxt(path, np.eye(4)) for name in ("reference_start.flirt", "reference_bbr.flirt")
    }
    images = tmp_path / "reference.nii", tmp_path / "reference_mask.nii"
    np.testing.assert_allclose(
        np.loadtxt(works.align(*images, tmp_path / "magnitude.nii", brain)), np.eye(4), atol=1e-8
    )
    assert works.commands == [
        "flirt -in moving.nii -ref aligned_to.nii -out start.nii -omat reference_start.flirt -dof 6"
    ]
    works.coregister(*images, t1w, brain)
    assert works.commands[1] == "fast -t 1 -N --nopve -n 3 -o fixed -g -S 1 fixed.nii"
    assert "-wmseg fixed_seg_2.nii" in works.commands[3] and "-ref T1w.nii" in works.commands[3]
    far = np.eye(4)
    far[0, 3] = 300
    works.answers["reference_start.flirt"] = lambda path: np.savetxt(path, far)
    with pytest.raises(EngineFailure, match=r"overlaps the field map's by a Dice of 0\.00"):
        works.align(*images, tmp_path / "magnitude.nii", brain)


@pytest.mark.parametrize(
    ("axis", "sign", "right", "named"), [(1, 1, True, "y"), (1, -1, True, "y-"), (0, 1, True, "x-")]
)
def test_a_field_map_goes_to_fugue_in_rad_per_second_with_its_echo_spacing(tmp_path, home, axis, sign, right, named):
    affine = epi_affine("right" if right else "left")
    ramp = np.moveaxis(
        np.broadcast_to(100.0 + np.arange(SHAPE[axis]), np.moveaxis(np.empty(SHAPE), axis, -1).shape), -1, axis
    )
    reference = write_image(tmp_path / "reference.nii", ramp.astype(np.float32), affine)
    hertz = write_image(tmp_path / "hertz.nii", np.full(SHAPE, 25, np.float32), affine)
    works = Recorded(tmp_path)
    works.answers = {
        "fugue_shift.nii": lambda path: (
            write_image(path, np.full(SHAPE, 1.5, np.float32), affine),
            write_image(tmp_path / "fugue_reference.nii", np.ones(SHAPE, np.float32), affine),
        )
    }
    realignment = Realignment(reference, np.zeros((3, 6)), tmp_path / "motion.mat")
    found = works.unwarp_by_field(tmp_path / "bold.nii", realignment, hertz, PhaseEncoding(axis, sign, 0.046))
    spacing = 0.046 / (SHAPE[axis] - 1)
    assert works.commands == [
        f"fugue --dwell={spacing:.10f} --loadfmap=fieldmap.nii --in=reference.nii --unmaskshift "
        f"--saveshift=fugue_shift.nii --unwarpdir={named} --unwarp=fugue_reference.nii"
    ]
    np.testing.assert_allclose(np.asarray(nib.load(tmp_path / "fieldmap.nii").dataobj), 25 * 2 * np.pi, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(nib.load(found.shift).dataobj), sign * 1.5)
    assert found.axis == axis and nib.load(found.reference).shape == SHAPE and found.series is None
    inside = np.moveaxis(np.asarray(nib.load(found.reference).dataobj) - ramp, axis, 0)[3:-3]
    np.testing.assert_allclose(inside, sign * 1.5, atol=1e-3)  # what belongs at i was at i + shift
    with pytest.raises(InputError, match="TotalReadoutTime"):
        works.unwarp_by_field(tmp_path / "bold.nii", realignment, hertz, PhaseEncoding(axis, sign, None))


def test_one_applywarp_brings_a_series_to_the_grid_and_keeps_masks_linear(tmp_path, home):
    affine = epi_affine("right")
    bold = write_image(tmp_path / "bold.nii", np.zeros((*SHAPE, 3), np.float32), affine, 2.6)
    for name in ("c.mat", "T1w.mat"):
        np.savetxt(tmp_path / name, np.eye(4))
    np.savetxt(tmp_path / "motion.mat", np.tile(np.eye(4), (3, 1)))
    shift = write_image(tmp_path / "shift.nii", np.full(SHAPE, 2, np.float32), affine)
    works = Recorded(tmp_path, answers={"grid_field_shifted.nii": lambda path: path.write_bytes(b"a field")})
    realignment = Realignment(bold, np.zeros((3, 6)), tmp_path / "motion.mat")
    rest = (tmp_path / "c.mat", Normalisation(tmp_path / "T1w.mat", None), 6)
    works.resample(bold, realignment, *rest)
    works.resample(bold, None, *rest)
    works.resample(bold, realignment, *rest, Distortion(bold, shift, 0))
    assert works.commands == [
        "applywarp --in=bold.nii --ref=grid.nii --out=resampled.nii --datatype=float --warp=grid_field.nii "
        "--premat=motion.mat --interp=spline --rel",
        "applywarp --in=bold.nii --ref=grid.nii --out=resampled_still.nii --datatype=float --warp=grid_field.nii "
        "--interp=trilinear --rel",
        "convertwarp --ref=grid.nii --relout --rel --shiftdir=x --shiftmap=shiftmap.nii --warp1=grid_field.nii "
        "--out=grid_field_shifted.nii",
        "applywarp --in=bold.nii --ref=grid.nii --out=resampled.nii --datatype=float --warp=grid_field_shifted.nii "
        "--premat=motion.mat --interp=spline --rel",
    ]
    assert (np.asarray(nib.load(tmp_path / "shiftmap.nii").dataobj) == -2).all()  # FSL counts this x the other way
    works.resample(bold, None, *rest, Distortion(bold, shift, 1))
    assert (np.asarray(nib.load(tmp_path / "shiftmap.nii").dataobj) == 2).all()
    assert "--shiftdir=y " in works.commands[4] and "--warp=grid_field_shifted.nii" in works.commands[5]
    assert [step["step"] for step in works.steps] == ["resampling"] * 2
    assert "distortion" in works.steps[1]["method"] and "distortion" not in works.steps[0]["method"]
    write_image(tmp_path / "GM.nii", np.zeros(SHAPE, np.float32), affine)
    works.to_template(tmp_path / "GM.nii", rest[1])
    assert works.commands[-1] == (
        "applywarp --in=GM.nii --ref=grid2.nii --out=template_GM.nii --datatype=float --warp=field2.nii --interp=trilinear --rel"
    )
    assert nib.load(tmp_path / "field2.nii").shape == (91, 109, 91, 3)


def test_smoothing_is_gaussian_and_its_sigma_in_mm(tmp_path, home):
    works = Recorded(tmp_path)
    write_image(tmp_path / "s.nii", np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    works.smooth(tmp_path / "s.nii", 5)
    assert works.commands == ["fslmaths s.nii -s 2.12330 smooth.nii -odt float"]


def test_files_of_other_folders_are_refused(tmp_path, home):
    with pytest.raises(ValueError, match="subpath"):
        Recorded(tmp_path).smooth(Path("/elsewhere/image.nii"), 5)
