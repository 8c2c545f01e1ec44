"""Nipype interfaces over greedy (Yushkevich, https://github.com/pyushkevich/greedy) by its Python module picsl_greedy.

One thread and a seed, in deformable mode too: without them greedy differs from run to run. File names are relative to
the folder in which an interface runs, for greedy splits its command at spaces.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

VERSION = importlib.metadata.version("picsl-greedy")


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what greedy's C code prints, hundreds of lines, to a file: it does not go through Python's streams."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with log.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _Output(TraitedSpec):
    out_file = File(desc="what greedy wrote")
    command = traits.Str(desc="the command as greedy got it")


class Greedy(SimpleInterface):
    """A greedy command, built by `arguments` from the inputs."""

    input_spec = BaseInterfaceInputSpec
    output_spec = _Output
    version = VERSION

    def arguments(self) -> list[str]:
        """The command's words after `-d 3 -threads 1`."""
        raise NotImplementedError

    @property
    def cmdline(self) -> str:
        """The whole command."""
        return " ".join(["-d 3 -threads 1", *self.arguments()])

    def _run_interface(self, runtime: Any) -> Any:
        from picsl_greedy import Greedy3D

        log = Path(runtime.cwd) / f"{Path(self.inputs.out_file).name}.log"
        with _quiet(log):
            try:
                Greedy3D().execute(self.cmdline)
            except Exception as error:
                raise RuntimeError(f"greedy {self.cmdline}\n{error}") from error
        self._results["out_file"] = str(Path(runtime.cwd) / self.inputs.out_file)
        self._results["command"] = self.cmdline
        return runtime


class _RigidInput(BaseInterfaceInputSpec):
    fixed = File(mandatory=True)
    moving = File(mandatory=True)
    fixed_mask = File(desc="the metric is computed inside it")
    out_file = File(mandatory=True, desc="text, (4, 4), RAS: mm of fixed to mm of moving")
    initial = File(desc="text, (4, 4), RAS; the headers alone where it is not given")
    degrees_of_freedom = traits.Enum(6, 12, usedefault=True)
    metric = traits.Str("NMI", usedefault=True)
    iterations = traits.Str("100x50x10", usedefault=True)
    seed = traits.Int(7, usedefault=True)


class LinearRegistration(Greedy):
    """Rigid or affine registration."""

    input_spec = _RigidInput

    def arguments(self) -> list[str]:
        inputs = self.inputs
        words = ["-a", f"-dof {inputs.degrees_of_freedom}", f"-m {inputs.metric}", f"-n {inputs.iterations}"]
        words += [f"-seed {inputs.seed}", f"-i {inputs.fixed} {inputs.moving}"]
        words += [f"-gm {inputs.fixed_mask}"] if isdefined(inputs.fixed_mask) else []
        words += [f"-ia {inputs.initial}"] if isdefined(inputs.initial) else ["-ia-identity"]
        return [*words, f"-o {inputs.out_file}"]


class _DeformableInput(BaseInterfaceInputSpec):
    fixed = File(mandatory=True)
    moving = File(mandatory=True)
    initial = File(mandatory=True, desc="affine, text, (4, 4), RAS")
    out_file = File(mandatory=True, desc="displacements in mm, LPS, on the grid of fixed")
    metric = traits.Str("NCC 2x2x2", usedefault=True)
    iterations = traits.Str("40x50x10", usedefault=True)
    smoothing = traits.Str("2vox 0.5vox", usedefault=True, desc="of the update and of the whole field")
    seed = traits.Int(7, usedefault=True, desc="of the noise that greedy adds to the images for NCC")


class DeformableRegistration(Greedy):
    """Diffeomorphic registration (Yushkevich et al. 2016, Alzheimers Dement 12:P126)."""

    input_spec = _DeformableInput

    def arguments(self) -> list[str]:
        inputs = self.inputs
        words = [f"-i {inputs.fixed} {inputs.moving}", f"-it {inputs.initial}", f"-m {inputs.metric}"]
        return [
            *words,
            f"-n {inputs.iterations}",
            f"-s {inputs.smoothing}",
            f"-seed {inputs.seed}",
            f"-o {inputs.out_file}",
        ]


class _ResliceInput(BaseInterfaceInputSpec):
    grid = File(mandatory=True)
    moving = File(mandatory=True)
    out_file = File(mandatory=True)
    transforms = traits.List(traits.Str, mandatory=True, desc="as greedy takes them: the last is applied first")
    interpolation = traits.Enum("LINEAR", "NN", usedefault=True)


class Reslice(Greedy):
    """A 3D image on another grid through a chain of transforms."""

    input_spec = _ResliceInput

    def arguments(self) -> list[str]:
        inputs = self.inputs
        words = [
            f"-rf {inputs.grid}",
            f"-ri {inputs.interpolation}",
            "-rt float",
            f"-rm {inputs.moving} {inputs.out_file}",
        ]
        return [*words, "-r", *inputs.transforms]
