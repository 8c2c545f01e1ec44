"""The images by themselves, and the workflow in them: the same numbers as on the host, the dataset read-only, nothing made again.

Nothing is installed or built unless RESTRESPONSE_TEST_INSTALL=1 (as in .ci/run): otherwise the tests take the image that
`make container` made or that RESTRESPONSE_TEST_IMAGE names, and are skipped, by name, where Apptainer or the image is missing.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from restresponse import __version__
from restresponse.config import validate
from restresponse.containers import apptainer_arguments, images
from restresponse.dataset import read_dataset
from restresponse.files import read_array, read_json, read_table
from running import ROOT, TINY, jobs_of, run_snakemake

pytestmark = pytest.mark.slow
INSTALL = os.environ.get("RESTRESPONSE_TEST_INSTALL") == "1"
INSTALLER = ROOT.parent / "shared" / "tools" / "install_apptainer.sh"
MINOR = ".".join(platform.python_version_tuple()[:2])
FOLD = "rep-1_fold-01"
PREDICTIONS = [f"results/classifier/clean/asc/{model}/{FOLD}/predictions.tsv" for model in ("linear", "voxnet")]
ALONE = ("--cleanenv", "--contain", "--no-privs")  # no variable, folder or package of the host


def output_of(*command: str | Path, **variables: str) -> str:
    """Standard output of a command; where it fails, the test fails with all that the command said."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | variables,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@functools.cache
def found(*programs: str) -> str:
    """What is missing of the programs, as the reason of a skip; nothing where all are there or could be installed."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing and INSTALL and os.geteuid() == 0 and shutil.which("apt-get"):
        if "apptainer" in missing and INSTALLER.is_file():
            output_of("bash", INSTALLER)
        if packages := [program for program in missing if program != "apptainer"]:
            output_of("apt-get", "update", "-qq")
            output_of("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
        missing = [program for program in programs if not shutil.which(program)]
    return ", ".join(missing)


@pytest.fixture(scope="session")
def apptainer() -> str:
    if missing := found("apptainer"):
        pytest.skip(
            f"CONTAINERS NOT RUN: {missing} is not found; install Apptainer, or set RESTRESPONSE_TEST_INSTALL=1"
        )
    return "apptainer"


@pytest.fixture(scope="session")
def builder(apptainer, tmp_path_factory):
    """Run `containers/build` in storage and output of this session, on a root filesystem made here."""
    if not INSTALL:
        pytest.skip("IMAGES NOT BUILT: building takes minutes and gigabytes; RESTRESPONSE_TEST_INSTALL=1 does it")
    if missing := found("buildah", "mmdebstrap"):
        pytest.skip(f"IMAGES NOT BUILT: {missing} is not found and could not be installed (needs root and apt-get)")
    folder = tmp_path_factory.mktemp("containers")
    variables = {"ENGINE": "buildah", "STORAGE": str(folder / "storage"), "OUTPUT": str(folder)}
    output_of("containers/build", "rootfs", **variables)
    variables["OFFLINE_BASE"] = str(folder / f"rootfs-py{MINOR}.tar")
    storage = ("--root", folder / "storage/root", "--runroot", folder / "storage/run")
    yield lambda *stages, **more: output_of("containers/build", "image", *stages, **variables, **more), folder, storage
    output_of("buildah", *storage, "rm", "--all")
    output_of("buildah", *storage, "rmi", "--all", "--force")


@pytest.fixture(scope="session")
def base(builder) -> Path:
    """The SIF of the stage base."""
    build, folder, _ = builder
    build("base")
    return folder / f"restresponse-base-{__version__}-py{MINOR}.sif"


@pytest.fixture(scope="session")
def image(apptainer, request) -> Path:
    """The image of the Python steps: the one that is there, or the stage's files as buildah mounts them (a SIF takes minutes)."""
    ready = os.environ.get("RESTRESPONSE_TEST_IMAGE") or images(validate({}, ROOT)["containers"], ROOT)["python"]
    if Path(ready).exists() or not INSTALL:
        if not Path(ready).exists():
            pytest.skip(
                f"CONTAINERS NOT RUN: no image {ready}; `make container` makes it, RESTRESPONSE_TEST_IMAGE names another"
            )
        return Path(ready)
    build, _, storage = request.getfixturevalue("builder")
    build("python", SIF="no")
    name = f"localhost/restresponse-python:{__version__}-py{MINOR}"
    container = output_of("buildah", *storage, "from", name).strip()
    return Path(output_of("buildah", *storage, "mount", container).strip())


def in_image(image: Path, *command: str, arguments: tuple[str, ...] = ALONE) -> str:
    return output_of("apptainer", "exec", *arguments, image, *command)


def test_the_base_is_a_sif_with_the_hosts_python_labels_and_no_cache(base):
    code = "import platform; print('.'.join(platform.python_version_tuple()[:2]))"
    assert in_image(base, "python", "-c", code).strip() == MINOR
    labels = json.loads(output_of("apptainer", "inspect", "--json", "--labels", base))["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.title"] == "restresponse base"
    assert labels["org.opencontainers.image.version"] == __version__
    assert not in_image(
        base, "find", "/var/lib/apt/lists", "/var/cache/apt", "/build", "/root", "-type", "f", "-size", "+4k"
    )


def test_the_image_by_itself_holds_every_pinned_package_and_no_snakemake(image):
    specification = importlib.util.spec_from_file_location("packages", ROOT / "containers" / "packages.py")
    packages = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(packages)
    code = (
        "import importlib.metadata as m, json\n"
        "import jinja2, jsonschema, keras, matplotlib, nibabel, niimath, nilearn, nipype, numpy, pandas, picsl_greedy\n"
        "import PIL, scipy, sklearn, tensorflow, yaml\n"
        "assert tensorflow.reduce_sum(tensorflow.ones(3)).numpy() == 3\n"
        "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
    )
    inside = json.loads(in_image(image, "python", "-c", code).splitlines()[-1])
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in packages.packages("python", ROOT / "envs")]
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate()]
    wrong = [
        f"{each}: {inside.get(each.name)}" for each in wanted if str(each.specifier) != f"=={inside.get(each.name)}"
    ]
    assert not wrong
    assert not [name for name in inside if name.startswith("snakemake")]
    assert "niimath version" in in_image(image, "sh", "-c", "niimath 2>&1 || true")


def test_a_container_has_no_privileges_and_cannot_write_to_the_dataset(image, bids_tree, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    config = validate({"dataset": {"bids_dir": "../bids"}}, work)
    given = shlex.split(apptainer_arguments(config, read_dataset("../bids", config["dataset"])))
    run = functools.partial(in_image, image, arguments=("--home", str(work), "--pwd", str(work), *given))
    assert re.search(r"CapEff:\s*0000000000000000", run("cat", "/proc/self/status"))
    assert re.search(r"NoNewPrivs:\s*1", run("cat", "/proc/self/status"))
    assert "sub-01" in run("ls", "../bids")
    run("touch", "results")
    assert (work / "results").exists()
    with pytest.raises(AssertionError, match="Read-only file system"):
        run("touch", "../bids/sub-01/new")
    with pytest.raises(AssertionError, match="Read-only file system"):
        run("rm", "-r", str(bids_tree / "sub-01"))
    assert (bids_tree / "sub-01" / "anat").is_dir()


@pytest.fixture(scope="module")
def contained(image, tiny_cohort, tmp_path_factory) -> tuple[Path, Path, str]:
    """The tiny study in containers, from the dataset to one fold's predictions: its folder, its config, what Snakemake said."""
    study = tmp_path_factory.mktemp("contained")
    settings = yaml.safe_load(TINY.read_text())
    settings["dataset"]["bids_dir"] = str(tiny_cohort / "bids")
    settings["containers"] = {"python": str(image)}
    config = study / "study.yaml"
    config.write_text(yaml.safe_dump(settings))
    return study, config, run_snakemake(study, *PREDICTIONS, "--use-singularity", "--verbose", config=config).stdout


def test_the_workflow_in_containers_gives_the_hosts_components_and_predictions(contained, tiny_study, image):
    study, config, said = contained
    jobs = [job for job in jobs_of(said) if job["rule"] != "all"]
    assert len(jobs) > 50
    assert said.count(f"Activating singularity image {image}") == len(jobs)
    bids = yaml.safe_load(config.read_text())["dataset"]["bids_dir"]
    assert said.count(f"--bind {bids}:{bids}:ro") == len(jobs)
    path = f"results/group_ica/{FOLD}/order-4/components"
    versions = read_json(study / f"{path}.json")["versions"]
    code = "import platform; print(platform.python_version())"
    assert versions["python"] == in_image(image, "python", "-c", code).strip()
    inside, outside = (read_array(folder / f"{path}.npy") for folder in (study, tiny_study))
    np.testing.assert_allclose(inside, outside, rtol=0, atol=1e-4 * np.std(outside))
    for path in PREDICTIONS:
        inside, outside = (read_table(folder / path) for folder in (study, tiny_study))
        np.testing.assert_allclose(inside.pop("y_score"), outside.pop("y_score"), rtol=0, atol=1e-4)
        assert inside.equals(outside) and len(inside) == 4


def test_containers_on_or_off_make_nothing_again(contained):
    study, config, _ = contained
    for flags in ((), ("--use-singularity",)):
        assert "Nothing to be done" in run_snakemake(study, *PREDICTIONS, *flags, config=config).stdout
