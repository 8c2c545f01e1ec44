"""The workflow with group PCA by merges and passes: the same components as from all inner products, and its audit passes."""

import numpy as np
import pytest
import yaml

from restresponse.files import read_array, read_json
from running import TINY, run_snakemake

pytestmark = pytest.mark.slow
COHORTS = ("all", "rep-1_fold-01", "rep-1_fold-02")


@pytest.fixture
def merged_config(tmp_path):
    """The tiny study's config with a limit of three participants."""
    config = yaml.safe_load(TINY.read_text())
    config["group_ica"] |= {"exact_limit": 3, "merge_dimensions": 64, "passes": 4}
    path = tmp_path / "merged.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_above_the_limit_the_workflow_finds_the_same_components_by_merges_and_passes(study, merged_config):
    files = [f"results/group_ica/{cohort}/order-4/components.npy" for cohort in COHORTS]
    before = [np.array(read_array(study / path)) for path in files]
    facts = [read_json((study / path).with_suffix(".json")) for path in files]
    run_snakemake(study, "results/metrics/audit.tsv", config=merged_config)
    for path, components, fact in zip(files, before, facts, strict=True):
        found = read_json((study / path).with_suffix(".json"))
        assert (fact["group_pca"], found["group_pca"]) == ("exact", "merged")
        assert found["eigenvalues"] == pytest.approx(fact["eigenvalues"], rel=1e-6)
        assert found["fitted_on"] == fact["fitted_on"]
        assert max(found["certificate"]["subspace"], found["certificate"]["eigenvalues"]) <= 1e-6
        cosines = (components * read_array(study / path)).mean(axis=1)
        assert cosines == pytest.approx(np.ones(4), abs=1e-4)
    assert not list((study / "results/group_ica").glob("*/merged/*.npy"))  # temporary
    again = run_snakemake(study, "results/metrics/audit.tsv", "--dry-run", config=merged_config)
    assert "Nothing to be done" in again.stdout
