"""Time and memory of one step of training: TensorFlow, Keras on PyTorch, plain PyTorch, and volumes as channels from disk.

    python benchmarks/training_speed.py [--edges 91 109 91] [--channels 30] [--batch 4] [--steps 3] [--only KIND ...]
    python benchmarks/training_speed.py --only streamed --channels 343

Each kind runs in a process of its own on one thread, on the same made-up data. The rate is that of the convolutions' arithmetic
(forward, kernels' gradients, the second one's input gradient), its share that of a product of two matrices of 2048 x 2048 in numpy
in the same process. Kinds of PyTorch are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent.parent / "workflow" / "lib"))

import numpy as np  # noqa: E402

SETTINGS = {"preset": "voxnet", "dropout": 0.3, "learning_rate": 1e-3, "epsilon": 0.1, "batch_size": 4}
KINDS = {
    "tensorflow": "Keras on TensorFlow",
    "cropped": "the same, `crop: brain`",
    "keras_torch": "Keras on PyTorch",
    "torch": "plain PyTorch",
    "torch_first": "plain PyTorch, channels first",
    "streamed": "Keras on TensorFlow, channels from disk",
}


def arithmetic(edges: tuple[int, ...], channels: int) -> float:
    """Operations of one sample's convolutions, forward and back."""
    first = [(edge - 5) // 2 + 1 for edge in edges]
    second = [edge // 2 - 2 for edge in first]
    return 2.0 * (2 * np.prod(first) * 125 * channels * 32 + 3 * np.prod(second) * 27 * 32 * 64)


def step_of_keras(edges: tuple[int, ...], channels: int, batch: int) -> Callable[[], object]:
    """A step on a dense batch, as training makes it."""
    from restresponse.classifier.network import compiled, prepare

    prepare(0)
    model = compiled(SETTINGS, (*edges, channels), 1)
    given = np.random.default_rng(0).standard_normal((batch, *edges, channels), np.float32)
    return lambda: model.train_on_batch(given, np.arange(batch)[:, None] % 2.0)


def step_of_torch(edges: tuple[int, ...], channels: int, batch: int, channels_first: bool) -> Callable[[], object]:
    """The same network written in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    layers = [nn.Conv3d(channels, 32, 5, 2), nn.BatchNorm3d(32), nn.LeakyReLU(0.1), nn.MaxPool3d(2)]
    layers += [nn.Conv3d(32, 64, 3), nn.BatchNorm3d(64), nn.LeakyReLU(0.1), nn.MaxPool3d(4), nn.Flatten()]
    layers += [nn.LazyLinear(128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 1)]
    model, loss_of = nn.Sequential(*layers), nn.BCEWithLogitsLoss()
    given = torch.from_numpy(np.random.default_rng(0).standard_normal((batch, *edges, channels), np.float32))
    given, wanted = given.permute(0, 4, 1, 2, 3), torch.arange(batch)[:, None] % 2.0
    if channels_first:
        given = given.contiguous()
    model(given)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=0.1)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(given), wanted)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def step_from_disk(folder: Path, edges: tuple[int, ...], channels: int, batch: int) -> Callable[[], object]:
    """An epoch of one batch whose participants' arrays lie on disk, as an arm of volumes trains."""
    from restresponse.classifier.inputs import Samples
    from restresponse.classifier.network import prepare
    from restresponse.classifier.training import train
    from restresponse.files import read_array
    from restresponse.grid import brain_mask

    prepare(0)
    mask = brain_mask(2)[: edges[0], : edges[1], : edges[2]]
    arrays = {}
    for number in range(batch):
        rows = np.lib.format.open_memmap(folder / f"{number}.npy", "w+", np.float32, (channels, int(mask.sum())))
        for row in rows:
            row[:] = np.random.default_rng(number).standard_normal(rows.shape[1], np.float32)
        rows.flush()
        arrays[f"sub-{number}"] = read_array(folder / f"{number}.npy")
    names = list(arrays)
    response = {name: index % 2 for index, name in enumerate(names)}
    samples = Samples(arrays, mask, names)
    return lambda: train(samples, names, response, SETTINGS, epochs=1, seed=1)


def measure(kind: str, edges: tuple[int, ...], channels: int, batch: int, steps: int) -> dict[str, float]:
    """Least CPU seconds a sample over `steps` steps after a first one, peak memory, and the rate of matrix products."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "cropped":
            from restresponse.classifier.options import network_shape

            edges = network_shape(2, "brain")
            step = step_of_keras(edges, channels, batch)
        elif kind.startswith("torch"):
            step = step_of_torch(edges, channels, batch, kind == "torch_first")
        elif kind == "streamed":
            step = step_from_disk(Path(folder), edges, channels, batch)
        else:
            step = step_of_keras(edges, channels, batch)
        seconds = [_seconds(step) / batch for _ in range(steps + 1)][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    matrix = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)
    rate = 2 * 2048**3 / min(_seconds(lambda: matrix @ matrix) for _ in range(4))
    return {
        "seconds": min(seconds),
        "peak_gb": peak,
        "share": arithmetic(edges, channels) / min(seconds) / rate,
        "gflops": rate / 1e9,
    }


def _seconds(step: Callable[[], object]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", nargs=3, type=int, default=[91, 109, 91])
    parser.add_argument("--channels", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS)[:-1])
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, tuple(given.edges), given.channels, given.batch, given.steps)))
        return
    print(
        f"load {os.getloadavg()[0]:.1f}\n\n| | CPU s a sample | share of the matrix rate | peak GB |\n|---|---|---|---|"
    )
    for kind in given.only:
        backend = "torch" if kind == "keras_torch" else "tensorflow"
        command = [sys.executable, __file__, *sys.argv[1:], "--one", kind]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": backend}, check=False
        )
        if done.returncode:
            print(f"| {KINDS[kind]} | {done.stderr.strip().splitlines()[-1]} | | |", flush=True)
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        share = f"{found['share']:.0%} of {found['gflops']:.0f} Gflop/s"
        print(f"| {KINDS[kind]} | {found['seconds']:.2f} | {share} | {found['peak_gb']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
