"""The network learns a shape in three dimensions that no linear model on voxels can see."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import prepare
from restresponse.classifier.training import predict, train

EDGE, N_TRAINING, N_FRESH = 27, 80, 80
SETTINGS = {"preset": "voxnet", "learning_rate": 0.01, "epsilon": 0.01, "dropout": 0.3, "batch_size": 8}


def volumes_with_plates(n, seed):
    """Noise with plates of either sign at random places: upright ones in responders, flat ones in the others.

    Every voxel has the mean 0 in both groups, and a volume of either has as many voxels that stand out, as far as they do.
    """
    rng = np.random.default_rng(seed)
    response = np.arange(n) % 2
    volumes = 0.5 * rng.standard_normal((n, EDGE, EDGE, EDGE))
    for volume, group in zip(volumes, response, strict=True):
        for _ in range(12):
            thin = rng.choice([0, 1]) if group else 2
            corner, size = rng.integers(0, EDGE - 6, 3), np.full(3, 6)
            corner[thin], size[thin] = rng.integers(0, EDGE - 1), 1
            volume[tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))] += (
                rng.choice([-1, 1])
            )
    return volumes.reshape(n, 1, -1).astype(np.float32), response


def test_network_learns_a_planted_shape_and_a_linear_model_on_voxels_does_not():
    prepare(0)
    maps, response = volumes_with_plates(N_TRAINING + N_FRESH, 1)
    names = [f"sub-{number:03d}" for number in range(len(maps))]
    training, fresh = names[:N_TRAINING], names[N_TRAINING:]
    samples = Samples(dict(zip(names, maps, strict=True)), np.ones((EDGE,) * 3, bool), training)
    truth = dict(zip(names, map(int, response), strict=True))
    done = train(samples, training, truth, SETTINGS, epochs=12, seed=1)
    network = roc_auc_score(response[N_TRAINING:], predict(done.model, samples, fresh, 8))
    flat = samples.batch(names).reshape(len(names), -1)
    linear = [
        roc_auc_score(
            response[N_TRAINING:],
            LogisticRegression(C=penalty, max_iter=300)
            .fit(flat[:N_TRAINING], response[:N_TRAINING])
            .decision_function(flat[N_TRAINING:]),
        )
        for penalty in (1e-6, 1e-4, 1e-2)
    ]
    assert network > 0.9
    assert max(linear) < 0.65
