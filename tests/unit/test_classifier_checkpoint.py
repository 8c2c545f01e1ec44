"""A training that was killed ends with the same network; what was kept of another training is not taken for it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classifier_cohort import VOXNET, Cohort, job_of

from restresponse.classifier import checkpoint
from restresponse.classifier.checkpoint import Checkpoints
from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import compiled, prepare, read_network
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.training import train
from restresponse.files import read_json

SETTINGS = VOXNET | {"learning_rate": 0.01, "patience": 9}
KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from classifier_cohort import Cohort, job_of
from restresponse.classifier import checkpoint
from restresponse.classifier.network_fold import train_fold
checkpoint.EVERY, save, calls = 0.0, checkpoint.Kept.save, []
def until_the_third(self, *state):
    save(self, *state)
    calls.append(self)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Kept.save = until_the_third
train_fold(**job_of(Cohort.of(effect=0.5), "network", "clean", "ssc")[0])
"""


@pytest.fixture(scope="module", autouse=True)
def prepared():
    prepare(0)


def test_fold_killed_in_its_second_inner_training_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Cohort.of(effect=0.5)
    made.write()
    code = KILLED.format(path=[str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-2000:]
    arguments, folder = job_of(made, "network", "clean", "ssc")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["inner-1.json", "inner-2.npz"]
    train_fold(**arguments)
    assert not (folder / "checkpoints").exists()
    first = _results(folder)
    for path in folder.iterdir():
        path.unlink()
    train_fold(**arguments)  # not interrupted
    again = _results(folder)
    assert first[:3] == again[:3]
    assert all(np.array_equal(one, other) for one, other in zip(first[3], again[3], strict=True))


def _results(folder):
    facts = read_json(folder / "model.json")
    kept = {key: facts[key] for key in ("chosen", "inner_folds", "fitted_on", "training_loss_last")}
    tables = [(folder / name).read_text() for name in ("predictions.tsv", "history.tsv")]
    return kept, *tables, read_network(folder / "model.keras").get_weights()


def test_training_goes_on_with_optimiser_random_numbers_and_best_weights_and_only_with_its_own(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    cohort = Cohort.of(effect=1.0)
    inside, outside = cohort.names[:8], cohort.names[8:]
    samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, inside)
    response = dict(zip(cohort.names, cohort.response, strict=True))

    def run(told, kept=None, stop_at=99):
        def on_epoch(epoch, least):
            told.append((epoch, least))
            if epoch == stop_at:
                raise KeyboardInterrupt

        settings = SETTINGS | {"epochs": 5}
        return train(
            samples, inside, response, settings, epochs=5, seed=3, watched=outside, on_epoch=on_epoch, kept=kept
        )

    def kept(identity="a", depends=(SETTINGS,)):
        return Checkpoints(tmp_path, identity).of("final", depends)

    told, retold = [], []
    whole = run(told)
    with pytest.raises(KeyboardInterrupt):
        run([], kept(), stop_at=4)

    def restored(kept):
        model, generator = compiled(SETTINGS, samples.shape, 3), np.random.default_rng(3)
        return len(kept.restore(model, generator).losses)

    assert restored(kept()) == 3
    assert restored(kept("b")) == restored(kept(depends=(SETTINGS | {"dropout": 0.5},))) == 0
    resumed = run(retold, kept())
    assert whole.losses == resumed.losses and whole.watched_losses == resumed.watched_losses
    assert told == retold  # a search that prunes by what it is told decides the same
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "final.npz").write_bytes((tmp_path / "final.npz").read_bytes()[:5000])
    assert restored(kept()) == 0 and "is damaged" in capsys.readouterr().out


def test_time_before_a_kill_counts_and_an_inner_training_that_ended_is_not_run_again(tmp_path, monkeypatch):
    first = Checkpoints(tmp_path / "kept", "a")
    first._started -= 100
    first.of("inner-1", []).finish({"epoch": 3})
    second = Checkpoints(tmp_path / "kept", "a")
    assert second.of("inner-1", [0.3]).finished() is None and second.of("inner-2", []).finished() is None
    assert second.of("inner-1", []).finished() == {"epoch": 3}
    assert 100 <= second.seconds < 150
    second.remove()
    assert not (tmp_path / "kept").exists()
