"""A small but complete results folder, made by the stages' own functions on made-up series: 14 participants, 2 folds.

Everything from `folds` on is real, but for the network, whose scores are made up. sub-13's scan failed, sub-14 has no
label, one scan of sub-02 was set aside.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fabricated_cohort import PARTICIPANTS, write_dataset, write_scans
from fabricated_components import write_components
from fabricated_models import write_baselines, write_changes, write_linear, write_network

from restresponse.batches import batches_of
from restresponse.files import read_json, write_json
from restresponse.folds import write_folds
from restresponse.plan import Plan


def build(config: dict[str, Any]) -> SimpleNamespace:
    """Write `results/` into the working directory and give what the workflow's rules would be given."""
    plan = Plan.of(config)
    tree = SimpleNamespace(config=config, plan=plan, batches=batches_of(PARTICIPANTS, config["batch"]))
    write_dataset()
    write_scans(tree.batches)
    labels = Path("results/folds/labels")
    write_folds(
        "results/dataset/labels.tsv",
        "results/quality/inclusion.tsv",
        "results/folds/folds.tsv",
        [labels / f"{name}.tsv" for name in plan.cohorts],
        n_folds=2,
        repeats=1,
        seed=1,
        outcome_tables=[f"results/folds/outcomes/{name}.tsv" for name in plan.cohorts],
    )
    write_components(plan, tree.batches)
    for key in plan.classifications:
        (write_linear if plan.models[key[2]]["kind"] == "linear" else write_network)(plan, config, *key)
    write_baselines(plan, config, tree.batches)
    write_changes(plan, config, tree.batches)
    return tree


def edit_sidecar(path: str | Path, **changes: Any) -> None:
    """Overwrite keys of a sidecar, as someone would by hand."""
    write_json(path, {**read_json(path), **changes})
