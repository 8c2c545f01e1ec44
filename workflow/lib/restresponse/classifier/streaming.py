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
        loss, slope, gradients = _gradients(self._model, self._rest, features, wanted, weights)
        blocks = [
            ops.convert_to_numpy(_kernel_gradient(self._first, given(block), block, slope)) for block in self._blocks()
        ]
        own = [ops.convert_to_tensor(np.concatenate(blocks, axis=3), "float32")]
        if self._first.use_bias:
            own.append(ops.sum(ops.cast(slope, "float32"), axis=(0, 1, 2, 3)))
        self._model.optimizer.apply([*own, *gradients], self._model.trainable_variables)
        return loss

    def predict_on_batch(self, given: Channels) -> np.ndarray:
        """Scores of a batch, (n, 1)."""
        from keras import ops

        return ops.convert_to_numpy(self._rest(self._features(given), training=False))

    def _features(self, given: Channels) -> Any:
        """What the first layer gives."""
        from keras import ops

        total = None
        for block in self._blocks():
            part = _convolved(self._first, given(block), self._first.kernel[:, :, :, block])
            total = part if total is None else total + part
        if self._first.use_bias:
            total = total + ops.cast(self._first.bias, total.dtype)
        return _detached(total)

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


def _gradients(
    model: keras.Model, rest: keras.Model, features: Any, wanted: np.ndarray, weights: np.ndarray
) -> tuple[float, Any, list[Any]]:
    """Loss, its gradient in what the first layer gives, and in the weights of all other layers, scaled as the optimiser asks."""
    import keras
    from keras import ops

    def loss_of(features: Any) -> Any:
        scores = rest(features, training=True)
        return model.compute_loss(
            y=ops.convert_to_tensor(wanted), y_pred=scores, sample_weight=ops.convert_to_tensor(weights)
        )

    variables = rest.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = loss_of(features)
            scaled = model.optimizer.scale_loss(loss)
        slope, *gradients = tape.gradient(scaled, [features, *(variable.value for variable in variables)])
        return float(loss), slope, gradients
    model.zero_grad()
    features = features.requires_grad_(True)
    loss = loss_of(features)
    model.optimizer.scale_loss(loss).backward()
    return loss.item(), features.grad, [variable.value.grad for variable in variables]


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
