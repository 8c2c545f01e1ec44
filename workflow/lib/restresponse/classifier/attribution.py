"""What moves a fitted classifier's decision: channels and regions taken out, and integrated gradients of every voxel.

All of it is of the decision (the log-odds of a responder), against the mean input of the training participants, and reads no
label. Integrated gradients: Sundararajan, Taly & Yan 2017. Shuffled weights must lose what is found: Adebayo et al. 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from restresponse.errors import InputError

if TYPE_CHECKING:
    import keras

COMPONENT, NETWORK, WHOLE = "component", "network", "whole"  # what is taken out
LEFT_OUT, OCCLUDED, ATTRIBUTION, DECISION = "left_out", "occluded", "attribution", "decision"
_AT_ONCE = 2**27  # bytes of samples that go through a model together


class Decision(Protocol):
    """A fitted model as a function of scaled samples; `steps`: points on the way of `integrated_gradients` that it needs."""

    steps: int

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Log-odds of a responder `(n,)` of samples `(n, n_channels, n_voxels)`."""

    def gradients(self, samples: np.ndarray) -> np.ndarray:
        """Gradient of each sample's log-odds, shaped as the samples."""

    def randomised(self, seed: int) -> Decision:
        """The same model with each of its arrays of weights shuffled."""


@dataclass(frozen=True)
class LinearDecision:
    """A weight for each voxel of each channel, `(n_channels, n_voxels)`, about the mean training sample `middle`."""

    weights: np.ndarray
    middle: np.ndarray
    intercept: float
    steps: int = 1

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return np.array([np.vdot(self.weights, sample - self.middle) for sample in samples]) + self.intercept

    def gradients(self, samples: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.weights, samples.shape)

    def randomised(self, seed: int) -> LinearDecision:
        shuffled = np.random.default_rng(seed).permutation(self.weights.ravel())
        return LinearDecision(shuffled.reshape(self.weights.shape), self.middle, self.intercept)


class NetworkDecision:
    """A network before its last sigmoid.

    Parameters
    ----------
    model : of `network.read_network`, its last layer dense with one output
    mask : (n_x, n_y, n_z) bool, where the voxels of a sample lie in the network's input
    """

    def __init__(self, model: keras.Model, mask: np.ndarray, steps: int = 32) -> None:
        import keras

        self._model, self._mask, self.steps = model, mask, steps
        self._features, self._last = keras.Model(model.inputs, model.layers[-1].input), model.layers[-1]

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        import keras

        found = [keras.ops.convert_to_numpy(self._log_odds(dense)) for dense in self._dense(samples)]
        return np.concatenate(found).astype(np.float64)

    def gradients(self, samples: np.ndarray) -> np.ndarray:
        return np.concatenate([self._gradient(dense)[:, self._mask] for dense in self._dense(samples)]).transpose(
            0, 2, 1
        )

    def randomised(self, seed: int) -> NetworkDecision:
        import keras

        generator = np.random.default_rng(seed)
        other = keras.models.clone_model(self._model)
        weights = self._model.get_weights()
        other.set_weights([generator.permutation(values.ravel()).reshape(values.shape) for values in weights])
        return NetworkDecision(other, self._mask, steps=8)  # the order of what it finds is asked for, not more

    def _dense(self, samples: np.ndarray) -> Iterator[Any]:
        """Blocks of samples as the network takes them, 0 outside the brain."""
        import keras

        n, n_channels, _ = samples.shape
        size = max(1, _AT_ONCE // (4 * self._mask.size * n_channels))
        for start in range(0, n, size):
            block = samples[start : start + size]
            dense = np.zeros((len(block), *self._mask.shape, n_channels), np.float32)
            dense[:, self._mask] = block.transpose(0, 2, 1)
            yield keras.ops.convert_to_tensor(dense)

    def _log_odds(self, dense: Any) -> Any:
        from keras import ops

        features = ops.cast(self._features(dense, training=False), "float32")
        return ops.matmul(features, ops.cast(self._last.kernel, "float32"))[:, 0] + ops.cast(self._last.bias, "float32")

    def _gradient(self, dense: Any) -> np.ndarray:
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(dense)
                total = tf.reduce_sum(self._log_odds(dense))
            found = tape.gradient(total, dense)
        else:
            dense = dense.detach().requires_grad_(True)
            self._log_odds(dense).sum().backward()
            found = dense.grad
        if found is None:
            raise InputError(
                "the network's decision has no gradient of its input; expected layers that have: set metrics.explanation to false"
            )
        return keras.ops.convert_to_numpy(found)


def integrated_gradients(decision: Decision, sample: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """What each voxel of each channel adds to the decision on the straight way from `baseline` to `sample`.

    Midpoints of `decision.steps` equal parts of the way. Sums to ``decision(sample) - decision(baseline)`` but for the error of
    the integral.

    Parameters
    ----------
    decision : the model
    sample, baseline : (n_channels, n_voxels)

    Returns
    -------
    (n_channels, n_voxels) float32
    """
    way = sample - baseline
    total = np.zeros(sample.shape)
    shares = ((np.arange(decision.steps) + 0.5) / decision.steps).astype(np.float32)
    at_once = max(1, _AT_ONCE // sample.nbytes)
    for start in range(0, len(shares), at_once):
        total += decision.gradients(baseline + shares[start : start + at_once, None, None] * way).sum(axis=0)
    return (total / decision.steps * way).astype(np.float32)


def contributions(
    decision: Decision,
    sample: np.ndarray,
    baseline: np.ndarray,
    regions: Mapping[str, np.ndarray],
    channels: Mapping[str, int],
) -> tuple[dict[tuple[str, str, str], float], np.ndarray]:
    """What each channel and each region adds to one participant's decision.

    Parameters
    ----------
    decision : the model
    sample, baseline : (n_channels, n_voxels), of the participant and the mean of the training participants
    regions : voxels of each network, (n_voxels,) bool
    channels : position of each component's channel; none where channels are no components

    Returns
    -------
    added : (what, its name, measure) -> log-odds. `left_out`: the decision less that with the component's channel at the
        baseline; `occluded`: less that with the network's voxels of all channels at the baseline; `attribution`: the sum
        of integrated gradients in the channel or region. Of the whole: the decision less the baseline's, and the sum.
    attribution : (n_voxels,) float32, integrated gradients summed over channels
    """
    whole, nothing = decision(np.stack([sample, baseline]))
    by_channel = integrated_gradients(decision, sample, baseline)
    by_voxel = by_channel.sum(axis=0, dtype=np.float64)
    added = {
        (WHOLE, WHOLE, DECISION): whole - nothing,
        (WHOLE, WHOLE, ATTRIBUTION): by_voxel.sum(),
    }
    for name, position in channels.items():
        without = sample.copy()
        without[position] = baseline[position]
        added[COMPONENT, name, LEFT_OUT] = whole - decision(without[None])[0]
        added[COMPONENT, name, ATTRIBUTION] = by_channel[position].sum(dtype=np.float64)
    for name, inside in regions.items():
        without = sample.copy()
        without[:, inside] = baseline[:, inside]
        added[NETWORK, name, OCCLUDED] = whole - decision(without[None])[0]
        added[NETWORK, name, ATTRIBUTION] = by_voxel[inside].sum()
    return {key: float(value) for key, value in added.items()}, by_voxel.astype(np.float32)
