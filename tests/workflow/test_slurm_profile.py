"""What the Slurm profile would submit, read from dry runs: how many submissions, and what the jobs ask for."""

import re

import pytest
import yaml

from running import ROOT, run_snakemake, write_bids_tree

PROFILE = ROOT / "profiles" / "slurm"
SETTINGS = yaml.safe_load((PROFILE / "config.yaml").read_text())
RULES = {
    rule
    for path in (ROOT / "workflow" / "rules").glob("*.smk")
    for rule in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)
}
# Of group PCA above group_ica.exact_limit: few enough of them, and long enough, to be submitted alone.
MERGED = {"group_ica_merge", "group_ica_start", "group_ica_multiply", "group_ica_finish"}

TRAINING = {"classifier_network", "metrics_network_null"}
# With derivatives, with several orders, with permutations of networks.
NOT_ASKED_FOR = {"functional_adopt", "metrics_orders", "metrics_network_null"}


def submissions(output: str) -> list[str]:
    """What a dry run would submit, in its order: the name of the group, or of the rule of a job on its own."""
    return [
        grouped or alone
        for line in output.splitlines()
        for grouped, alone in re.findall(r"^\[.*\] Group job (\w+) |^rule (\w+):", line)
        if alone != "all"
    ]


def asked(output: str) -> dict[str, dict[str, int]]:
    """Numbers among the resources of a job of each rule."""
    found: dict[str, dict[str, int]] = {}
    rule = ""
    for line in output.splitlines():
        if match := re.match(r"\s*rule (\w+):$", line):
            rule = match[1]
        elif match := re.match(r"\s*resources: (.*)", line):
            found[rule] = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)(?=,|$)", match[1])}
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a study of eight, and its config."""
    folder = tmp_path_factory.mktemp("small")
    write_bids_tree(folder / "bids")
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump({"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}, "classifier": {"inner_folds": 2}})
    )
    return folder, config


def test_the_published_study_is_some_hundred_submissions(tmp_path):
    write_bids_tree(tmp_path / "bids", participants=43, responders=25)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"dataset": {"bids_dir": "bids"}}))
    done = run_snakemake(tmp_path, "--dry-run", "--profile", str(PROFILE), config=config)
    found = submissions(done.stdout)
    jobs = int(re.findall(r"^total +(\d+)$", done.stdout, re.MULTILINE)[-1]) - 1
    counts = {name: found.count(name) for name in sorted(set(found))}
    assert counts["participant"] == 43 and counts["cohort"] == 11 and counts["classifier_network"] == 90, counts
    said = re.search(r"is (\d+) submissions and not (\d+)", (PROFILE / "config.yaml").read_text())
    assert (len(found), jobs) == (int(said[1]), int(said[2])), counts
    assert len(found) < 200


def test_a_job_tried_again_asks_for_twice_the_memory_and_time(small):
    folder, config = small
    first, second = (
        asked(run_snakemake(folder, "--dry-run", "--profile", str(PROFILE), "--attempt", attempt, config=config).stdout)
        for attempt in ("1", "2")
    )
    assert set(first) == RULES - NOT_ASKED_FOR - MERGED | {"all"}
    for rule in set(first) - {"all"}:
        assert second[rule]["mem_mb"] == 2 * first[rule]["mem_mb"], rule
        grows = 2 if rule in SETTINGS["set-resources"] else 1
        assert second[rule]["runtime"] == grows * first[rule]["runtime"], rule


def test_only_training_asks_for_a_gpu_and_only_where_the_config_has_one(small):
    folder, config = small
    with_gpu = asked(run_snakemake(folder, "--dry-run", "--profile", str(PROFILE), config=config).stdout)
    assert {rule for rule, resources in with_gpu.items() if "gpu" in resources} == {"classifier_network"}
    assert with_gpu["classifier_network"]["gpu"] == 1
    options = ("--config", "classifier={gpu: 0}")
    without = asked(run_snakemake(folder, "--dry-run", "--profile", str(PROFILE), *options, config=config).stdout)
    assert not [rule for rule, resources in without.items() if "gpu" in resources]


def test_every_rule_the_profile_names_is_there_and_every_step_of_many_jobs_has_its_time():
    named = set(SETTINGS["groups"]) | set(SETTINGS["set-resources"])
    assert named <= RULES
    assert set(SETTINGS["group-components"]) <= set(SETTINGS["groups"].values())
    alone = RULES - set(SETTINGS["groups"])
    assert alone == MERGED | {"quality_group_mask", "group_ica_reduce", "classifier_volumes", *TRAINING}
