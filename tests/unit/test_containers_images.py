"""Which image a rule runs in, what is said where it is missing, what a container may reach, what an image holds."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import pytest

from restresponse import __version__
from restresponse.config import validate
from restresponse.containers import apptainer_arguments, check_images, images, kind_of, kinds_used
from restresponse.dataset import read_dataset
from restresponse.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(bids_tree, tmp_path, monkeypatch):
    """A working directory beside the dataset, its config and the dataset as read."""
    folder = tmp_path / "study"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def study_of(bids_dir=bids_tree, **changes):
        config = validate({"dataset": {"bids_dir": str(bids_dir)}} | changes, folder)
        return config, read_dataset(config["dataset"]["bids_dir"], config["dataset"])

    return study_of


def binds_of(arguments: str) -> list[str]:
    words = shlex.split(arguments)
    return [value for word, value in itertools.pairwise(words) if word == "--bind"]


def test_each_engine_has_an_image_and_the_network_has_one_where_it_trains_on_a_gpu(study):
    assert [kind_of(engine) for engine in ("embedded", "spm", "fsl")] == ["python", "spm", "fsl"]
    assert kinds_used(study()[0]) == ["python"]
    config, _ = study(anatomical={"engine": "fsl"}, classifier={"gpu": 1})
    assert kinds_used(config) == ["python", "gpu", "fsl"]


def test_a_name_holds_the_versions_and_is_what_the_build_script_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = images(validate({}, tmp_path)["containers"], ROOT)
    assert set(found) == {"python", "gpu", "spm", "fsl"}
    for kind, image in found.items():
        assert re.fullmatch(rf"{ROOT}/containers/restresponse-{kind}-{re.escape(__version__)}-py3\.\d+\.sif", image)
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()  # from which the script has it
    assert "file=$output/restresponse-$1-$tag.sif" in (ROOT / "containers" / "build").read_text()


def test_a_relative_path_starts_in_the_working_directory_then_in_the_checkout_and_an_address_is_left(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.sif").touch()
    given = {"python": "mine.sif", "gpu": "containers/Dockerfile", "spm": "docker://a.org/spm:12", "fsl": None}
    assert images(given, ROOT) == {
        "python": str(tmp_path / "mine.sif"),
        "gpu": str(ROOT / "containers" / "Dockerfile"),
        "spm": "docker://a.org/spm:12",
        "fsl": None,
    }


def test_every_missing_image_is_named_with_the_command_that_makes_it(tmp_path):
    (tmp_path / "there.sif").touch()
    names = {"python": tmp_path / "none.sif", "gpu": tmp_path / "gpu.sif", "spm": tmp_path / "there.sif"}
    given = {kind: str(path) for kind, path in names.items()} | {"fsl": "docker://a.org/fsl:6"}
    with pytest.raises(InputError) as raised:
        check_images(given, given)
    headline, python, gpu = str(raised.value).splitlines()
    assert headline == "The containers cannot be used (2 problems):"
    assert f"no image {names['python']}" in python and "`make container`" in python
    assert f"no image {names['gpu']}" in gpu and "`make container STAGE=gpu`" in gpu
    check_images(given, ["spm", "fsl"])  # no word on what no rule names
    check_images({"python": None}, ["python"])


@pytest.mark.parametrize("name", ["my images/a.sif", "$(touch x).sif", "a;b.sif", "a'b.sif"])
def test_an_image_whose_path_a_shell_would_read_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="a space or a sign that a command line reads otherwise"):
        check_images({"python": str(tmp_path / name)}, ["python"])


def test_the_dataset_is_bound_read_only_and_nothing_has_privileges(study, bids_tree):
    arguments = apptainer_arguments(*study())
    assert binds_of(arguments) == [f"{bids_tree}:{bids_tree}:ro"]
    assert "--no-privs" in arguments and "--nv" not in arguments
    assert "--nv" in apptainer_arguments(*study(classifier={"gpu": 1})).split()


def test_a_dataset_behind_a_link_is_bound_where_it_is_and_where_it_is_named(study, bids_tree, tmp_path):
    (tmp_path / "link").symlink_to(bids_tree)
    expected = [f"{bids_tree}:{path}:ro" for path in (bids_tree, tmp_path / "link")]
    assert binds_of(apptainer_arguments(*study(tmp_path / "link"))) == expected
    assert binds_of(apptainer_arguments(*study("../link"))) == expected
    (tmp_path / "study" / "bids").symlink_to(bids_tree)  # the working directory is in the container, so is this link
    assert binds_of(apptainer_arguments(*study("bids"))) == [f"{bids_tree}:{bids_tree}:ro"]


def test_images_that_are_links_to_an_archive_are_reached_by_its_folder(study, bids_tree, tmp_path):
    archive = tmp_path / "archive"
    for image in sorted(bids_tree.glob("sub-0[12]/func/*.nii.gz")):
        target = archive / image.relative_to(bids_tree)
        target.parent.mkdir(parents=True)
        image.rename(target)
        image.symlink_to(target)
    assert binds_of(apptainer_arguments(*study())) == [f"{path}:{path}:ro" for path in (archive, bids_tree)]


def test_a_path_with_quotes_and_spaces_stays_one_word_and_one_that_cannot_be_bound_is_refused(
    study, bids_tree, tmp_path
):
    odd = tmp_path / 'it\'s $(touch x) "mine"'
    bids_tree.rename(odd)
    assert binds_of(apptainer_arguments(*study(odd))) == [f"{odd}:{odd}:ro"]
    colon = tmp_path / "a:b"
    odd.rename(colon)
    with pytest.raises(InputError, match="has a colon, a comma or a line break"):
        apptainer_arguments(*study(colon))


@pytest.fixture(scope="module")
def packages():
    specification = importlib.util.spec_from_file_location("packages", ROOT / "containers" / "packages.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.packages


def names_of(lines: list[str]) -> set[str]:
    return {re.split(r"[\[=]", line)[0] for line in lines}


def test_an_image_holds_all_that_is_asked_for_but_snakemake_and_what_only_that_needs(packages):
    asked = re.findall(r"^([a-z][\w-]*)", (ROOT / "envs" / "requirements.in").read_text(), re.MULTILINE)
    lines = packages("python", ROOT / "envs")
    assert names_of(lines) >= {name for name in asked if not name.startswith("snakemake")}
    assert names_of(lines) >= {"keras", "h5py", "lxml", "threadpoolctl"}  # of those, what they need
    assert not names_of(lines) & {"pulp", "gitpython", "sqlmodel", "yte", "nbformat", "smmap"}
    assert not [name for name in names_of(lines) if name.startswith("snakemake")]
    assert set(lines) <= set((ROOT / "envs" / "requirements.txt").read_text().splitlines())


def test_the_gpu_image_differs_by_tensorflow_alone_and_its_pins_are_those_of_the_others(packages):
    python, gpu = packages("python", ROOT / "envs"), packages("gpu", ROOT / "envs")
    assert names_of(python) - names_of(gpu) == {"tensorflow-cpu"}
    assert all(name.startswith("nvidia-") for name in names_of(gpu) - names_of(python))
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= names_of(gpu)
    version = next(line for line in python if line.startswith("tensorflow-cpu==")).split(" ")[0].split("==")[1]
    assert f"tensorflow=={version}" in gpu
    assert {line for line in python if not line.startswith("tensorflow")} <= set(gpu)
