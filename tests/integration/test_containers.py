"""The images by themselves, and the workflow in them: the same numbers as on the host, the dataset read-only, nothing made again.

The image is that of container_images.py, where is said what is installed, built or skipped.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from container_images import MINOR, output_of

from restresponse import __version__
from restresponse.config import validate
from restresponse.containers import apptainer_arguments
from restresponse.dataset import read_dataset
from restresponse.files import read_array, read_json, read_table
from running import ROOT, TINY, jobs_of, run_snakemake

pytestmark = pytest.mark.slow
FOLD = "rep-1_fold-01"
PREDICTIONS = [f"results/classifier/clean/asc/{model}/{FOLD}/predictions.tsv" for model in ("linear", "voxnet")]
ALONE = ("--cleanenv", "--contain", "--no-privs")  # no variable, folder or package of the host


@pytest.fixture(scope="session")
def base(builder) -> Path:
    """The SIF of the stage base."""
    build, folder, _ = builder
    build("base")
    return folder / f"restresponse-base-{__version__}-py{MINOR}.sif"


def in_image(image: Path, *command: str, arguments: tuple[str, ...] = ALONE) -> str:
    return output_of("apptainer", "exec", *arguments, image, *command)


def test_the_base_is_a_sif_with_the_hosts_python_labels_and_no_cache(base):
    code = "import platform; print('.'.join(platform.python_version_tuple()[:2]))"
    assert in_image(base, "python", "-c", code).strip() == MINOR
    labels = json.loads(output_of("apptainer", "inspect", "--json", "--labels", base))["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.title"] == "restresponse base"
    assert labels["org.opencontainers.image.version"] == __version__
    kept = shlex.split("find /var/lib/apt/lists /var/cache/apt /build -name partial -prune -o -type f -size +4k -print")
    assert not in_image(base, *kept)


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
    assert {"dataset_tables", "functional_preprocess", "quality_inclusion", "classifier_network"} <= {
        j["rule"] for j in jobs
    }
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
