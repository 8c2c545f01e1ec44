"""How discovery and the dry run grow with the cohort: BIDS trees of tiny files, the study's config (ten folds, both protocols).

    python benchmarks/scale.py FOLDER --participants 43 1000 10000

Prints a table in Markdown: seconds of discovery a 1,000 scans, seconds and peak memory of `snakemake --dry-run`, jobs. The
peer is a plain graph of 17 rules of one job a participant, dry-run right after ours (`--no-peer` leaves it out).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
N_STEPS = 17  # rules of the plain graph


def image_bytes(shape: tuple[int, ...]) -> bytes:
    """A compressed NIfTI image of zeros."""
    image = nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4))
    if len(shape) == 4:
        image.header["pixdim"][4] = 2.6
        image.header.set_xyzt_units("mm", "sec")
    return gzip.compress(image.to_bytes())


def make_tree(root: Path, n_participants: int) -> None:
    """A BIDS tree of one scan and one T1w a participant, as small as images can be."""
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "scale", "BIDSVersion": "1.8.0"}')
    timing = {
        "RepetitionTime": 2.6,
        "SliceTiming": [0.0, 0.65, 1.3, 1.95],
        "PhaseEncodingDirection": "j-",
        "EffectiveEchoSpacing": 0.0005,
    }
    (root / "task-rest_bold.json").write_text(json.dumps(timing))
    bold, t1w = image_bytes((3, 3, 4, 5)), image_bytes((3, 3, 3))
    rows = ["participant_id\tpain_pre\tpain_post"]
    for index in range(1, n_participants + 1):
        name = f"sub-{index:05d}"
        rows.append(f"{name}\t8\t{4 if index % 3 else 7}")
        for kind, suffix, content in (("func", "task-rest_bold", bold), ("anat", "T1w", t1w)):
            folder = root / name / kind
            folder.mkdir(parents=True)
            (folder / f"{name}_{suffix}.nii.gz").write_bytes(content)
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")


def discovery_seconds(root: Path) -> float:
    """Seconds in which a fresh process reads the dataset, imports not counted."""
    code = (
        "import sys, time; from restresponse.config import validate; from restresponse.dataset import read_dataset\n"
        "settings = validate({}, '.')['dataset']; start = time.perf_counter(); read_dataset(sys.argv[1], settings)\n"
        "print(time.perf_counter() - start)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow" / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def plain_snakefile(folder: Path, n_participants: int) -> Path:
    """The peer: a chain of 17 rules, each with one file in and one out for each participant."""
    rules = [f"NAMES = [f'sub-{{number:05d}}' for number in range(1, {n_participants} + 1)]"]
    rules.append(f"rule all:\n    input: expand('plain/{N_STEPS}/{{name}}.txt', name=NAMES)")
    for step in range(1, N_STEPS + 1):
        source = f"plain/{step - 1}/{{name}}.txt" if step > 1 else "bids/{name}/anat/{name}_T1w.nii.gz"
        rules.append(
            f"rule step_{step}:\n    input: '{source}'\n    output: 'plain/{step}/{{name}}.txt'\n"
            "    shell: 'touch {output}'"
        )
    path = folder / "Snakefile.plain"
    path.write_text("\n".join(rules) + "\n")
    return path


def dry_run(snakefile: Path, folder: Path, settings: list[str]) -> tuple[float, float, float, int]:
    """Wall s, CPU s, peak MB and number of jobs of a dry run."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    command += ["--cores", "2", "--dry-run", "--quiet", "rules"] + (["--config", *settings] if settings else [])
    start = time.perf_counter()
    output = folder / "dry_run.txt"
    with output.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(output.read_text()[-3000:])
    jobs = int(re.search(r"^total\s+(\d+)", output.read_text(), re.MULTILINE)[1])
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, jobs


def main() -> None:
    """Make the trees that are not there and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--participants", type=int, nargs="+", default=[43, 1000, 10000])
    parser.add_argument("--config", nargs="*", default=[], help="key=value, handed on to snakemake")
    parser.add_argument("--no-peer", action="store_true", help="without the plain graph")
    arguments = parser.parse_args()
    print("| participants | graph | discovery s | s a 1,000 scans | dry run s | CPU s | peak MB | jobs |")
    print("|---|---|---|---|---|---|---|---|")
    for n in arguments.participants:
        folder = arguments.folder / f"participants-{n}"
        if not (folder / "bids").is_dir():
            make_tree(folder / "bids", n)
        discovery = discovery_seconds(folder / "bids")
        settings = [f"dataset={{bids_dir: {folder / 'bids'}}}", *arguments.config]
        rows = [
            ("ours", f"{discovery:.2f} | {discovery * 1000 / n:.2f}", dry_run(ROOT / "Snakefile", folder, settings))
        ]
        if not arguments.no_peer:
            rows.append(("plain", " | ", dry_run(plain_snakefile(folder, n), folder, [])))
        for graph, found, (wall, cpu, peak, jobs) in rows:
            print(f"| {n:,} | {graph} | {found} | {wall:.1f} | {cpu:.1f} | {peak:.0f} | {jobs:,} |", flush=True)


if __name__ == "__main__":
    main()
