"""Training on a real GPU, with the library that Keras computes with; skipped, by name, where there is no GPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classifier_cohort import Cohort, job_of

from restresponse.classifier.devices import _nvidia_smi, listed_devices
from restresponse.files import read_json

DEVICES = listed_devices(_nvidia_smi())
# tensorflow-cpu of the pinned set sees no GPU: without the gpu image PyTorch is asked.
BACKEND = os.environ.get("KERAS_BACKEND") or ("torch" if importlib.util.find_spec("torch") else "tensorflow")
pytestmark = pytest.mark.skipif(not DEVICES, reason="NO GPU: nvidia-smi lists none, so training on one did not run")

BEGIN = """
import json, os, sys
sys.path[:0] = {path!r}
import numpy as np
from classifier_cohort import VOXNET, Cohort, job_of
from restresponse.classifier.devices import device
from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import prepare
from restresponse.classifier.training import predict, train
from restresponse.errors import InputError

cohort = Cohort.of(n_responders=10, n_others=10, effect=3.0)
response = dict(zip(cohort.names, map(int, cohort.response), strict=True))
training, test = cohort.names[:12], cohort.names[12:]

def samples(n_channels=4):
    channels = {{name: np.tile(maps, (n_channels // 4, 1)) for name, maps in zip(cohort.names, cohort.maps, strict=True)}}
    return Samples(channels, cohort.mask, training)

def trained(given, epochs=12, **changed):
    settings = VOXNET | {{"learning_rate": 0.01}} | changed
    found = train(given, training, response, settings, epochs=epochs, seed=1)
    return found, predict(found.model, given, test, 4)
"""


def run(code, gpu=1, check=True, **environment):
    """Run code after `BEGIN` in a process of its own that holds the GPU; what it printed last, as JSON."""
    lines = [BEGIN.format(path=[str(Path(__file__).parent), *sys.path]), f"with device({gpu}) as chosen:"]
    lines += [f"    {line}" for line in (f"prepare({gpu})", *code.strip().splitlines())]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
    )
    if not check:
        return done
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_training_is_on_the_gpu_repeats_itself_and_comes_to_what_the_processor_does():
    code = """
found = {"kept": []}
for _ in range(2):
    made, scores = trained(samples(), epochs=4)
    found["kept"].append([made.losses, scores.tolist()])
from restresponse.classifier import training as stage
compiled = stage.compiled
def from_the_same_weights(*arguments):  # PyTorch draws other ones on a GPU
    model, generator = compiled(*arguments), np.random.default_rng(0)
    starts = [generator.normal(0, 0.05, one.shape) if one.ndim > 1 else one for one in model.get_weights()]
    model.set_weights(starts)
    return model
stage.compiled = from_the_same_weights
made, scores = trained(samples(), epochs=3, dropout=0.0)
found |= {"losses": made.losses, "scores": scores.tolist(), "where": str(made.model.trainable_variables[0].value.device)}
print(json.dumps(found))
"""
    on_gpu, on_processor = run(code), run(code, gpu=0)
    assert ("cuda" in on_gpu["where"] or "GPU" in on_gpu["where"]) and "cpu" in on_processor["where"].lower()
    assert on_gpu["kept"][0] == on_gpu["kept"][1]
    np.testing.assert_allclose(on_gpu["losses"], on_processor["losses"], rtol=1e-2)
    np.testing.assert_allclose(on_gpu["scores"], on_processor["scores"], atol=0.02)


def test_mixed_precision_computes_in_16_bits_and_learns_the_same():
    found = run("""
(whole, scores), (mixed, other) = trained(samples()), trained(samples(), precision="mixed")
kinds = [layer.compute_dtype for layer in mixed.model.layers if layer.name.startswith("conv3d")]
print(json.dumps({"kinds": kinds, "kept": str(mixed.model.trainable_variables[0].dtype), "scores": scores.tolist(),
                  "other": other.tolist(), "losses": [whole.losses, mixed.losses]}))
""")
    assert set(found["kinds"]) == {"float16"} and found["kept"] == "float32"
    np.testing.assert_allclose(*found["losses"], atol=0.1)
    assert np.corrcoef(found["scores"], found["other"])[0, 1] > 0.95


def test_channels_streamed_learn_as_in_ordinary_steps():
    found = run("""
from restresponse.classifier import streaming
streamed, scores = trained(samples(72), epochs=3, dropout=0.0)
streaming.CHANNELS = 72
ordinary, other = trained(samples(72), epochs=3, dropout=0.0)
print(json.dumps({"losses": [streamed.losses, ordinary.losses], "scores": [scores.tolist(), other.tolist()]}))
""")
    np.testing.assert_allclose(*found["losses"], rtol=1e-2)
    np.testing.assert_allclose(*found["scores"], atol=0.02)


def test_fold_killed_on_the_gpu_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Cohort.of(effect=0.5)
    made.write()
    _, folder = job_of(made, "network", "clean", "ssc")
    fold = """
import signal
from restresponse.classifier import checkpoint, network_fold
checkpoint.EVERY, save, calls = 0.0, checkpoint.Kept.save, []
def until(self, *state):
    save(self, *state)
    calls.append(self)
    if len(calls) == STOP:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Kept.save = until
arguments, folder = job_of(Cohort.of(effect=0.5), "network", "clean", "ssc")
network_fold.train_fold(**arguments | {"gpu": 1})
print(json.dumps([(folder / name).read_text() for name in ("predictions.tsv", "history.tsv")]))
"""
    assert run(fold.replace("STOP", "3"), check=False).returncode == -9
    assert (folder / "checkpoints/inner-2.npz").exists()
    resumed = run(fold.replace("STOP", "99"))
    assert not (folder / "checkpoints").exists()
    for path in folder.iterdir():
        path.unlink()
    assert resumed == run(fold.replace("STOP", "99"))
    assert read_json(folder / "model.json")["training_loss_last"] > 0


@pytest.mark.skipif(
    BACKEND != "torch", reason="it fills the GPU with PyTorch; KERAS_BACKEND is another, or no GPU was found"
)
def test_memory_of_the_gpu_that_does_not_suffice_is_said_with_the_settings_that_lower_it():
    found = run("""
import torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - 2**27, dtype=torch.uint8, device="cuda")
try:
    trained(samples(40), preset="voxnet_bn", batch_size=12)
except InputError as error:
    print(json.dumps(str(error)))
""")
    assert "lower the model's batch_size, set its crop to brain" in found


def test_jobs_at_once_hold_the_gpu_one_after_the_other_and_one_that_is_not_there_is_refused():
    code = """
import time
from pathlib import Path
begun = time.time()
trained(samples(), epochs=2)
print(json.dumps([begun, time.time()]))
"""
    first = next(iter(DEVICES))
    script = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\nfrom test_classifier_gpu import run\n"]
    script[-1] += f"import json; print(json.dumps(run({code!r}, CUDA_VISIBLE_DEVICES={first!r})))"
    jobs = [
        subprocess.Popen(script, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent, env=os.environ)
        for _ in range(2)
    ]
    spans = sorted(json.loads(job.communicate()[0].strip().splitlines()[-1]) for job in jobs)
    assert spans[0][1] <= spans[1][0]
    refused = run("pass", check=False, CUDA_VISIBLE_DEVICES="97").stderr
    assert "CUDA_VISIBLE_DEVICES names GPU 97, and nvidia-smi lists" in refused
    hidden = run("pass", check=False, CUDA_VISIBLE_DEVICES="-1").stderr
    assert "which hides GPUs, and classifier.gpu is 1" in hidden
