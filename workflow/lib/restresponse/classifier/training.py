"""One training of a network: epochs of small batches, a watched loss, and the best epoch's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.checkpoint import Kept, Progress
from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import compiled, told_of_memory
from restresponse.classifier.options import Augmentation, class_weights
from restresponse.classifier.scores import log_loss
from restresponse.classifier.streaming import Streamed, is_streamed
from restresponse.errors import InputError

if TYPE_CHECKING:
    import keras


class Diverged(InputError):
    """The training loss is no longer a finite number."""


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes
    ----------
    model : the network with the weights of `epoch`
    epoch : the epoch of least watched loss; the last one where nobody was watched
    losses : mean training loss of each epoch (with dropout)
    watched_losses : loss of the watched participants after each epoch; empty where nobody was watched
    """

    model: keras.Model
    epoch: int
    losses: list[float]
    watched_losses: list[float]


def train(
    samples: Samples,
    training: Sequence[str],
    response: Mapping[str, int],
    settings: Mapping[str, Any],
    *,
    epochs: int,
    seed: int,
    watched: Sequence[str] = (),
    on_epoch: Callable[[int, float], None] | None = None,
    kept: Kept | None = None,
) -> Training:
    """Train a network on `training`, at most `epochs` epochs.

    With `watched` participants the training stops when their loss has not fallen for `patience` epochs, and the weights
    of their best epoch are kept; without, every epoch is run and the last weights are kept.

    Parameters
    ----------
    samples : the scaled input
    training, watched : participants
    response : 1 or 0 by participant; read for `training` and `watched` alone
    settings : the config's model: preset, learning_rate, epsilon, dropout, batch_size, patience
    epochs : most epochs
    seed : of weights, dropout and the order of participants
    on_epoch : called after each epoch with its number and the least watched loss so far; may raise to give up
    kept : where the training is kept while it runs, and what it goes on from after a kill

    Raises
    ------
    Diverged
        Where the loss stops being a finite number.
    """
    model = compiled(settings, samples.shape, seed)
    generator = np.random.default_rng(seed)
    progress = kept.restore(model, generator) if kept else Progress()
    losses, watched_losses = progress.losses, progress.watched_losses
    for epoch in range(1, len(losses) + 1) if on_epoch and watched else ():
        on_epoch(epoch, min(watched_losses[:epoch]))
    truth = {name: response[name] for name in training}
    weights = class_weights(np.array(list(truth.values())), settings.get("class_weights", False))
    for epoch in range(len(losses) + 1, epochs + 1):
        loss = _epoch(model, samples, truth, weights, settings, generator)
        if not np.isfinite(loss):
            raise Diverged(
                f"the training loss is {loss} in epoch {epoch}; expected a finite number: lower the model's learning_rate"
            )
        losses.append(loss)
        if watched:
            scores = predict(model, samples, watched, settings["batch_size"])
            watched_losses.append(log_loss(np.array([response[participant] for participant in watched]), scores))
            best = int(np.argmin(watched_losses)) + 1
            if best == epoch:
                progress.best_weights = model.get_weights()
            if on_epoch is not None:
                on_epoch(epoch, watched_losses[best - 1])
            if epoch - best >= settings["patience"]:
                break
        if kept is not None:
            kept.save(model, generator, progress)
    if progress.best_weights is not None:
        model.set_weights(progress.best_weights)
    epoch = int(np.argmin(watched_losses)) + 1 if watched_losses else len(losses)
    return Training(model, epoch, losses, watched_losses)


def _epoch(
    model: keras.Model,
    samples: Samples,
    truth: Mapping[str, int],
    weights: np.ndarray,
    settings: Mapping[str, Any],
    generator: np.random.Generator,
) -> float:
    """One pass over the participants of `truth` in random order; the mean loss. `weights` are of each one's loss."""
    names = list(truth)
    order = generator.permutation(len(names))
    streamed = _streamed(model, samples)
    loss = 0.0
    # As even as can be: a last batch of one participant would be normalised by itself.
    for positions in np.array_split(order, -(-len(order) // settings["batch_size"])):
        batch = [names[position] for position in positions]
        wanted = np.array([[truth[name]] for name in batch], np.float32)
        change = Augmentation.drawn(settings.get("augmentation"), samples.mask, len(batch), generator)

        def given(channels: slice = slice(None), batch: list[str] = batch, change: Augmentation = change) -> np.ndarray:
            return change.of(samples.batch(batch, channels), channels.start or 0)

        with told_of_memory():
            if streamed is None:
                model.reset_metrics()  # whether train_on_batch does this itself differs between versions of Keras
                found = model.train_on_batch(given(), wanted, sample_weight=weights[positions], return_dict=True)[
                    "loss"
                ]
            else:
                found = streamed.train_on_batch(given, wanted, weights[positions])
        loss += float(found) * len(batch) / len(order)
    return loss


def predict(model: keras.Model, samples: Samples, participants: Sequence[str], batch_size: int) -> np.ndarray:
    """Probability of a responder, `(n_participants,)` float64."""
    streamed, scores = _streamed(model, samples), []
    for start in range(0, len(participants), batch_size):
        batch = participants[start : start + batch_size]
        with told_of_memory():
            if streamed is None:
                found = model.predict_on_batch(samples.batch(batch))
            else:
                found = streamed.predict_on_batch(lambda channels, batch=batch: samples.batch(batch, channels))
        scores.append(np.asarray(found, np.float64)[:, 0])
    return np.concatenate(scores) if scores else np.zeros(0)


def _streamed(model: keras.Model, samples: Samples) -> Streamed | None:
    """The network in steps of a few channels, where there are many; not an ensemble, whose first layers are several."""
    import keras

    if is_streamed(samples.n_channels) and isinstance(model.layers[1], keras.layers.Conv3D):
        return Streamed(model)
    return None
