"""Training on a GPU: seconds and memory of an epoch by preset, precision and batch, and what preparing the input takes of it.

    KERAS_BACKEND=torch python benchmarks/gpu_training.py [--edges 91 109 91] [--channels 30] [--participants 12]
    python benchmarks/gpu_training.py --edges 23 27 23 --gpu 0          # a try without a GPU

One thread, made-up data on disk, `train` as a fold runs it: the time that two more epochs take. `input`: making the same
batches alone. The last two rows are processes of their own: 343 volumes as channels, streamed, and the first row on this
machine's processor. The memory of a job is the most until its row.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent.parent / "workflow" / "lib"))

import numpy as np  # noqa: E402

EPOCHS = 3
SETTINGS = {"preset": "voxnet", "dropout": 0.3, "learning_rate": 1e-3, "epsilon": 0.1, "batch_size": 4}


def rows(given: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """What is measured, in one process each; channels in the hundreds with one batch, since they take long to make."""
    common = {"gpu": given.gpu, "channels": given.channels, "participants": given.participants}
    both = ({"precision": "float32"}, {"precision": "mixed"} if given.gpu else {"precision": "float32"})
    found = [common | one for one in both]
    found += [common | one | {"batch_size": given.participants} for one in both]
    found += [common | both[1] | {"crop": "brain"}]
    found += [common | one | {"preset": preset} for preset in ("voxnet_bn", "resnet3d", "vgg16_3d") for one in both]
    return [found, [common | {"channels": 343, "participants": 4}], [common | {"gpu": 0, "participants": 4}]]


def measure(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Time and memory of one row."""
    from restresponse.classifier.inputs import Samples
    from restresponse.classifier.network import trainable_parameters
    from restresponse.classifier.options import cropped
    from restresponse.classifier.training import train
    from restresponse.files import read_array

    mask = np.load(folder / "mask.npy")
    names = [f"sub-{number}" for number in range(row["participants"])]
    paths = itertools.cycle(sorted(folder.glob(f"{row['channels']}-*.npy")))
    arrays = {name: read_array(path) for name, path in zip(names, paths, strict=False)}
    samples = Samples(arrays, cropped(mask, row.get("crop", "none")), names)
    settings = SETTINGS | {key: row[key] for key in ("preset", "precision", "batch_size") if key in row}
    response = {name: index % 2 for index, name in enumerate(names)}

    def seconds(epochs: int) -> float:
        nonlocal done
        started = time.perf_counter()
        done = train(samples, names, response, settings, epochs=epochs, seed=1)
        return time.perf_counter() - started

    done = None
    if row["gpu"]:
        _gpu_memory()
    seconds(1)  # what is made and chosen once
    spent = [seconds(1), seconds(EPOCHS)]
    found = {
        "epoch": (spent[1] - spent[0]) / (EPOCHS - 1) / len(names),
        "gpu_gb": _gpu_memory() if row["gpu"] else None,
    }
    size, block = settings["batch_size"], 32 if row["channels"] > 64 else row["channels"]
    started = time.perf_counter()
    for first, channel in itertools.product(range(0, len(names), size), range(0, row["channels"], block)):
        samples.batch(names[first : first + size], slice(channel, channel + block))
    found["input"] = (time.perf_counter() - started) / len(names)
    found["host_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found | {"losses": done.losses, "parameters": trainable_parameters(done.model)}


def _gpu_memory() -> float:
    """Most memory of the GPU that the library held since the last call, GB; what is free is given back."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        most = torch.cuda.max_memory_reserved()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return most / 1e9
    import tensorflow as tf

    most = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    tf.config.experimental.reset_memory_stats("GPU:0")
    return most / 1e9


def write_arrays(folder: Path, edges: list[int], channels: list[int]) -> None:
    """The template's brain, and up to four participants' noise of each number of channels, responders with a stronger block."""
    from restresponse.grid import brain_mask

    mask = brain_mask(2 * 91 / edges[0])[: edges[0], : edges[1], : edges[2]]
    np.save(folder / "mask.npy", mask)
    for count, number in itertools.product(channels, range(4)):
        path = folder / f"{count}-{number}.npy"
        values = np.lib.format.open_memmap(path, "w+", np.float32, (count, int(mask.sum())))
        for channel, line in enumerate(values):
            line[:] = np.random.default_rng([number, channel]).standard_normal(line.size, np.float32)
            line[: line.size // 4] += 0.2 * (number % 2)
        values.flush()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", nargs=3, type=int, default=[91, 109, 91])
    parser.add_argument("--channels", type=int, default=30)
    parser.add_argument("--participants", type=int, default=12)
    parser.add_argument("--gpu", type=int, choices=(0, 1), default=1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _measure_all(json.loads(given.one[0]), Path(given.one[1]))
        return
    columns = (
        "preset",
        "channels",
        "precision",
        "batch",
        "s a sample",
        "of it input, alone",
        "GB on the GPU",
        "GB of the job",
    )
    print("| " + " | ".join(columns) + " | loss by epoch |\n" + "|---" * (len(columns) + 1) + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder), given.edges, [given.channels, 343])
        for part in rows(given):
            command = [sys.executable, __file__, "--one", json.dumps(part), folder]
            done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"| {part[0]} | {done.stderr.strip().splitlines()[-1]} |", flush=True)


def _measure_all(part: list[dict[str, Any]], folder: Path) -> None:
    """Measure the rows of one process and print each."""
    from restresponse.classifier.devices import device
    from restresponse.classifier.network import prepare

    os.dup2(1, 3)
    os.dup2(2, 1)  # what the library and `device` print is no row
    with device(part[0]["gpu"]), os.fdopen(3, "w") as table:
        prepare(part[0]["gpu"])
        for row in part:
            found = measure(row, folder)
            where = "" if row["gpu"] else ", on the processor"
            crop = ", crop: brain" if "crop" in row else ""
            cells = [
                f"{row.get('preset', 'voxnet')}{crop}{where} ({found['parameters']:,})",
                row["channels"],
                row.get("precision", "float32"),
                row.get("batch_size", 4),
                f"{found['epoch']:.3f}",
                f"{found['input']:.3f}",
                "" if found["gpu_gb"] is None else f"{found['gpu_gb']:.1f}",
                f"{found['host_gb']:.1f}",
                " ".join(f"{loss:.3f}" for loss in found["losses"]),
            ]
            print("| " + " | ".join(map(str, cells)) + " |", file=table, flush=True)


if __name__ == "__main__":
    main()
