"""One training of a network: epochs of small batches, a watched loss, and the best epoch's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import compiled
from restresponse.classifier.scores import log_loss
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

    Raises
    ------
    Diverged
        Where the loss stops being a finite number.
    """
    model = compiled(settings, samples.shape, seed)
    generator = np.random.default_rng(seed)
    size = settings["batch_size"]
    losses: list[float] = []
    watched_losses: list[float] = []
    best_weights = None
    for epoch in range(1, epochs + 1):
        order = generator.permutation(len(training))
        loss = 0.0
        # As even as can be: a last batch of one participant would be normalised by itself.
        for positions in np.array_split(order, -(-len(order) // size)):
            batch = [training[position] for position in positions]
            truth = np.array([[response[participant]] for participant in batch], np.float32)
            model.reset_metrics()  # whether train_on_batch does this itself differs between versions of Keras
            found = model.train_on_batch(samples.batch(batch), truth, return_dict=True)
            loss += float(found["loss"]) * len(batch) / len(order)
        if not np.isfinite(loss):
            raise Diverged(
                f"the training loss is {loss} in epoch {epoch}; expected a finite number: lower the model's learning_rate"
            )
        losses.append(loss)
        if watched:
            scores = predict(model, samples, watched, size)
            watched_losses.append(log_loss(np.array([response[participant] for participant in watched]), scores))
            best = int(np.argmin(watched_losses)) + 1
            if best == epoch:
                best_weights = model.get_weights()
            if on_epoch is not None:
                on_epoch(epoch, watched_losses[best - 1])
            if epoch - best >= settings["patience"]:
                break
    if best_weights is not None:
        model.set_weights(best_weights)
    epoch = int(np.argmin(watched_losses)) + 1 if watched_losses else len(losses)
    return Training(model, epoch, losses, watched_losses)


def predict(model: keras.Model, samples: Samples, participants: Sequence[str], batch_size: int) -> np.ndarray:
    """Probability of a responder, `(n_participants,)` float64."""
    scores = [
        np.asarray(model.predict_on_batch(samples.batch(participants[start : start + batch_size])), np.float64)[:, 0]
        for start in range(0, len(participants), batch_size)
    ]
    return np.concatenate(scores) if scores else np.zeros(0)
