"""The house keeps its order: one stage is one word everywhere, adapters stay thin, rule files stay plain."""

import ast
import re
from itertools import groupby

import pytest
import yaml

from running import ROOT

STAGES = [
    "dataset",
    "anatomical",
    "functional",
    "quality",
    "folds",
    "group_ica",
    "dual_regression",
    "components",
    "classifier",
    "metrics",
    "report",
]
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
RULE_FILES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
MODULES = sorted((ROOT / "workflow" / "lib").rglob("*.py"))


def rules_of(path):
    return re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)


def stage_of(rule_file):
    """The stage of `<stage>` or `<stage>_<part>`; None of a file that belongs to no stage."""
    return next((stage for stage in STAGES if rule_file == stage or rule_file.startswith(f"{stage}_")), None)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_word_names_its_rules_module_config_results_tests_and_scripts(stage):
    rule_files = [path for path in RULE_FILES if stage_of(path.stem) == stage]
    library = ROOT / "workflow" / "lib" / "restresponse"
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    for path in rule_files:
        assert rules_of(path) and all(rule.startswith(f"{stage}_") for rule in rules_of(path))
    assert (library / stage).is_dir() or (library / f"{stage}.py").is_file()
    assert stage in config
    assert list((ROOT / "tests" / "unit").glob(f"test_{stage}*.py"))
    outputs = re.findall(r'"(results/[^"]+)"', "".join(path.read_text() for path in rule_files))
    assert any(path.startswith(f"results/{stage}/") for path in outputs)


def test_the_snakefile_includes_the_stages_in_the_order_the_data_flow_and_stays_short():
    lines = (ROOT / "Snakefile").read_text().splitlines()
    included = [match[1] for line in lines if (match := re.match(r'include: "workflow/rules/(\w+).smk"', line))]
    assert sorted(included) == [path.stem for path in RULE_FILES] and included[0] == "common"
    of_stage = {stage: list(files) for stage, files in groupby(included[1:], stage_of)}
    assert list(of_stage) == STAGES
    assert all(files[0] == stage for stage, files in of_stage.items())
    assert len(lines) <= 40


def test_every_rule_has_one_script_of_its_name_and_every_script_a_rule():
    rules = {rule for path in RULE_FILES for rule in rules_of(path)}
    assert rules == {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_adapter_has_at_most_15_lines_and_no_logic(script):
    text = script.read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 15
    kinds = {type(node) for node in ast.walk(ast.parse(text))}
    assert not kinds & {ast.If, ast.While, ast.Try, ast.FunctionDef, ast.ClassDef, ast.Lambda}


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_rule_files_have_no_run_blocks_checkpoints_or_conditional_includes(path):
    text = path.read_text()
    assert not re.search(r"^\s*run:|^checkpoint |^\s+include:", text, re.MULTILINE)
    for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
        name = rule.split(":")[0]
        for section in ("log:", "benchmark:", "container:", "script:", "params:"):
            assert f"    {section}" in rule, f"rule {name} of {path.name} has no {section}"
        assert "code_of(" in rule, f"rule {name} of {path.name} would not rerun when its module is edited"


def test_the_library_never_imports_snakemake_and_never_pickles():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        roots = {name.split(".")[0] for name in imported}
        assert not roots & {"snakemake", "pickle", "joblib", "cloudpickle", "dill"}, path
        assert "allow_pickle=True" not in path.read_text(), path
        assert "shell=True" not in path.read_text(), path


def test_heavy_libraries_are_imported_only_inside_the_functions_that_need_them():
    heavy = {"tensorflow", "keras", "optuna", "sklearn", "nilearn", "nipype", "matplotlib", "picsl_greedy"}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found = {name.split(".")[0] for name in names} & heavy
            assert not found or "engines" in path.parts, f"{path} imports {found} at its top"


def test_no_module_is_a_catch_all():
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "manager", "common", "misc"}]
