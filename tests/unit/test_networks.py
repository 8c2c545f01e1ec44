"""The embedded network template: the atlas's nodes, and maps that peak at them on any grid."""

import re
from pathlib import Path

import numpy as np
import pytest

from restresponse.errors import InputError
from restresponse.grid import brain_mask, grid
from restresponse.networks import network_maps, network_names, network_nodes

ATLAS = Path(__file__).parents[2] / "../shared/data/templates/conn_hcp_ica_nodes.txt"


def test_the_32_nodes_of_8_networks():
    nodes = network_nodes()
    assert len(nodes) == 32
    assert network_names() == (
        "DefaultMode",
        "SensoriMotor",
        "Visual",
        "Salience",
        "DorsalAttention",
        "FrontoParietal",
        "Language",
        "Cerebellar",
    )
    assert nodes[3] == ("DefaultMode", "PCC", (1.0, -61.0, 38.0))


@pytest.mark.skipif(not ATLAS.is_file(), reason=f"CONN's own list of nodes is not at {ATLAS}")
def test_the_table_is_the_atlas_of_conn():
    found = [
        re.fullmatch(r"(\w+)\.(.+?) *\((-?\d+),(-?\d+),(-?\d+)\)", line.strip())
        for line in ATLAS.read_text().splitlines()
        if line.strip()
    ]
    assert [(m[1], m[2], (float(m[3]), float(m[4]), float(m[5]))) for m in found] == list(network_nodes())


@pytest.mark.parametrize("voxel_size", [2, 4, 8])
def test_each_map_peaks_at_one_and_at_a_node_of_its_own(voxel_size):
    names, maps = network_maps(voxel_size)
    shape, affine = grid(voxel_size)
    assert maps.shape == (8, *shape)
    np.testing.assert_allclose(maps.max(axis=(1, 2, 3)), 1, rtol=1e-6)
    for name, one in zip(names, maps, strict=True):
        peak = affine[:3, :3] @ np.unravel_index(one.argmax(), shape) + affine[:3, 3]
        distances = [
            np.linalg.norm(peak - np.array(position)) for network, _, position in network_nodes() if network == name
        ]
        between = 8 if name == "Cerebellar" else 0  # its two nodes are 16 mm apart and their sum may peak between
        assert min(distances) <= voxel_size + between


def test_maps_do_not_depend_on_how_the_grid_lies():
    shape, affine = grid(4)
    _, maps = network_maps(4)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = shape[0] - 1
    _, flipped = network_maps((shape, affine @ flip))
    np.testing.assert_allclose(flipped[:, ::-1], maps, atol=1e-6)

    turn = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    oblique = turn @ affine
    oblique[:3, 3] = [1, 55, -3] - oblique[:3, :3] @ [23, 45, 20]  # voxel (23, 45, 20) lies on MPFC
    _, turned = network_maps((shape, oblique))
    assert np.unravel_index(turned[0].argmax(), shape) == (23, 45, 20)


def test_masked_maps_are_the_maps_in_mask_order():
    mask = brain_mask(8)
    _, maps = network_maps(8)
    _, masked = network_maps(8, mask=mask)
    np.testing.assert_array_equal(masked, maps[:, mask])
    assert masked.dtype == np.float32


def test_networks_are_distinct():
    _, maps = network_maps(4, mask=brain_mask(4))
    correlations = np.corrcoef(maps)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 0.4


def test_a_grid_elsewhere_and_a_mask_of_another_grid_are_refused():
    far = np.diag([4.0, 4, 4, 1])
    far[:3, 3] = 500
    with pytest.raises(InputError, match="MNI152 space"):
        network_maps(((10, 10, 10), far))
    with pytest.raises(InputError, match="same grid"):
        network_maps(4, mask=np.ones((3, 3, 3), bool))
