"""The configuration: held against its schema and against itself, with defaults filled in.

All problems are collected and raised once, each with the key, the value found and what is expected.
"""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restresponse.classifier.ladder import contradictions as protocol_contradictions
from restresponse.dataset.characteristics import refusals
from restresponse.engines.programs import unnamed
from restresponse.errors import InputError
from restresponse.group_ica.layout import orders_of

SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "config.schema.yaml"
_NAMED = (
    ("classifier", "protocols"),
    ("classifier", "arms"),
    ("classifier", "models"),
)  # maps whose names the user chooses

_TAKEN = {
    "protocols": {"kernels", "volumes", "connectivity", "baselines"},
    "arms": {"baseline"},
    "models": {"constant"},
}  # folders beside theirs, the arm of the baselines, and the classifier that guesses


def validate(config: dict[str, Any], working_directory: str | Path) -> dict[str, Any]:
    """Check a configuration and fill in its defaults.

    Parameters
    ----------
    config : dict
        As Snakemake read it. A protocol, arm or model set to ``None`` is left out.
    working_directory : path
        The folder in which `results/` will be written; relative paths of the configuration start there.

    Returns
    -------
    dict
        A new configuration in which every key of the schema has a value.

    Raises
    ------
    InputError
        With every problem found.
    """
    filled = copy.deepcopy(dict(config))
    for section, key in _NAMED:
        names = (filled.get(section) or {}).get(key) if isinstance(filled.get(section), dict | None) else None
        if isinstance(names, dict):
            filled[section][key] = {name: entry for name, entry in names.items() if entry is not None}
    filled = _filled(filled, schema())
    for section, key in _NAMED:  # merging files mixes the order, and the first arm and model lead the report
        names = filled[section].get(key) if isinstance(filled.get(section), dict) else None
        if isinstance(names, dict):
            shipped = schema()["properties"][section]["properties"][key]["default"]
            first = [name for name in shipped if name in names]
            filled[section][key] = {name: names[name] for name in dict.fromkeys([*first, *names])}
    problems = [
        _sentence(error)
        for error in sorted(
            _validator().iter_errors(filled), key=lambda error: [str(step) for step in error.absolute_path]
        )
    ]
    if not problems:  # the cross-checks rely on types that the schema has checked
        problems = list(_contradictions(filled, Path(working_directory)))
    if problems:
        lines = dict.fromkeys(line for text in problems for line in text.splitlines())  # each once
        raise InputError.from_problems("The configuration cannot be used", lines)
    dataset = filled["dataset"]
    for key in ("bids_dir", "derivatives"):
        if (dataset[key] or "").startswith("~"):  # in a container, the home is another
            dataset[key] = str(Path(dataset[key]).expanduser())
    return filled


@functools.cache
def schema() -> dict[str, Any]:
    """The schema of the configuration (JSON Schema)."""
    import yaml

    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _resolved(part: dict[str, Any], value: Any) -> dict[str, Any]:
    """The part of the schema that `value` is held against: references followed, the branch of an `if` chosen."""
    if "$ref" in part:
        return _resolved(schema()["$defs"][part["$ref"].rsplit("/", 1)[1]], value)
    if "if" in part:
        [(key, condition)] = part["if"]["properties"].items()
        chosen = isinstance(value, dict) and value.get(key) == condition["const"]
        return _resolved(part["then" if chosen else "else"], value)
    return part


def _filled(value: Any, part: dict[str, Any]) -> Any:
    if not isinstance(value, dict):
        return _typed(value, part)
    part = _resolved(part, value)
    for key, inner in part.get("properties", {}).items():
        inner = _resolved(inner, value.get(key))
        if key not in value and "default" in inner and key not in part.get("required", ()):
            if "used_where" not in inner or value.get(inner["used_where"]) is True:
                value[key] = copy.deepcopy(inner["default"])
        elif key not in value and inner.get("type") == "object":
            value[key] = {}
        if key in value:
            value[key] = _filled(value[key], inner)
    for inner in part.get("patternProperties", {}).values():
        for name in value:
            value[name] = _filled(value[name], inner)
    # In the schema's order: a file whose keys are in another order must rerun nothing.
    known = [key for key in part.get("properties", {}) if key in value]
    return {key: value[key] for key in dict.fromkeys([*known, *value])}


def _typed(value: Any, part: dict[str, Any]) -> Any:
    """What a text stands for where no text is allowed: `--config "classifier={gpu: 1}"` hands on the text 1."""
    import yaml

    if isinstance(value, list) and "items" in part:
        return [_filled(entry, _resolved(part["items"], entry)) for entry in value]
    kinds = [part.get("type", [])] if isinstance(part.get("type"), str) else part.get("type", [])
    kinds = [*kinds, *("string" for choice in part.get("enum", []) if isinstance(choice, str))]
    if not isinstance(value, str) or "string" in kinds or not kinds + part.get("enum", []):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _sentence(error: Any) -> str:
    """Turn an error of jsonschema into one or more lines for the user."""
    path = ".".join(str(step) for step in error.absolute_path)
    part, value = error.schema, error.instance
    if error.validator == "additionalProperties":
        return "\n".join(_unknown(path, key, part) for key in value if not _is_known(key, part))
    if error.validator == "required":
        missing = [key for key in part["required"] if key not in value]
        return "\n".join(
            f"{path}.{key}: missing; expected {_expected(_resolved(part['properties'][key], None))}" for key in missing
        )
    hint = ""
    if isinstance(value, str) and "number" in _types(part) | ({"number"} if "integer" in _types(part) else set()):
        hint = "; YAML reads this as text: write 1.0e-8, not 1e-8, and no quotes" if _is_number(value) else ""
    elif isinstance(value, int | float) and not isinstance(value, bool) and "string" in _types(part):
        hint = f"; YAML reads this as a number: put it in quotes ('{value}', with any leading zeros)"
    elif value is None and "object" in _types(part):
        hint = "; the section is empty: give it keys or leave it out"
    return f"{path or 'the configuration'}: found {_shown(value)}; expected {_expected(part)}{hint}"


def _is_known(key: str, part: dict[str, Any]) -> bool:
    import re

    return key in part.get("properties", {}) or any(
        re.search(pattern, str(key)) for pattern in part.get("patternProperties", {})
    )


def _unknown(path: str, key: str, part: dict[str, Any]) -> str:
    where = f"{path}.{key}" if path else str(key)
    if part.get("patternProperties"):
        return f"{where}: this name cannot be used; expected a small letter, then small letters, digits and underscores, 40 in all at most, e.g. {_as_name(str(key))}"
    known = list(part["properties"])
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    elsewhere = [other for other in _all_keys() if other.rsplit(".", 1)[-1] == key]
    remedy = f"did you mean {near[0]}?" if near else ""
    if elsewhere and (not near or near[0] != key):
        remedy = f"did you mean {' or '.join(elsewhere)}?"
    return f"{where}: unknown key; {remedy or 'remove it or correct its name'} (known here: {', '.join(known)})"


@functools.cache
def _all_keys() -> tuple[str, ...]:
    def walk(part: dict[str, Any], path: str) -> Iterator[str]:
        for key, inner in part.get("properties", {}).items():
            yield f"{path}{key}"
            yield from walk(inner, f"{path}{key}.")

    return tuple(walk(schema(), ""))


def _as_name(text: str) -> str:
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text.lower()).strip("_")
    return (name if name[:1].isalpha() else f"a_{name}").rstrip("_")[:40]


def _types(part: dict[str, Any]) -> set[str]:
    types = part.get("type", [])
    return {types} if isinstance(types, str) else set(types)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map of keys",
    "null": "null",
}


def _expected(part: dict[str, Any]) -> str:
    if "enum" in part:
        text = " or ".join("null" if choice is None else str(choice) for choice in part["enum"])
    else:
        types = part.get("type", [])
        text = " or ".join(_WORDS[kind] for kind in ([types] if isinstance(types, str) else types))
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
        "minLength": "length at least",
        "minItems": "items at least",
        "minProperties": "names at least",
        "pattern": "of the form",
    }
    given = [f"{words} {part[key]}" for key, words in limits.items() if key in part]
    given += ["no item twice"] if part.get("uniqueItems") else []
    described = f" ({part['description'].rstrip('.')})" if "description" in part else ""
    return text + (f", {', '.join(given)}" if given else "") + described


def _contradictions(config: dict[str, Any], working_directory: Path) -> Iterator[str]:
    """Yield what is wrong between keys, each of which is right by itself."""
    for section, key in (
        *(("dataset", key) for key in ("bids_dir", "derivatives")),
        *(("components", key) for key in ("template", "template_labels")),
    ):
        if set("{}<>") & set(config[section][key] or ""):
            yield f"{section}.{key}: found {config[section][key]!r}; Snakemake fills in what stands in {{}} and <>: rename the folder or file without them"
    yield from _nested_folders(config, working_directory)
    yield from _fold_contradictions(config)
    yield from _outcome_contradictions(config)
    yield from refusals(config["metrics"]["baselines"], config["dataset"]["outcome"])
    yield from unnamed(config)
    if config["functional"]["unwarp"] == "motion" and config["functional"]["engine"] != "spm":
        yield (
            f"functional.unwarp: found motion, but functional.engine is {config['functional']['engine']}; expected spm, whose Realign & "
            "Unwarp alone can: set it to auto"
        )

    denoising = config["functional"]["denoising"]
    low, high = denoising["bandpass_low"], denoising["bandpass_high"]
    if low is not None and high is not None and low >= high:
        yield f"functional.denoising.bandpass_low: found {low} Hz, not below bandpass_high {high} Hz; expected low < high"

    ica = config["group_ica"]
    most = max(orders_of(ica))
    if most > ica["reduction"]:
        yield (
            f"group_ica.n_components: found {most}, more than group_ica.reduction {ica['reduction']}; "
            "expected at most as many components as dimensions kept of each participant"
        )
    if ica["merge_dimensions"] < 2 * most:
        yield (
            f"group_ica.merge_dimensions: found {ica['merge_dimensions']}, less than twice group_ica.n_components "
            f"{most}; expected at least {2 * most}, and {4 * most} is well"
        )

    method = config["dual_regression"]["method"]
    refitted = [
        name for name, arm in config["classifier"]["arms"].items() if arm.get("select") and arm["maps"] == "refit"
    ]
    if method != "dual_regression" and refitted:
        yield (
            f"dual_regression.method: found {method}, but {', '.join(refitted)} in classifier.arms refit the maps of the selected "
            "components, which only dual regression can; expected maps: subset there, or method: dual_regression"
        )

    components = config["components"]
    if components["template_labels"] and not components["template"]:
        yield "components.template_labels: found a file, but components.template is null; name the image that the labels are of"
    for key in ("template", "template_labels"):
        if components[key] and not (working_directory / components[key]).is_file():
            yield f"components.{key}: no file {working_directory / components[key]}; expected an existing file (relative paths start in the working directory)"

    yield from _classifier_contradictions(config)


def _nested_folders(config: dict[str, Any], working_directory: Path) -> Iterator[str]:
    dataset = config["dataset"]
    if dataset["bids_dir"] is None and dataset["derivatives"] is None:
        yield "dataset.bids_dir: null, and dataset.derivatives is null too; expected a raw dataset or preprocessed images: set one of them"
    if dataset["space"] is not None and dataset["derivatives"] is None:
        yield f"dataset.space: found {dataset['space']}, but dataset.derivatives is null; name the folder whose space it is, or set it to null"
    for key in ("bids_dir", "derivatives"):
        if dataset[key] is not None:
            yield from _nested(key, dataset[key], working_directory)


def _nested(key: str, folder: str, working_directory: Path) -> Iterator[str]:
    bids = (working_directory / Path(folder).expanduser()).resolve()
    results = (working_directory / "results").resolve()
    suggested = bids.parent / f"{bids.name}-restresponse"
    if results == bids or bids in results.parents:
        yield (
            f"dataset.{key}: the results ({results}) would be written inside the BIDS dataset ({bids}) and later be read as input; "
            f"run in another folder, e.g. snakemake --directory {suggested}"
        )
    elif results in bids.parents:
        yield (
            f"dataset.{key}: the BIDS dataset ({bids}) lies inside the results folder ({results}), which the workflow writes and you may delete; "
            f"move the dataset, e.g. to {working_directory.resolve() / 'data' / bids.name}"
        )


def _fold_contradictions(config: dict[str, Any]) -> Iterator[str]:
    repeats, seeds = config["folds"]["repeats"], config["folds"]["seeds"]
    if repeats % seeds:
        yield f"folds: {repeats} repeats cannot be {seeds} of each split; expected repeats to be a multiple of seeds: set folds.repeats to {-(-repeats // seeds) * seeds}"


def _outcome_contradictions(config: dict[str, Any]) -> Iterator[str]:
    outcome = config["dataset"]["outcome"]
    both = {str(value) for value in outcome["responder_values"]} & {
        str(value) for value in outcome["nonresponder_values"]
    }
    if both:
        yield f"dataset.outcome: {', '.join(sorted(both))} in both responder_values and nonresponder_values; expected each value in one of them"
    if outcome["pain_before"] == outcome["pain_after"]:
        yield f"dataset.outcome: pain_before and pain_after are the same column, {outcome['pain_before']}; expected two columns of participants.tsv"


def _classifier_contradictions(config: dict[str, Any]) -> Iterator[str]:
    classifier, finest = config["classifier"], config["functional"]["voxel_size"]
    if classifier["voxel_size"] is not None and classifier["voxel_size"] < finest:
        yield (
            f"classifier.voxel_size: found {classifier['voxel_size']} mm, finer than functional.voxel_size {finest} mm, which adds nothing; "
            f"expected {finest} mm or more, or null"
        )
    models = classifier["models"]
    for kind, taken in _TAKEN.items():
        for name in classifier[kind].keys() & taken:
            yield f"classifier.{kind}.{name}: this name is the workflow's own; choose another"
    if not any(settings["models"] for settings in classifier["arms"].values()):
        yield "classifier.arms: no arm goes to a model; expected at least one name in the list models of an arm"
    for arm, settings in classifier["arms"].items():
        for name in settings["models"]:
            if name not in models:
                near = difflib.get_close_matches(name, models, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"classifier.arms.{arm}.models: found {name}; expected names in classifier.models ({', '.join(models)}){hint}"
    for name, settings in models.items():
        if (
            settings["search"] is not None
            and settings["search"]["trials"] is None
            and settings["search"]["minutes"] is None
        ):
            yield (
                f"classifier.models.{name}.search: neither trials nor minutes; expected at least one, or the search would "
                "never end: set search.trials, or search to null"
            )
        if settings.get("precision") == "mixed" and not classifier["gpu"]:
            yield (
                f"classifier.models.{name}.precision: found mixed, and classifier.gpu is 0; expected float32 on a CPU, where 16 "
                "bits are slower: set classifier.gpu to 1, or precision to float32"
            )
    yield from protocol_contradictions(classifier, config["metrics"]["ladder"])
