"""The same code on PyTorch, where it is installed: it is not among the pinned requirements."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classifier_cohort import VOXNET, Cohort

from restresponse.classifier.network import compiled, prepare
from restresponse.files import read_json, read_table

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

CODE = """
import sys
sys.path[:0] = {path!r}
import numpy as np
from classifier_cohort import VOXNET, Cohort, config, job_of
from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import prepare, read_network
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.training import predict, train
from restresponse.errors import InputError
prepare(0)
np.save("scores.npy", read_network("tensorflow.keras").predict_on_batch(np.load("given.npy")))
arguments, _ = job_of(Cohort.of(effect=0.5), "network", "clean", "ssc")
train_fold(**arguments)
cohort = Cohort.of(effect=1.0)
response = dict(zip(cohort.names, map(int, cohort.response), strict=True))
for n_channels in (4, 72):  # the latter is streamed
    channels = {{name: np.tile(maps, (n_channels // 4, 1)) for name, maps in zip(cohort.names, cohort.maps, strict=True)}}
    samples = Samples(channels, cohort.mask, cohort.names)
    one, other = [train(samples, cohort.names, response, VOXNET, epochs=4, seed=1) for _ in range(2)]
    assert one.losses == other.losses and one.losses[-1] < one.losses[0], one.losses
    assert np.array_equal(predict(one.model, samples, cohort.names, 4), predict(other.model, samples, cohort.names, 4))
from pathlib import Path
from restresponse.classifier import checkpoint
checkpoint.EVERY = 0.0
samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, cohort.names[:8])
def watched(told, kept=None, stop_at=9):
    def on_epoch(epoch, least):
        told.append(least)
        if epoch == stop_at:
            raise KeyboardInterrupt
    people = cohort.names[:8], response, VOXNET | {{"patience": 9}}
    return train(samples, *people, epochs=4, seed=3, watched=cohort.names[8:], on_epoch=on_epoch, kept=kept)
def kept():
    return checkpoint.Checkpoints(Path("kept"), "a").of("final", [])
whole, retold = [], []
one = watched(whole)
try:
    watched([], kept(), stop_at=3)
except KeyboardInterrupt:
    other = watched(retold, kept())
assert whole == retold and one.losses == other.losses, (one.losses, other.losses)  # dropout goes on where it was
import keras, torch
assert keras.backend.backend() == "torch" and isinstance(one.model.trainable_variables[0].value, torch.Tensor)
if not torch.cuda.is_available():
    try:
        prepare(1)
    except InputError as error:
        assert "PyTorch sees no GPU" in str(error)
    else:
        raise AssertionError("a GPU that is not there was taken")
"""


def test_fold_trains_on_torch_and_a_network_of_tensorflow_predicts_the_same_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Cohort.of(effect=0.5).write()
    prepare(0)
    model = compiled(VOXNET, (27, 27, 27, 2), 1)
    model.save("tensorflow.keras")
    given = np.random.default_rng(0).standard_normal((3, 27, 27, 27, 2)).astype(np.float32)
    np.save("given.npy", given)
    code = CODE.format(path=[str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(np.load("scores.npy"), model.predict_on_batch(given), rtol=1e-4)
    folder = Path("results/classifier/clean/ssc/voxnet/rep-1_fold-01")
    assert read_table(folder / "predictions.tsv")["y_score"].between(0, 1).all()
    assert read_json(folder / "model.json")["training_loss_last"] > 0
