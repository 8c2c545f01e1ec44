"""The config is held against its schema and against itself; every problem is told once, with what to do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from restresponse.config import schema, validate
from restresponse.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def lines_of(config: dict, folder: Path) -> list[str]:
    with pytest.raises(InputError) as raised:
        validate(config, folder)
    headline, *lines = str(raised.value).splitlines()
    assert headline == f"The configuration cannot be used ({len(lines)} problem{'s' if len(lines) > 1 else ''}):"
    return [line.removeprefix("  - ") for line in lines]


def the_line(config: dict, folder: Path) -> str:
    [line] = lines_of(config, folder)
    return line


def parts_of(part: dict, path: str = "") -> Iterator[tuple[str, dict]]:
    """Every key of the schema with its part, those of the named maps too."""
    for key, inner in part.get("properties", {}).items():
        yield f"{path}{key}", inner
        yield from parts_of(inner, f"{path}{key}.")
    for name, inner in part.get("$defs", {}).items():
        yield from parts_of(inner, f"{name}.")


def test_the_schema_is_a_schema_and_strict_everywhere():
    jsonschema.Draft202012Validator.check_schema(schema())
    for path, part in [("", schema()), *parts_of(schema()), *schema()["$defs"].items()]:
        if part.get("type") == "object":
            assert "additionalProperties" in part, f"{path} takes unknown keys"


def test_every_key_has_a_description_and_every_number_a_unit():
    units = (
        "mm",
        " hz",
        " s ",
        "percent",
        "standard deviation",
        "count",
        "share",
        "probability",
        "no unit",
        "steps",
        "scale",
        "rating",
        "dice",
        "correlation",
        " min ",
    )
    for path, part in parts_of(schema()):
        if "$ref" not in part:
            assert part.get("description"), f"{path} has no description"
            assert "object" in part["type"] if "properties" in part else "default" in part, f"{path} has no default"
        if {"number", "integer"} & set(part.get("type", [])) or part.get("type") in ("number", "integer"):
            assert any(unit in f" {part['description'].lower()} " for unit in units), (
                f"{path}: {part['description']} names no unit"
            )


def test_the_schemas_defaults_and_the_config_file_are_in_step(config, tmp_path):
    assert validate({}, tmp_path) == config
    assert validate(config, tmp_path) == config  # it lacks no key


def test_the_demo_differs_in_known_keys_alone(config, tmp_path):
    from snakemake.utils import update_config

    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    update_config(config, demo)
    assert validate(config, tmp_path)["functional"]["voxel_size"] == demo["functional"]["voxel_size"]


def test_what_is_given_is_left_as_it_was(config, tmp_path):
    given = {"folds": {"n_folds": 5}}
    before = copy.deepcopy(given)
    filled = validate(given, tmp_path)
    assert given == before
    assert filled["folds"] == {"n_folds": 5, "repeats": 1, "seeds": 1}
    filled["dataset"]["include"]["type"] = "patient"
    assert validate({}, tmp_path)["dataset"]["include"] == {}


def test_a_home_is_written_out_since_that_of_a_container_is_another(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    filled = validate({"dataset": {"bids_dir": "~/study", "derivatives": "other"}}, tmp_path)["dataset"]
    assert (filled["bids_dir"], filled["derivatives"]) == ("/home/anna/study", "other")


def test_entries_of_the_users_own_are_filled_by_their_kind(config, tmp_path):
    config["classifier"]["models"] |= {"small": {"kind": "network", "epochs": 3}, "ridge": {"kind": "linear"}}
    config["classifier"]["arms"] |= {
        "strict": {"input": "components", "select": True, "p": 0.01, "models": ["ridge"]},
        "few": {"input": "volumes", "models": ["small"]},
    }
    config["classifier"]["protocols"]["leak_1"] = {"group_ica": "all"}
    classifier = validate(config, tmp_path)["classifier"]
    assert classifier["models"]["small"] == config["classifier"]["models"]["voxnet"] | {"epochs": 3}
    assert classifier["models"]["ridge"] == config["classifier"]["models"]["linear"]
    assert classifier["arms"]["strict"] == {
        "input": "components",
        "select": True,
        "p": 0.01,
        "order": None,
        "maps": "refit",
        "models": ["ridge"],
    }
    assert classifier["arms"]["few"] == {"input": "volumes", "volumes": 343, "models": ["small"]}
    assert classifier["protocols"]["leak_1"] == config["classifier"]["protocols"]["clean"] | {"group_ica": "all"}


def test_a_name_set_to_null_is_left_out(config, tmp_path):
    config["classifier"]["arms"]["rsp"] = None
    assert list(validate(config, tmp_path)["classifier"]["arms"]) == ["asc", "ssc"]
    config["classifier"]["arms"] = dict.fromkeys(config["classifier"]["arms"])
    assert "classifier.arms: found {}; expected a map of keys, names at least 1" in the_line(config, tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("sed", 1, "sed: unknown key; did you mean seed?"),
        ("dataset.taks", "rest", "dataset.taks: unknown key; did you mean task?"),
        ("dataset.voxel_size", 2, "did you mean functional.voxel_size or classifier.voxel_size?"),
        ("functional.denoising.zzz", 2, "functional.denoising.zzz: unknown key; remove it"),
        ("classifier.models.voxnet.penalties", [1], "classifier.models.voxnet.penalties: unknown key"),
        ("classifier.models.linear.epochs", 3, "classifier.models.linear.epochs: unknown key"),
        ("classifier.arms.rsp.p", 0.1, "classifier.arms.rsp.p: unknown key"),
        ("classifier.arms.My arm", {}, "classifier.arms.My arm: this name cannot be used"),
        ("classifier.protocols.../../x", {}, "e.g. x"),
        ("functional", None, "functional: found None; expected a map of keys"),
        (
            "functional.voxel_size",
            "2 mm",
            "functional.voxel_size: found '2 mm'; expected a number, at least 1, at most 12",
        ),
        ("group_ica.tolerance", "1e-8", "YAML reads this as text: write 1.0e-8"),
        ("dataset.session", 1, "YAML reads this as a number: put it in quotes"),
        ("dataset.session", "ses-1", "of the form"),
        ("dataset.task", "rest;rm", "of the form"),
        ("dataset.set_aside", ["../x"], "dataset.set_aside.0: found '../x'"),
        ("folds.n_folds", 1, "folds.n_folds: found 1; expected a whole number, at least 2"),
        ("folds.n_folds", 2.5, "expected a whole number"),
        ("folds.n_folds", True, "expected a whole number"),
        ("classifier.arms.ssc.p", 0, "expected a number, above 0, below 1"),
        ("classifier.arms.ssc.p", 1, "expected a number, above 0, below 1"),
        ("classifier.models.voxnet.epochs", 0, "expected a whole number, at least 1"),
        ("classifier.models.voxnet.dropout", 1, "expected a number, at least 0, below 1"),
        ("classifier.arms.asc.models", ["linear", "linear"], "no item twice"),
        ("classifier.protocols.clean.group_ica", "everyone", "expected training or all"),
        ("classifier.models.voxnet.search", {"trials": 0}, "search.trials: found 0; expected"),
        ("functional.denoising.motion_parameters", 5, "expected 0 or 6 or 12 or 24"),
        ("anatomical.engine", "ants", "anatomical.engine: found 'ants'"),
        ("dataset.outcome.threshold", 0, "expected a number, above 0, at most 100"),
        (
            "classifier.models.voxnet",
            {"epochs": 3},
            "classifier.models.voxnet.kind: missing; expected network or linear",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_is_expected(config, tmp_path, path, value, said):
    *sections, key = path.split(".", 2) if ".." in path else path.split(".")
    part = config
    for section in sections:
        part = part[section]
    part[key] = value
    lines = lines_of(config, tmp_path)
    assert any(said in line for line in lines), lines


def test_all_problems_are_told_at_once_and_each_once(tmp_path):
    config = {"sed": 1, "folds": {"n_folds": 1}, "classifier": {"arms": {"a": {}}}}
    lines = lines_of(config, tmp_path)
    assert sorted(line.split(":")[0] for line in lines) == [
        "classifier.arms.a.input",
        "classifier.arms.a.models",
        "folds.n_folds",
        "sed",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"functional.denoising.bandpass_low": 0.1}, "found 0.1 Hz, not below bandpass_high 0.09 Hz"),
        ({"group_ica.n_components": 65}, "found 65, more than group_ica.reduction 64"),
        (
            {"classifier.arms.asc.models": ["voxnt"]},
            "found voxnt; expected names in classifier.models (voxnet, linear); did you mean voxnet?",
        ),
        (
            {"classifier.models.linear": None, "classifier.arms.ssc.models": ["voxnet"]},
            "classifier.arms.asc.models: found linear",
        ),
        ({f"classifier.arms.{arm}.models": [] for arm in ("asc", "ssc", "rsp")}, "no arm goes to a model"),
        ({"classifier.voxel_size": 1}, "finer than functional.voxel_size 2 mm"),
        (
            {"components.template_labels": "names.txt", "components.template": None},
            "components.template is null; name the image",
        ),
        ({"components.template": "nowhere.nii"}, "components.template: no file"),
        ({"dataset.outcome.responder_values": [1, "0"]}, "0 in both responder_values and nonresponder_values"),
        (
            {"folds.repeats": 3, "folds.seeds": 2},
            "3 repeats cannot be 2 of each split; expected repeats to be a multiple",
        ),
        ({"dataset.outcome.pain_after": "pain_pre"}, "are the same column, pain_pre"),
        ({"classifier.models.voxnet.search": {}}, "voxnet.search: neither trials nor minutes; expected at least one"),
        (
            {"classifier.models.voxnet.precision": "mixed"},
            "found mixed, and classifier.gpu is 0; expected float32 on a CPU",
        ),
        ({"classifier.protocols.clean.selection": "all"}, "give a protocol with L2 another name"),
        ({"metrics.ladder": True, "classifier.protocols.clean": None}, "a rung is the difference from it"),
        (
            {"classifier.protocols.clean_but_epoch": {"group_ica": "all"}},
            "clean_but_epoch: found group_ica: all; expected epoch: reported_folds and nothing else open",
        ),
    ],
)
def test_keys_that_contradict_each_other(config, tmp_path, changes, said):
    for path, value in changes.items():
        *sections, key = path.split(".")
        part = config
        for section in sections:
            part = part[section]
        part[key] = value
    lines = lines_of(config, tmp_path)
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize("key", ["bandpass_low", "bandpass_high"])
def test_either_edge_of_the_filter_may_be_left_open(config, tmp_path, key):
    config["functional"]["denoising"][key] = None
    assert validate(config, tmp_path)["functional"]["denoising"][key] is None


def test_what_the_schema_offers_is_what_there_is():
    from restresponse.classifier.architectures import PRESETS
    from restresponse.engines import SHIPPED

    parts = dict(parts_of(schema()))
    assert parts["network_model.preset"]["enum"] == list(PRESETS)
    assert parts["anatomical.engine"]["enum"] == parts["functional.engine"]["enum"] == list(SHIPPED)


def test_the_tests_own_config_is_accepted(config, tmp_path):
    from snakemake.utils import update_config

    update_config(config, yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text()))
    assert validate(config, tmp_path)["classifier"]["arms"]["rsp"]["models"] == []


@pytest.mark.parametrize("bids_dir", [".", "..", "results/../."])
def test_results_inside_the_dataset_are_refused_with_another_path(config, tmp_path, bids_dir):
    work = tmp_path / "study" / "work"
    work.mkdir(parents=True)
    config["dataset"]["bids_dir"] = bids_dir
    line = the_line(config, work)
    dataset = (work / bids_dir).resolve()
    assert "would be written inside the BIDS dataset" in line
    assert f"snakemake --directory {dataset.parent / (dataset.name + '-restresponse')}" in line


def test_results_in_derivatives_reached_by_a_link_are_refused(config, tmp_path):
    (tmp_path / "bids" / "derivatives").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "bids")
    config["dataset"]["bids_dir"] = str(tmp_path / "link")
    assert "would be written inside the BIDS dataset" in the_line(config, tmp_path / "bids" / "derivatives")


def test_the_dataset_inside_the_results_is_refused(config, tmp_path):
    config["dataset"]["bids_dir"] = "results/bids"
    line = the_line(config, tmp_path)
    assert "lies inside the results folder" in line and str(tmp_path / "data" / "bids") in line


def test_derivatives_do_without_a_raw_dataset_and_are_kept_apart_from_the_results(config, tmp_path):
    config["dataset"]["bids_dir"] = None
    assert "dataset.bids_dir: null, and dataset.derivatives is null too" in the_line(config, tmp_path)
    config["dataset"]["derivatives"] = "fmriprep"
    assert validate(config, tmp_path)["dataset"]["derivatives"] == "fmriprep"
    config["dataset"]["derivatives"] = "results/derivatives"
    assert the_line(config, tmp_path).startswith("dataset.derivatives: the BIDS dataset")
    config["dataset"] |= {"bids_dir": "bids", "derivatives": None, "space": "MNI152NLin6Asym"}
    assert "dataset.space: found MNI152NLin6Asym, but dataset.derivatives is null" in the_line(config, tmp_path)


def test_a_dataset_beside_the_results_is_accepted(config, tmp_path):
    for bids_dir in ("bids", "results-bids", str(tmp_path.parent / "bids")):
        config["dataset"]["bids_dir"] = bids_dir
        assert validate(config, tmp_path)["dataset"]["bids_dir"] == bids_dir


def rows_of(part: dict, path: str = "") -> Iterator[str]:
    """The rows of config/README.md that the schema asks for."""
    for key, inner in part.get("properties", {}).items():
        inner = inner if "$ref" not in inner else schema()["$defs"][inner["$ref"].rsplit("/", 1)[1]]
        if "properties" in inner:
            yield from rows_of(inner, f"{path}{key}.")
        else:
            default = "see below" if "patternProperties" in inner else f"`{yaml_of(inner['default'])}`"
            choices = f" One of {', '.join(f'`{choice}`' for choice in inner['enum'])}." if "enum" in inner else ""
            yield f"| `{path}{key}` | {default} | {inner['description'].replace('|', chr(92) + '|')}{choices} |"


def yaml_of(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def test_the_prose_has_every_key_with_its_default_and_its_meaning():
    text = (ROOT / "config" / "README.md").read_text()
    wanted = [*rows_of(schema()), *(row for part in schema()["$defs"].values() for row in rows_of(part))]
    assert not [row for row in wanted if row not in text]
    given = [line for line in text.splitlines() if line.startswith("| `") and line.count(" | ") == 2]
    assert not set(given) - set(wanted), "rows of keys that the schema does not have"


def test_arms_come_in_the_shipped_order_however_the_files_were_merged(tmp_path):
    """The first arm leads the report; Snakemake's merge of config files puts the keys of the last file first."""
    shipped = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    arms = shipped["classifier"]["arms"]
    own = {"input": "components", "select": False, "models": ["linear"]}
    shipped["classifier"]["arms"] = {"mine": own, "rsp": arms["rsp"], "ssc": arms["ssc"], "asc": arms["asc"]}
    assert list(validate(shipped, tmp_path)["classifier"]["arms"]) == ["asc", "ssc", "rsp", "mine"]


def test_the_order_of_keys_in_a_file_changes_nothing(tmp_path):
    """Snakemake compares parameters as text: sections in another order would rerun the preprocessing."""
    shipped = (ROOT / "config" / "config.yaml").read_text()
    ordered, shuffled = yaml.safe_load(shipped), yaml.safe_load(yaml.safe_dump(yaml.safe_load(shipped), sort_keys=True))
    assert repr(shuffled) != repr(ordered)
    assert repr(validate(shuffled, tmp_path)) == repr(validate(ordered, tmp_path))


def test_numbers_inside_braces_on_the_command_line_are_numbers(tmp_path):
    # what Snakemake makes of --config "classifier={gpu: 1}" and the like
    typed = {
        "dataset": {"task": "1", "slice_timing": ["0.0", "1.3"]},
        "functional": {"slice_timing": "false", "smoothing_fwhm": "6.5", "denoising": {"bandpass_low": "null"}},
        "quality": {"maximum_mean_displacement": "far"},
        "classifier": {
            "gpu": "1",
            "models": {"voxnet": {"kind": "network"}, "linear": {"kind": "linear", "penalties": ["0.1", "1"]}},
        },
    }
    assert "maximum_mean_displacement" in the_line(typed, tmp_path) and "'far'" in the_line(typed, tmp_path)
    del typed["quality"]
    read = validate(typed, tmp_path)
    assert read["classifier"]["gpu"] == 1 and read["functional"]["slice_timing"] is False
    assert read["functional"]["smoothing_fwhm"] == 6.5 and read["functional"]["denoising"]["bandpass_low"] is None
    assert read["classifier"]["models"]["linear"]["penalties"] == [0.1, 1]
    assert read["dataset"]["task"] == "1" and read["dataset"]["slice_timing"] == [0.0, 1.3]
