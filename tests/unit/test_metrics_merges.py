"""The audit of a group PCA made by merges and passes: whole it passes; whoever joined a step, and what was swapped, is named."""

from pathlib import Path

import numpy as np
import pytest
from fabricated_cohort import ORDER
from fabricated_results import edit_sidecar
from merged_cohort import FOLDS, merged, run_passes

from restresponse.files import read_array, read_json, read_table, write_array, write_table
from restresponse.group_ica.layout import Layout
from restresponse.metrics.evidence import Evidence
from restresponse.metrics.walk import entries, ways_back
from restresponse.provenance import write_sidecar

COHORT = "rep-1_fold-01"
FOLDER = f"results/group_ica/{COHORT}"
COMPONENTS = f"{FOLDER}/order-{ORDER}/components.json"
SETTINGS = {"exact_limit": 5, "passes": 5}


@pytest.fixture
def layout(tree):
    """A results folder whose first fold's group PCA was merged."""
    found = Layout.of(tree.batches, SETTINGS)
    fit(found)
    return found


def fit(layout):
    run_passes(layout, COHORT)
    pca = merged(layout, ORDER, COHORT)
    write_sidecar(
        COMPONENTS,
        fitted_on=pca.fitted_on,
        sources=pca.sources,
        cohort=COHORT,
        eigenvalues=pca.eigenvalues,
        **pca.facts,
    )


def problem(layout):
    return Evidence("results", layout.batches, SETTINGS).eigenvalue_problem(COHORT, ORDER)


def test_a_whole_merged_pca_has_no_problem_though_its_temporary_files_are_gone(layout):
    parts = [path for number in range(1, SETTINGS["passes"] + 1) for path in layout.part_files(COHORT, number)]
    for path in [*parts, *layout.top_files(COHORT)]:
        Path(path).unlink()
        Path(path).with_suffix(".json").unlink()
    assert problem(layout) is None


def test_a_test_participant_in_one_part_of_one_pass_is_found_though_the_components_do_not_admit_it(layout):
    folds = read_table(FOLDS)
    tested = sorted(folds.loc[folds["fold"] == COHORT, "participant_id"])
    honest = read_json(COMPONENTS)
    write_table("honest.tsv", folds)
    write_table(FOLDS, folds[~((folds["fold"] == COHORT) & (folds["participant_id"] == tested[0]))])
    fit(layout)
    Path("honest.tsv").replace(FOLDS)
    edit_sidecar(COMPONENTS, fitted_on=honest["fitted_on"])
    part = next(part for part in layout.parts if tested[0] in layout.participants_of(part))
    assert f"merged/{part}.json and the components were not fitted on the same participants ({tested[0]})" in problem(
        layout
    )


def test_the_walk_goes_through_temporary_steps_and_finds_whom_a_part_read(layout):
    folds = read_table(FOLDS)
    tested = frozenset(folds.loc[folds["fold"] == COHORT, "participant_id"])
    parts = [path for number in range(1, SETTINGS["passes"] + 1) for path in layout.part_files(COHORT, number)]
    for path in [*parts, *layout.top_files(COHORT)]:
        Path(path).unlink()
        Path(path).with_suffix(".json").unlink()
    evidence = Evidence("results", layout.batches, SETTINGS)
    ways = ways_back(evidence, Path(COMPONENTS))
    assert Path(f"{FOLDER}/pass-0/next.json") in ways
    assert not list(entries(evidence, ways, tested))
    # One test participant's reduction among what a part of a pass read, which none of the lists admit.
    kept, part, name = f"{FOLDER}/pass-2/next.json", f"{FOLDER}/pass-2/part-01.json", min(tested)
    records = read_json(kept)["records"]
    records[part]["sources"][f"results/group_ica/participants/batch-01/{name}_reduced.npy"] = "0" * 64
    edit_sidecar(kept, records=records)
    evidence = Evidence("results", layout.batches, SETTINGS)
    found = list(entries(evidence, ways_back(evidence, Path(COMPONENTS)), tested))
    assert [(entry.artefact, entry.participants) for entry in found] == [(Path(kept), {name})]


def test_an_array_taken_from_elsewhere_is_found_by_its_digest(layout):
    start = f"{FOLDER}/pass-0/next.npy"
    write_array(start, np.asarray(read_array(start))[::-1])
    kept, part = f"{FOLDER}/pass-1/next.json", f"{FOLDER}/pass-1/part-01.json"
    records = read_json(kept)["records"]
    records[part]["sources"][start] = "0" * 64
    edit_sidecar(kept, records=records)
    assert problem(layout) == f"{part}: {start} was another file when it was read"


def test_reduced_maps_made_anew_since_are_found(layout):
    name = read_json(COMPONENTS)["fitted_on"][0]
    path = layout.reduced_of("part-01")[name]
    write_array(path, 2 * np.asarray(read_array(path)))
    assert f"{path} was another file when it was read" in problem(layout)


@pytest.mark.parametrize("name", ["pass-0/next", "pass-3/next", "pass-5/next"])
def test_a_missing_sidecar_is_found(layout, name):
    Path(f"{FOLDER}/{name}.json").unlink()
    assert f"{FOLDER}/{name}.json: the sidecar is missing" in problem(layout)


@pytest.mark.parametrize(("name", "step"), [("pass-0/next", "merged/part-02"), ("pass-3/next", "pass-3/part-01")])
def test_a_missing_record_of_a_temporary_step_is_found(layout, name, step):
    records = read_json(f"{FOLDER}/{name}.json")["records"]
    del records[f"{FOLDER}/{step}.json"]
    edit_sidecar(f"{FOLDER}/{name}.json", records=records)
    assert f"{FOLDER}/{step}.json is on no record" in problem(layout)


def test_a_certificate_that_does_not_hold_is_found(layout):
    edit_sidecar(COMPONENTS, certificate=read_json(COMPONENTS)["certificate"] | {"subspace": 1e-3})
    assert problem(layout) == "the certificate says 0.001 of the subspace; expected at most 1e-06"


def test_components_made_from_inner_products_where_passes_are_due_are_found(layout):
    edit_sidecar(COMPONENTS, sources={}, certificate=None)
    found = problem(layout)
    assert f"{COMPONENTS} does not name {FOLDER}/pass-0/next.npy" in found
    assert "the certificate says None" in found
