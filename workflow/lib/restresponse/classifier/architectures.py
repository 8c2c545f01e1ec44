"""The networks as tables of layers, and what follows from them by arithmetic: shapes, parameter counts, memory.

Nothing here imports a deep-learning library, so that a grid too small for a network is refused before any job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restresponse.errors import InputError
from restresponse.grid import grid


@dataclass(frozen=True)
class Convolution:
    """`filters` kernels of `edge`^3 voxels, 'valid' padding; then batch normalisation (if `normalised`), leaky ReLU 0.1."""

    filters: int
    edge: int
    stride: int = 1
    normalised: bool = True


@dataclass(frozen=True)
class Pooling:
    """Maximum over blocks of `edge`^3 voxels; what is left over at the border is dropped."""

    edge: int


@dataclass(frozen=True)
class Dropout:
    """Dropout at `rate`; None: the model's own `dropout`."""

    rate: float | None = None


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with ReLU."""

    units: int


Layer = Convolution | Pooling | Dropout | Dense

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
}


def layers_of(preset: str) -> tuple[Layer, ...]:
    """The layers of a preset, or an `InputError` that names those there are."""
    if preset not in PRESETS:
        raise InputError(f"the network preset {preset!r} is unknown; expected one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def feature_shape(preset: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the volume that reaches the first dense layer; 0 or less along an axis that is too short."""
    edges = list(shape)
    for layer in layers_of(preset):
        if isinstance(layer, Convolution):
            edges = [(edge - layer.edge) // layer.stride + 1 if edge >= layer.edge else 0 for edge in edges]
        elif isinstance(layer, Pooling):
            edges = [edge // layer.edge for edge in edges]
    return tuple(edges)


def n_parameters(preset: str, shape: Sequence[int], channels: int, outputs: int = 1) -> int:
    """Trainable parameters: weights and biases, and two for each channel of a batch normalisation."""
    total, width, flat = 0, channels, False
    for layer in layers_of(preset):
        if isinstance(layer, Convolution):
            total += (layer.edge**3 * width + 1 + 2 * layer.normalised) * layer.filters
            width = layer.filters
        elif isinstance(layer, Dense):
            if not flat:
                x, y, z = feature_shape(preset, shape)
                width, flat = width * x * y * z, True
            total += (width + 1) * layer.units
            width = layer.units
    return total + (width + 1) * outputs


def coarsest_voxel_size(preset: str) -> float:
    """The largest voxel size, in steps of 0.1 mm, at which CONN's grid is large enough for a preset."""
    for tenths in range(120, 9, -1):
        if min(feature_shape(preset, grid(tenths / 10)[0])) >= 1:
            return tenths / 10
    raise InputError(f"no voxel size from 1 to 12 mm is fine enough for the preset {preset}")


def check_grid(preset: str, voxel_size: float) -> None:
    """Raise `InputError`, naming the coarsest grid that works, where CONN's grid at `voxel_size` mm is too small."""
    shape, _ = grid(voxel_size)
    if min(feature_shape(preset, shape)) < 1:
        raise InputError(
            f"a grid of {' x '.join(map(str, shape))} voxels of {voxel_size:g} mm is too small for the network preset "
            f"{preset}; the coarsest isotropic voxel size that works on CONN's grid is "
            f"{coarsest_voxel_size(preset):g} mm: set classifier.voxel_size (or functional.voxel_size) to that or less"
        )


def memory_mb(preset: str, shape: Sequence[int], channels: int, batch_size: int, n_participants: int) -> int:
    """Memory in MiB that a training job needs at most, from what it holds: the library, the maps, a batch, the weights."""
    x, y, z = shape
    volume = x * y * z * 4 / 2**20  # one channel of one sample
    edges, activations = list(shape), 0.0
    for layer in layers_of(preset):
        if isinstance(layer, Convolution):
            edges = [(edge - layer.edge) // layer.stride + 1 for edge in edges]
            # Output, normalised output, activation and as many gradients.
            activations += 6 * edges[0] * edges[1] * edges[2] * layer.filters * 4 / 2**20
        elif isinstance(layer, Pooling):
            edges = [edge // layer.edge for edge in edges]
    weights = 6 * n_parameters(preset, shape, channels) * 4 / 2**20
    return int(1200 + n_participants * channels * volume + batch_size * (4 * channels * volume + activations) + weights)
