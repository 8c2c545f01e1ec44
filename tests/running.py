"""Running the workflow from a test, reading what jobs it announces, and small BIDS trees made on the spot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
TINY = ROOT / "tests" / "tiny.yaml"


def snakemake_command(directory: Path, *arguments: str, config: Path | str | None = None) -> list[str]:
    """The command line that runs this workflow in a directory of its own."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(directory)]
    if "--cores" not in arguments:
        command += ["--cores", "2"]
    command += arguments  # targets before --configfile, which takes every word after it
    return command if config is None else [*command, "--configfile", str(config)]


def run_snakemake(
    directory: Path, *arguments: str, config: Path | str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the workflow and return the finished process, its two streams joined in `stdout`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "lib"), "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(
        snakemake_command(directory, *arguments, config=config),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"snakemake ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done


def jobs_of(output: str) -> list[dict[str, str | list[str]]]:
    """The jobs that a dry run or a run announces: rule, input and output files of each."""
    jobs: list[dict] = []
    for line in output.splitlines():
        if match := re.match(r"(?:local)?(?:rule|checkpoint) (\w+):$", line):
            jobs.append({"rule": match[1], "input": [], "output": []})
        elif jobs and (match := re.match(r"    (input|output): (.*)$", line)):
            jobs[-1][match[1]] = match[2].split(", ")
    return jobs


def write_bids_tree(
    folder: Path, participants: int = 8, responders: int = 5, shape: tuple[int, ...] = (4, 4, 3, 40)
) -> Path:
    """A BIDS tree whose images hold a header and zeros: enough for the parse and for dry runs."""
    import nibabel as nib

    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "tree", "BIDSVersion": "1.9.0"}))
    (folder / "task-rest_bold.json").write_text(
        json.dumps({"TaskName": "rest", "RepetitionTime": 2.6, "SliceTiming": [0.0, 0.8, 1.6][: shape[2]]})
    )
    rows = ["participant_id\tage\tsex\tpain_pre\tpain_post"]
    for index in range(1, participants + 1):
        name = f"sub-{index:02d}"
        rows.append(f"{name}\t{40 + index}\t{'MF'[index % 2]}\t8\t{2 if index <= responders else 8}")
        for kind, size in (("anat", shape[:3]), ("func", shape)):
            (folder / name / kind).mkdir(parents=True)
            image = nib.Nifti1Image(np.zeros(size, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
            image.header.set_xyzt_units("mm", "sec")
            if len(size) == 4:
                image.header.set_zooms((4, 4, 4, 2.6))
            suffix = "T1w" if kind == "anat" else "task-rest_bold"
            image.to_filename(folder / name / kind / f"{name}_{suffix}.nii.gz")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


def write_derivatives_tree(
    folder: Path, space: str, participants: int = 8, shape: tuple[int, ...] = (4, 4, 3, 40)
) -> Path:
    """A tree in fMRIPrep's layout and names whose images hold a header and zeros, participants.tsv in it."""
    import nibabel as nib

    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(
        json.dumps(
            {"Name": "tree", "BIDSVersion": "1.4.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
        )
    )
    rows = ["participant_id\tpain_pre\tpain_post"]
    for index in range(1, participants + 1):
        name = f"sub-{index:02d}"
        rows.append(f"{name}\t8\t{2 if index % 2 else 8}")
        func = folder / name / "func"
        func.mkdir(parents=True)
        stem = f"{name}_task-rest_space-{space}_res-2_desc"
        image = nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((4, 4, 4, 2.6))
        image.to_filename(func / f"{stem}-preproc_bold.nii.gz")
        nib.Nifti1Image(np.ones(shape[:3], np.uint8), image.affine).to_filename(func / f"{stem}-brain_mask.nii.gz")
        table = "\n".join(["trans_x", *["0"] * shape[3]]) + "\n"
        (func / f"{name}_task-rest_desc-confounds_timeseries.tsv").write_text(table)
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder
