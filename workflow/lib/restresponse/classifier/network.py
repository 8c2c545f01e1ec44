"""The networks in Keras, built from the tables in `architectures`, and the library set up to give the same numbers twice."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.architectures import (
    Average,
    Convolution,
    Dropout,
    Layer,
    Pooling,
    Residual,
    feature_shape,
    layers_of,
)
from restresponse.errors import InputError

if TYPE_CHECKING:
    import keras

# With four participants a batch an epoch has few steps: at Keras's 0.99 the moving averages would still hold their
# starting values when training stops.
_MOMENTUM = 0.9


def prepare(gpu: int) -> None:
    """Set the library up before its first use: one thread, deterministic kernels, and GPUs none or growing as needed.

    Keras computes with TensorFlow or, where `KERAS_BACKEND` is `torch`, with PyTorch.

    Parameters
    ----------
    gpu : GPUs the job was given; 0 hides any there are

    Raises
    ------
    InputError
        Where a GPU is asked for and the library sees none.
    """
    os.environ.setdefault("KERAS_TORCH_DEVICE", "cuda" if gpu else "cpu")  # read once, at the first import
    import keras

    if keras.backend.backend() == "torch":
        _prepare_torch(gpu)
        return
    import tensorflow as tf

    threads = tf.config.threading
    if (threads.get_inter_op_parallelism_threads(), threads.get_intra_op_parallelism_threads()) != (1, 1):
        threads.set_inter_op_parallelism_threads(1)
        threads.set_intra_op_parallelism_threads(1)
    devices = tf.config.list_physical_devices("GPU")
    if gpu and not devices:
        raise _no_gpu(gpu, "TensorFlow")
    if not gpu:
        tf.config.set_visible_devices([], "GPU")
    for device in devices if gpu else []:
        tf.config.experimental.set_memory_growth(device, True)
    tf.config.experimental.enable_op_determinism()


def _prepare_torch(gpu: int) -> None:
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself with this alone
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if gpu and not torch.cuda.is_available():
        raise _no_gpu(gpu, "PyTorch")


def _no_gpu(gpu: int, library: str) -> InputError:
    return InputError(
        f"classifier.gpu is {gpu} and {library} sees no GPU; set classifier.gpu to 0, or run in the GPU container "
        "on a machine with a GPU and its driver"
    )


def build(preset: str, shape: Sequence[int], *, dropout: float, outputs: int = 1) -> keras.Model:
    """Build a network, not yet compiled.

    Parameters
    ----------
    preset : name in `architectures.PRESETS`
    shape : (n_x, n_y, n_z, n_channels) of one sample
    dropout : share of the dense layer's units dropped in training
    outputs : 1 for a sigmoid (probability of a responder), more for a softmax over classes

    Raises
    ------
    InputError
        Where the volume is too small for the preset.
    """
    import keras
    from keras import layers

    if min(feature_shape(preset, shape[:3])) < 1:
        raise InputError(
            f"a volume of {' x '.join(map(str, shape[:3]))} voxels is too small for the network preset {preset}; "
            "expected a finer grid: lower classifier.voxel_size"
        )
    start = found = keras.Input(tuple(shape))
    for layer in layers_of(preset):
        found = _with_layer(found, layer, dropout)
    if len(found.shape) > 2:
        found = layers.Flatten()(found)
    found = layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax", dtype="float32")(found)
    return keras.Model(start, found, name=preset)


def _with_layer(given: keras.KerasTensor, layer: Layer, dropout: float) -> keras.KerasTensor:
    """What comes of `given` after one row of a table of layers."""
    from keras import layers

    if isinstance(layer, Convolution):
        found = _convolved(given, layer.filters, layer.edge, layer.stride, layer.padded, layer.bias, layer.normalised)
        return layers.LeakyReLU(negative_slope=layer.slope)(found) if layer.slope else layers.ReLU()(found)
    if isinstance(layer, Residual):
        found = layers.ReLU()(_convolved(given, layer.filters, 3, layer.stride))
        found = _convolved(found, layer.filters, 3)
        if layer.stride > 1 or given.shape[-1] != layer.filters:
            given = _convolved(given, layer.filters, 1, layer.stride)
        return layers.ReLU()(layers.Add()([found, given]))
    if isinstance(layer, Pooling):
        padding = "same" if layer.padded else "valid"
        return layers.MaxPooling3D(layer.edge, layer.stride or layer.edge, padding=padding)(given)
    if isinstance(layer, Average):
        return layers.GlobalAveragePooling3D()(given)
    if isinstance(layer, Dropout):
        return layers.Dropout(dropout if layer.rate is None else layer.rate)(given)
    if len(given.shape) > 2:
        given = layers.Flatten()(given)
    return layers.Dense(layer.units, activation="relu")(given)


def _convolved(
    given: keras.KerasTensor,
    filters: int,
    edge: int,
    stride: int = 1,
    padded: bool = True,
    bias: bool = False,
    normalised: bool = True,
) -> keras.KerasTensor:
    """A convolution, and its batch normalisation where it has one."""
    from keras import layers

    padding = "same" if padded else "valid"
    found = layers.Conv3D(filters, edge, strides=stride, padding=padding, use_bias=bias)(given)
    return layers.BatchNormalization(momentum=_MOMENTUM)(found) if normalised else found


def compiled(settings: Mapping[str, Any], shape: Sequence[int], seed: int) -> keras.Model:
    """A network of the config's model `settings`, its weights drawn from `seed`, ready to train."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    whole = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16" if settings.get("precision") == "mixed" else "float32")
    try:
        model = build(settings["preset"], shape, dropout=settings["dropout"])
    finally:
        keras.config.set_dtype_policy(whole)
    optimizer = keras.optimizers.Adam(settings["learning_rate"], epsilon=settings["epsilon"])
    if settings.get("precision") == "mixed":  # gradients too small for 16 bits
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", jit_compile=False)
    return model


def ensemble(members: Sequence[keras.Model]) -> keras.Model:
    """One network whose log-odds are the mean of those of `members`, of one architecture and one output each."""
    import keras

    if len(members) == 1:
        return members[0]
    start = keras.Input(members[0].input_shape[1:])
    parts = [
        keras.Model(member.inputs, member.layers[-1].input, name=f"member_{number}")
        for number, member in enumerate(members, start=1)
    ]
    last = keras.layers.Dense(1, activation="sigmoid", dtype="float32")
    model = keras.Model(start, last(keras.layers.Concatenate()([part(start) for part in parts])), name="ensemble")
    kernels, biases = zip(*(member.layers[-1].get_weights() for member in members), strict=True)
    last.set_weights([np.concatenate(kernels) / len(members), np.mean(biases, axis=0)])
    return model


@contextlib.contextmanager
def told_of_memory() -> Iterator[None]:
    """Turn what a library raises where memory does not suffice into an `InputError` that names the settings that lower it."""
    try:
        yield
    except Exception as error:
        if not _is_of_memory(error):
            raise
        raise InputError(
            "the network does not fit into the memory of this machine or GPU; expected room for a batch and its gradients: "
            "lower the model's batch_size, set its crop to brain, raise classifier.voxel_size, take a smaller preset or, of an "
            f"arm of volumes, fewer volumes ({' '.join(str(error).split())[:200]})"
        ) from error


def _is_of_memory(error: Exception) -> bool:
    """Whether an error of numpy, TensorFlow or PyTorch is that of missing memory."""
    names = {kind.__name__ for kind in type(error).__mro__}
    words = ("out of memory", "can't allocate memory", "not enough memory", "oom when allocating")
    return bool(names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def read_network(path: str | Path) -> keras.Model:
    """A network that a fold saved (`model.keras`), for use and not for training on; code inside the file is never run.

    Raises
    ------
    InputError
        No such file, or one that holds code (a Lambda layer) or is damaged.
    """
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            f"{path} cannot be loaded as a network without running code ({' '.join(str(error).split())[:200]}); expected a model.keras of "
            "this workflow: remove it and run again"
        ) from error


def trainable_parameters(model: keras.Model) -> int:
    """Trainable parameters of a network."""
    return sum(math.prod(weights.shape) for weights in model.trainable_weights)
