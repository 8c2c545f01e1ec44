"""Steps of training and prediction that hold a few channels of a batch at a time.

The first convolution is a sum over channels, and so is the gradient of its kernel: with hundreds of volumes as channels
neither needs the whole batch in memory. The network, and what it learns, are those of an ordinary step but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

CHANNELS = 32  # held at a time; an input of more than twice as many is streamed

Channels = Callable[[slice], np.ndarray]


class Streamed:
    """A compiled network whose input comes in blocks of channels.

    Parameters
    ----------
    model : of `network.compiled`; its first layer is a convolution
    """

    def __init__(self, model: keras.Model) -> None:
        import keras

        self._model, self._first = model, model.layers[1]
        self._rest = keras.Model(self._first.output, model.output)
        of_backend = _of_tensorflow if keras.backend.backend() == "tensorflow" else _of_torch
        self._gradients = of_backend(model, self._rest)

    def train_on_batch(self, given: Channels, wanted: np.ndarray, weights: np.ndarray) -> float:
        """One step of the optimiser; the loss before it.

        Parameters
        ----------
        given : the batch's channels of a slice, (n, n_x, n_y, n_z, n) float32
        wanted : (n, 1)
        weights : (n,) of each participant's loss
        """
        from keras import ops

        features = self._features(given)
        loss, slope, gradients = self._gradients(
            features, ops.convert_to_tensor(wanted), ops.convert_to_tensor(weights)
        )
        blocks = [
            ops.convert_to_numpy(_kernel_gradient(self._first, given(block), block, slope)) for block in self._blocks()
        ]
        own = [ops.convert_to_tensor(np.concatenate(blocks, axis=3), "float32")]
        if self._first.use_bias:
            own.append(ops.sum(ops.cast(slope, "float32"), axis=(0, 1, 2, 3)))
        self._model.optimizer.apply([*own, *gradients], self._model.trainable_variables)
        return loss.item() if hasattr(loss, "item") else float(loss)

    def predict_on_batch(self, given: Channels) -> np.ndarray:
        """Scores of a batch, (n, 1)."""
        from keras import ops

        return ops.convert_to_numpy(self._rest(self._features(given), training=False))

    def _features(self, given: Channels) -> Any:
        """What the first layer gives."""
        from keras import ops

        kernel = _detached(ops.convert_to_tensor(self._first.kernel))  # PyTorch would keep every block for its gradient
        total = None
        for block in self._blocks():
            part = _convolved(self._first, given(block), kernel[:, :, :, block])
            total = part if total is None else total + part
        if self._first.use_bias:
            total = total + _detached(ops.cast(self._first.bias, total.dtype))
        return total

    def _blocks(self) -> Iterator[slice]:
        n_channels = self._first.kernel.shape[3]
        for start in range(0, n_channels, CHANNELS):
            yield slice(start, min(start + CHANNELS, n_channels))


def is_streamed(n_channels: int) -> bool:
    """Whether an input of so many channels is streamed: by its size alone, so that no machine gives other numbers."""
    return n_channels > 2 * CHANNELS


def _convolved(layer: keras.layers.Conv3D, dense: np.ndarray, kernel: Any) -> Any:
    from keras import ops

    dense = ops.cast(ops.convert_to_tensor(dense), layer.compute_dtype)
    return ops.conv(
        dense,
        ops.cast(ops.convert_to_tensor(kernel), layer.compute_dtype),
        strides=layer.strides,
        padding=layer.padding,
    )


def _detached(tensor: Any) -> Any:
    return tensor.detach() if hasattr(tensor, "detach") else tensor


Gradients = Callable[[Any, Any, Any], tuple[Any, Any, list[Any]]]


def _of_tensorflow(model: keras.Model, rest: keras.Model) -> Gradients:
    """A function of features, truth and weights: loss, and its gradients in the features and in the weights of all other layers.

    The gradients are scaled as the optimiser asks.
    """
    import tensorflow as tf

    # A graph, as of ordinary steps: run one by one, operations of other libraries take their place, which share the
    # gradient of a pool's greatest voxel otherwise where voxels are equal, as they are around the brain.
    @tf.function(jit_compile=False, reduce_retracing=True)
    def gradients(features: Any, wanted: Any, weights: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = model.compute_loss(y=wanted, y_pred=rest(features, training=True), sample_weight=weights)
            scaled = model.optimizer.scale_loss(loss)
        variables = [variable.value for variable in rest.trainable_variables]
        slope, *found = tape.gradient(scaled, [features, *variables])
        return loss, slope, found

    return gradients


def _of_torch(model: keras.Model, rest: keras.Model) -> Gradients:
    """As of TensorFlow."""

    def gradients(features: Any, wanted: Any, weights: Any) -> tuple[Any, Any, list[Any]]:
        model.zero_grad()
        features = features.requires_grad_(True)
        loss = model.compute_loss(y=wanted, y_pred=rest(features, training=True), sample_weight=weights)
        model.optimizer.scale_loss(loss).backward()
        return loss, features.grad, [variable.value.grad for variable in rest.trainable_variables]

    return gradients


def _kernel_gradient(layer: keras.layers.Conv3D, dense: np.ndarray, block: slice, slope: Any) -> Any:
    """Gradient of the loss in the kernel of a block of channels."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.Conv3DBackpropFilterV2(
            input=tf.cast(dense, slope.dtype),
            filter_sizes=(*layer.kernel.shape[:3], dense.shape[-1], layer.kernel.shape[4]),
            out_backprop=slope,
            strides=(1, *layer.strides, 1),
            padding=layer.padding.upper(),
        )
    kernel = layer.kernel.value[:, :, :, block].detach().requires_grad_(True)
    _convolved(layer, dense, kernel).backward(slope)
    return kernel.grad
