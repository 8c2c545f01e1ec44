"""Network templates: labels and probability maps on any grid, real ones where they are, and what is refused in words."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from restresponse.components.match import dice, one_to_one, spatial_correlation
from restresponse.components.templates import network_templates
from restresponse.errors import InputError
from restresponse.grid import brain_mask, grid
from restresponse.networks import network_names
from running import SHARED_DATA

REAL = SHARED_DATA / "templates"  # CONN's labels, Yeo's, Smith's: none is shipped
SHAPE, AFFINE = grid(6)
MASK = brain_mask(6)


def saved(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def two_labels() -> np.ndarray:
    """Labels 2 and 5, left and right half of the brain."""
    values = np.zeros(SHAPE, np.int16)
    values[: SHAPE[0] // 2], values[SHAPE[0] // 2 :] = 2, 5
    return values * MASK


def test_a_label_image_becomes_one_map_a_label_with_its_name(tmp_path):
    image = saved(tmp_path / "labels.nii.gz", two_labels())
    names, maps = network_templates(MASK, AFFINE, image)
    assert names == ["network 2", "network 5"]
    assert np.array_equal(maps.sum(axis=0), np.ones(MASK.sum()))
    assert set(np.unique(maps)) == {0.0, 1.0}
    for text in ("left\nright\n", "a\nleft\nb\nc\nright", "index\tname\n5\tright\n2\tleft\n"):
        (tmp_path / "names.txt").write_text(text)
        assert network_templates(MASK, AFFINE, image, tmp_path / "names.txt")[0] == ["left", "right"]


@pytest.mark.parametrize("voxel_size", [2, 3, 10])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_template_on_another_grid_is_resampled(tmp_path, voxel_size, flipped):
    """A ball of 30 mm at (30, -20, 20) mm lies there on the mask's grid, whatever the grid and the order of the axes."""
    shape, affine = grid(voxel_size)
    values = ball(shape, affine)
    if flipped:  # as Yeo's: the first axis runs from right to left
        values, affine = (
            values[::-1],
            affine @ np.array([[-1, 0, 0, shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        )
    _, maps = network_templates(MASK, AFFINE, saved(tmp_path / "ball.nii.gz", values.astype(np.uint8), affine))
    assert dice(maps, ball(SHAPE, AFFINE)[MASK][None].astype(float), 0.5)[0, 0] > 0.85


def test_a_template_whose_axes_are_turned_lands_where_it_belongs(tmp_path):
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]]
    affine = turn @ AFFINE
    image = saved(
        tmp_path / "turned.nii.gz",
        np.stack([ball(SHAPE, affine), 0.5 * ball(SHAPE, affine)], -1).astype(np.float32),
        affine,
    )
    _, maps = network_templates(MASK, AFFINE, image)
    assert dice(maps, ball(SHAPE, AFFINE)[MASK][None].astype(float), 0.25)[0, 0] > 0.85
    assert maps[1] == pytest.approx(0.5 * maps[0])


def ball(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    places = np.tensordot(affine[:3, :3], np.indices(shape), axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return ((places - np.array([30, -20, 20]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 30**2


def test_a_label_of_one_fine_voxel_is_not_missed_on_a_coarse_grid(tmp_path):
    shape, affine = grid(2)
    values = np.zeros(shape, np.uint8)
    values[50, 50, 40] = 1
    _, maps = network_templates(brain_mask(12), grid(12)[1], saved(tmp_path / "one.nii.gz", values, affine))
    assert maps.max() > 0


def test_a_4d_image_is_one_network_a_volume_and_values_that_are_no_numbers_are_0(tmp_path):
    values = np.random.default_rng(0).random((*SHAPE, 3)).astype(np.float32)
    values[0, 0, 0] = np.nan
    names, maps = network_templates(MASK, AFFINE, saved(tmp_path / "maps.nii.gz", values))
    assert names == ["network 1", "network 2", "network 3"]
    assert maps == pytest.approx(values[MASK].T)
    one = saved(tmp_path / "one.nii.gz", two_labels()[..., None])  # labels that a program stored as 4D
    assert network_templates(MASK, AFFINE, one)[0] == ["network 2", "network 5"]


def far(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = AFFINE.copy()
    affine[:3, 3] += 1000
    return values, affine


@pytest.mark.parametrize(
    ("values", "affine", "said"),
    [
        (np.zeros(SHAPE), AFFINE, "holds no label above 0"),
        (np.full(SHAPE, np.nan), AFFINE, "holds no label above 0"),
        (np.zeros((*SHAPE, 2)), AFFINE, "no voxel above 0 for network 1, network 2"),
        (np.random.default_rng(1).random(SHAPE), AFFINE, "not whole numbers"),
        (np.ones((*SHAPE, 2, 2)), AFFINE, "expected 3D of labels or 4D"),
        (*far(np.ones(SHAPE)), "does not overlap the group mask for network 1.*affine"),
        (*far(np.ones((*SHAPE, 2))), "does not overlap the group mask for network 1, network 2"),
    ],
)
def test_what_is_no_template_is_refused_in_a_sentence(tmp_path, values, affine, said):
    image = saved(tmp_path / "template.nii.gz", values.astype(np.float32), affine)
    with pytest.raises(InputError, match=said) as error:
        network_templates(MASK, AFFINE, image)
    assert "template.nii.gz" in str(error.value)


def test_what_cannot_be_read_and_names_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(InputError, match="cannot be read"):
        network_templates(MASK, AFFINE, tmp_path / "text.nii.gz")
    with pytest.raises(InputError, match="cannot be read"):
        network_templates(MASK, AFFINE, tmp_path / "nowhere.nii.gz")
    image = saved(tmp_path / "labels.nii.gz", two_labels())
    for text, said in (("one\n", "1 names.* 2 networks"), ("index\tname\n2\tleft\n", "no row for label 5")):
        (tmp_path / "names.txt").write_text(text)
        with pytest.raises(InputError, match=said):
            network_templates(MASK, AFFINE, image, tmp_path / "names.txt")
    with pytest.raises(InputError, match=r"names.*cannot be read"):
        network_templates(MASK, AFFINE, image, tmp_path / "no_names.txt")
    with pytest.raises(InputError, match="group mask has no voxel"):
        network_templates(np.zeros(SHAPE, bool), AFFINE, image)


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("networksonlylabels.nii*", "networksonlylabels.txt"),
        ("Yeo*2mm.nii*", None),
        ("Yeo*split.nii*", None),
        ("*mith*.nii*", None),
    ],
)
def test_a_real_template_on_the_grids_of_a_run_matches_itself_one_to_one(pattern, labels):
    """Its maps with noise as strong as themselves are found again; CONN's labels bear the names of the embedded nodes' networks."""
    found = sorted(REAL.glob(pattern))
    if not found:
        pytest.skip(f"TEMPLATE NOT TRIED: no {pattern} in ../shared/data/templates")
    names, maps = network_templates(MASK, AFFINE, found[0], REAL / labels if labels else None)
    assert len(set(names)) == len(names) > 1
    order = np.random.default_rng(2).permutation(len(maps))
    noise = np.random.default_rng(3).standard_normal(maps.shape) * maps.std(axis=1).mean()
    correlation = spatial_correlation(maps[order] + noise, maps)
    assert one_to_one(correlation).tolist() == order.tolist()
    assert correlation[np.arange(len(maps)), order].min() > 0.4
    if labels:
        nodes, embedded = network_templates(MASK, AFFINE)
        assert set(nodes) == set(network_names()) <= set(names)
        match = one_to_one(spatial_correlation(embedded, maps))
        assert [names[column] for column in match] == nodes
