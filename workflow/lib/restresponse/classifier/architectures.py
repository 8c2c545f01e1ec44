"""The networks as tables of layers, and what follows from them by arithmetic: shapes, parameter counts, memory.

Nothing here imports a deep-learning library, so that a grid too small for a network is refused before any job.

Sources: VoxNet, Maturana & Scherer, IROS 2015 (and the layers of their published script); VGG-16, Simonyan & Zisserman,
ICLR 2015; ResNet-18, He et al., CVPR 2016, in three dimensions as Tran et al., CVPR 2018, and Hara et al., CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restresponse.classifier.options import most_edges, network_shape
from restresponse.classifier.streaming import CHANNELS, is_streamed
from restresponse.errors import InputError


@dataclass(frozen=True)
class Convolution:
    """`filters` kernels of `edge`^3 voxels; then batch normalisation (if `normalised`), leaky ReLU of `slope` below zero.

    `padded` adds zeros at the border, so that an output has the input's edges divided by `stride` and rounded up.
    """

    filters: int
    edge: int
    stride: int = 1
    normalised: bool = True
    padded: bool = False
    bias: bool = True
    slope: float = 0.1


@dataclass(frozen=True)
class Residual:
    """Two padded convolutions of 3^3 voxels with batch normalisation, added to the input and passed through ReLU.

    Where the shape changes, the input goes through `filters` kernels of 1^3 voxels and batch normalisation. No biases.
    """

    filters: int
    stride: int = 1


@dataclass(frozen=True)
class Pooling:
    """Maximum over blocks of `edge`^3 voxels, `stride` apart (`edge`, unless given); what is left over at the border is dropped.

    `padded` as of a convolution.
    """

    edge: int
    stride: int | None = None
    padded: bool = False


@dataclass(frozen=True)
class Average:
    """Each channel's mean over the whole volume."""


@dataclass(frozen=True)
class Dropout:
    """Dropout at `rate`; None: the model's own `dropout`."""

    rate: float | None = None


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with ReLU."""

    units: int


Layer = Convolution | Residual | Pooling | Average | Dropout | Dense


def _vgg(filters: int, count: int) -> tuple[Layer, ...]:
    return (*[Convolution(filters, 3, normalised=False, padded=True, slope=0.0)] * count, Pooling(2))


PRESETS: dict[str, tuple[Layer, ...]] = {
    # The design that meets the paper's "about 1.4 million" parameters: 1,404,641 on 91 x 109 x 91 x 30.
    "voxnet": (Convolution(32, 5, 2), Pooling(2), Convolution(64, 3), Pooling(4), Dense(128), Dropout()),
    # Maturana & Scherer 2015 as they published it: 917,866 on 32 x 32 x 32 x 1 with 10 classes.
    "voxnet_original": (
        Convolution(32, 5, 2, normalised=False),
        Dropout(0.2),
        Convolution(32, 3, normalised=False),
        Pooling(2),
        Dropout(0.3),
        Dense(128),
        Dropout(),
    ),
    # The original with batch normalisation after each convolution, as the paper words it: 45,306,497.
    "voxnet_bn": (Convolution(32, 5, 2), Convolution(32, 3), Pooling(2), Dense(128), Dropout()),
    # ResNet-18: the four stages have the 33,137,920 parameters of the published 3D ones; 33,797,121 in all.
    "resnet3d": (
        Convolution(64, 7, 2, padded=True, bias=False, slope=0.0),
        Pooling(3, 2, padded=True),
        *(Residual(64), Residual(64)),
        *(Residual(128, 2), Residual(128)),
        *(Residual(256, 2), Residual(256)),
        *(Residual(512, 2), Residual(512)),
        Average(),
        Dropout(),
    ),
    # VGG-16 with kernels of 3^3, no batch normalisation: 86,137,601.
    "vgg16_3d": (
        *(*_vgg(64, 2), *_vgg(128, 2), *_vgg(256, 3), *_vgg(512, 3), *_vgg(512, 3)),
        *(Dense(4096), Dropout(), Dense(4096), Dropout()),
    ),
}


def layers_of(preset: str) -> tuple[Layer, ...]:
    """The layers of a preset, or an `InputError` that names those there are."""
    if preset not in PRESETS:
        raise InputError(f"the network preset {preset!r} is unknown; expected one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def feature_shape(preset: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the volume that reaches the first dense layer; 0 or less along an axis that is too short."""
    edges = tuple(shape)
    for step in _steps(preset, shape, 1):
        edges = step.edges or edges
    return edges


def n_parameters(preset: str, shape: Sequence[int], channels: int, outputs: int = 1) -> int:
    """Trainable parameters: weights and biases, and two for each channel of a batch normalisation."""
    steps = list(_steps(preset, shape, channels))
    return sum(step.parameters for step in steps) + (steps[-1].width + 1) * outputs


def coarsest_voxel_size(preset: str, crop: str = "none") -> float:
    """The largest voxel size, in steps of 0.1 mm, at which CONN's grid is large enough for a preset."""
    for tenths in range(120, 9, -1):
        shapes = (edges(tenths / 10, crop) for edges in (most_edges, network_shape))
        if all(min(feature_shape(preset, shape)) >= 1 for shape in shapes):
            return tenths / 10
    raise InputError(f"no voxel size from 1 to 12 mm is fine enough for the preset {preset}")


def check_grid(preset: str, voxel_size: float, crop: str = "none") -> None:
    """Raise `InputError`, naming the coarsest grid that works, where CONN's grid at `voxel_size` mm is too small."""
    shape = network_shape(voxel_size, crop)
    if min(feature_shape(preset, shape)) < 1:
        raise InputError(
            f"a grid of {' x '.join(map(str, shape))} voxels of {voxel_size:g} mm is too small for the network preset "
            f"{preset}; the coarsest isotropic voxel size that works on CONN's grid{', cut to the brain,' if crop == 'brain' else ''} is "
            f"{coarsest_voxel_size(preset, crop):g} mm: set classifier.voxel_size (or functional.voxel_size) to that or less"
        )


def memory_mb(
    preset: str, shape: Sequence[int], channels: int, batch_size: int, n_participants: int, members: int = 1
) -> int:
    """Memory in MiB that a training job needs at most, from what it holds: the library, the maps, a batch, the weights."""
    volume = _volume(shape) * 4 / 2**20  # one channel of one sample
    activations = sum(step.activations for step in _steps(preset, shape, channels)) * 4 / 2**20
    weights = (5 + members) * n_parameters(preset, shape, channels) * 4 / 2**20
    at_once = CHANNELS if is_streamed(channels) else channels
    return int(1200 + n_participants * channels * volume + batch_size * (4 * at_once * volume + activations) + weights)


@dataclass(frozen=True)
class _Step:
    """What a layer gives: edges of its volume (None once it is flat), width, parameters, values held for the gradient."""

    edges: tuple[int, ...] | None
    width: int
    parameters: int = 0
    activations: int = 0


def _steps(preset: str, shape: Sequence[int], channels: int) -> Iterator[_Step]:
    edges, width, flat = tuple(shape), channels, False
    for layer in layers_of(preset):
        if isinstance(layer, Convolution):
            edges = _edges_after(edges, layer.edge, layer.stride, layer.padded)
            count = (layer.edge**3 * width + layer.bias + 2 * layer.normalised) * layer.filters
            width = layer.filters
            # Output, normalised output, activation and as many gradients.
            yield _Step(edges, width, count, 6 * _volume(edges) * width)
        elif isinstance(layer, Residual):
            edges = _edges_after(edges, 3, layer.stride, True)
            count = (27 * (width + layer.filters) + 4) * layer.filters
            if layer.stride > 1 or width != layer.filters:
                count += (width + 2) * layer.filters
            width = layer.filters
            yield _Step(edges, width, count, 14 * _volume(edges) * width)
        elif isinstance(layer, Pooling):
            edges = _edges_after(edges, layer.edge, layer.stride or layer.edge, layer.padded)
            yield _Step(edges, width, 0, 2 * _volume(edges) * width)
        elif isinstance(layer, Average):
            flat = True
            yield _Step(None, width)
        elif isinstance(layer, Dense):
            inputs, flat = width if flat else width * _volume(edges), True
            width = layer.units
            yield _Step(None, width, (inputs + 1) * width)


def _edges_after(edges: Sequence[int], edge: int, stride: int, padded: bool) -> tuple[int, ...]:
    if padded:
        return tuple(-(-length // stride) for length in edges)
    return tuple((length - edge) // stride + 1 if length >= edge else 0 for length in edges)


def _volume(edges: Sequence[int]) -> int:
    x, y, z = edges
    return x * y * z
