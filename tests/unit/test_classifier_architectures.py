"""Shapes and parameter counts of the networks, by arithmetic and as Keras builds them; grids that are too small."""

import subprocess
import sys

import pytest

from restresponse.classifier.architectures import PRESETS, check_grid, coarsest_voxel_size, feature_shape, n_parameters
from restresponse.errors import InputError
from restresponse.grid import grid

COUNTS = [
    ("voxnet", (91, 109, 91), 30, 1, 1_404_641),
    ("voxnet", (91, 109, 91), 8, 1, 1_316_641),
    ("voxnet", (46, 55, 46), 30, 1, 241_377),
    ("voxnet_original", (32, 32, 32), 1, 10, 917_866),
    ("voxnet_original", (32, 32, 32), 1, 40, 921_736),
    ("voxnet_bn", (91, 109, 91), 30, 1, 45_306_497),
    ("resnet3d", (91, 109, 91), 30, 1, 33_797_121),
    ("vgg16_3d", (91, 109, 91), 30, 1, 86_137_601),
]


@pytest.mark.parametrize(("preset", "shape", "channels", "outputs", "count"), COUNTS)
def test_parameter_counts_by_arithmetic_are_the_published_ones(preset, shape, channels, outputs, count):
    assert n_parameters(preset, shape, channels, outputs) == count


@pytest.mark.parametrize(("preset", "shape", "channels", "outputs", "count"), COUNTS)
def test_keras_builds_networks_with_these_counts(preset, shape, channels, outputs, count):
    from restresponse.classifier.network import build, prepare, trainable_parameters

    prepare(0)
    model = build(preset, (*shape, channels), dropout=0.3, outputs=outputs)
    assert trainable_parameters(model) == count
    assert model.output_shape == (None, outputs)


def test_four_stages_of_the_residual_network_have_the_published_parameters():
    ends = 7**3 * 64 + 2 * 64 + 512 + 1  # the first convolution with its normalisation, and the last layer
    assert n_parameters("resnet3d", (91, 109, 91), 1) - ends == 33_137_920


@pytest.mark.parametrize("preset", PRESETS)
def test_keras_gives_the_dense_layers_the_shape_that_arithmetic_says(preset):
    from restresponse.classifier.network import build

    edges = 39, 33, 41
    model = build(preset, (*edges, 2), dropout=0.3)
    volumes = [layer.output.shape[1:4] for layer in model.layers if len(layer.output.shape) == 5]
    assert volumes[-1] == feature_shape(preset, edges)


def test_grid_too_coarse_is_refused_with_the_coarsest_that_works():
    coarsest = coarsest_voxel_size("voxnet")
    check_grid("voxnet", coarsest)
    with pytest.raises(InputError, match=rf"25 x 30 x 25 voxels of 7\.5 mm is too small .* is {coarsest:g} mm: set"):
        check_grid("voxnet", 7.5)
    assert coarsest == 7.1  # 27 voxels along the shortest side, no fewer
    assert grid(coarsest)[0][0] == 27
    assert min(feature_shape("voxnet", (26, 40, 40))) == 0
    with pytest.raises(InputError):
        check_grid("voxnet", coarsest + 0.1)


def test_unknown_preset_is_refused_by_name():
    with pytest.raises(InputError, match="'vgg' is unknown; expected one of voxnet"):
        check_grid("vgg", 2)


def test_checking_a_grid_loads_no_deep_learning_library():
    code = (
        "import sys; from restresponse.classifier.protocols import check_plan; "
        "from restresponse.classifier.architectures import check_grid; check_grid('voxnet', 2); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'sklearn', 'nilearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": "workflow/lib"}, check=False).returncode == 0
