"""The plan of the jobs, read from dry runs: who may read labels, what a fold's fit may read, what is refused."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
import yaml

from running import jobs_of, run_snakemake, write_bids_tree

FOLD = re.compile(r"rep-\d+_fold-\d+")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The jobs of a study of eight people, two folds, every protocol, arm and model."""
    folder = tmp_path_factory.mktemp("plan")
    write_bids_tree(folder / "bids")
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "dataset": {"bids_dir": "bids"},
                "folds": {"n_folds": 2},
                "functional": {"voxel_size": 4},
                "classifier": {"inner_folds": 2},
                "metrics": {"ladder": True, "network_permutations": 6},
            }
        )
    )
    return jobs_of(run_snakemake(folder, "--dry-run", "--forceall", config=config).stdout)


def test_every_stage_has_jobs(plan):
    stages = {"dataset", "anatomical", "functional", "quality", "folds", "group_ica", "dual_regression", "components"}
    found = {job["rule"] for job in plan}
    for stage in stages | {"classifier", "metrics", "report"}:
        assert any(rule.startswith(f"{stage}_") for rule in found), stage


def test_only_folds_and_metrics_read_the_labels(plan):
    readers = {job["rule"] for job in plan if "results/dataset/labels.tsv" in job["input"]}
    assert readers
    assert all(rule.split("_")[0] in {"folds", "metrics"} for rule in readers)


def test_only_components_classifier_and_metrics_read_label_tables(plan):
    readers = {job["rule"] for job in plan if any(path.startswith("results/folds/labels/") for path in job["input"])}
    assert readers
    assert all(rule.split("_")[0] in {"components", "classifier", "metrics"} for rule in readers)


def test_a_clean_fold_reads_its_own_label_table_and_artefacts_of_its_own_cohort_alone(plan):
    clean = [job for job in plan if any("results/classifier/clean/" in path for path in job["output"])]
    assert clean
    for job in clean:
        fold = FOLD.search(job["output"][0])[0]
        for path in job["input"]:
            if path.startswith(("results/folds/labels/", "results/group_ica/", "results/dual_regression/")):
                assert fold in path, f"{job['output'][0]} reads {path}"
            if path.startswith(("results/components/", "results/classifier/kernels/")):
                assert set(FOLD.findall(path)) == {fold}, f"{job['output'][0]} reads {path}"
            assert not path.startswith("results/dataset/"), f"{job['output'][0]} reads {path}"


def test_a_folds_baselines_read_its_own_labels_and_cohort_and_no_table_of_the_outcome(plan):
    jobs = [job for job in plan if job["rule"] == "classifier_baselines"]
    assert len(jobs) == 2
    for job in jobs:
        fold = FOLD.search(job["output"][0])[0]
        for path in job["input"]:
            assert set(FOLD.findall(path)) <= {fold}
            assert path not in {"results/dataset/participants.tsv", "results/dataset/labels.tsv"}
            assert not path.startswith("results/folds/labels/all")


def test_the_outcome_itself_reaches_each_folds_own_job_and_the_metrics_alone(plan):
    readers = [job for job in plan if any(path.startswith("results/folds/outcomes/") for path in job["input"])]
    assert {job["rule"] for job in readers} == {"classifier_measured", "metrics_measured", "metrics_audit"}
    for job in readers:
        if job["rule"] == "classifier_measured":
            fold = FOLD.search(job["output"][0])[0]
            assert f"results/folds/outcomes/{fold}.tsv" in job["input"]
            assert all(set(FOLD.findall(path)) <= {fold} and "/all" not in path for path in job["input"])
            assert not [path for path in job["input"] if path.startswith("results/dataset/")]
    assert sum(job["rule"] == "classifier_measured" for job in readers) == 2


def test_the_null_is_made_again_for_every_linear_model_of_every_protocol(plan):
    jobs = {tuple(job["output"][0].split("/")[3:6]) for job in plan if job["rule"] == "metrics_null"}
    assert {("clean", "asc", "linear"), ("clean", "ssc", "linear"), ("paper", "asc", "linear")} <= jobs
    (joined,) = [job for job in plan if job["rule"] == "metrics_permutations"]
    assert sum("/null/" in path and "/linear/" in path for path in joined["input"]) == len(jobs)


def test_the_null_of_networks_is_a_job_for_each_fold_and_five_permutations_and_reads_what_the_folds_job_does(plan):
    jobs = [job for job in plan if job["rule"] == "metrics_network_null"]
    own = {job["output"][0]: set(job["input"]) for job in plan if job["rule"] == "classifier_network"}
    assert len(jobs) == 2 * len(own)
    (joined,) = [job for job in plan if job["rule"] == "metrics_permutations"]
    assert {job["output"][0] for job in jobs} <= set(joined["input"])
    for job in jobs:
        protocol, arm, model, fold = job["output"][0].split("/")[3:7]
        read = own[f"results/classifier/{protocol}/{arm}/{model}/{fold}/predictions.tsv"]
        cohort = "all" if "dual_regression/all/" in " ".join(read) else fold
        more = set(job["input"]) - read - {"results/folds/labels/all.tsv"}
        assert all(f"/{cohort}/order-" in path for path in more), more


def test_the_papers_protocol_reads_the_ica_of_everyone(plan):
    paper = [job for job in plan if any(path.startswith("results/classifier/paper/asc/") for path in job["output"])]
    assert paper
    assert all(any("dual_regression/all/" in path or "kernels/all/" in path for path in job["input"]) for job in paper)


@pytest.mark.parametrize(
    ("leak", "further"),
    [
        ("group_ica", r"/all/order-"),
        ("selection", r"labels-all"),
        ("hyperparameters", r"folds/labels/all\.tsv|rep-1_fold-"),
        ("epoch", r"folds/labels/all\.tsv"),
    ],
)
def test_a_rung_of_the_ladder_reads_what_the_clean_fold_reads_and_what_its_one_leak_lets_in(plan, leak, further):
    jobs = {job["output"][0]: job for job in plan if job["rule"] in ("classifier_network", "classifier_linear")}
    rungs = {path: job for path, job in jobs.items() if f"/clean_but_{leak}/" in path}
    assert rungs
    for path, job in rungs.items():
        clean = set(jobs[path.replace(f"clean_but_{leak}", "clean")]["input"])
        more = set(job["input"]) - clean
        assert more and all(re.search(further, name) for name in more), more
        assert f"results/folds/labels/{FOLD.search(path)[0]}.tsv" in job["input"]  # trained on the same participants


def test_a_rung_is_run_where_its_leak_can_act_and_nowhere_else(plan):
    outputs = [path for job in plan for path in job["output"] if path.endswith("model.json")]
    found = {tuple(path.split("/")[2:5]) for path in outputs if "/clean_but_" in path}
    assert found == {
        *(("clean_but_group_ica", arm, model) for arm in ("asc", "ssc") for model in ("voxnet", "linear")),
        *(("clean_but_selection", "ssc", model) for model in ("voxnet", "linear")),
        *(("clean_but_hyperparameters", arm, "linear") for arm in ("asc", "ssc")),
        *(("clean_but_epoch", arm, "voxnet") for arm in ("asc", "ssc", "rsp")),
    }


def test_at_a_further_order_linear_models_read_its_components_and_no_network_is_trained(tmp_path):
    write_bids_tree(tmp_path / "bids")
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "batch": 8,
                "dataset": {"bids_dir": "bids"},
                "folds": {"n_folds": 2},
                "group_ica": {"n_components": [30, 10]},
                "classifier": {"inner_folds": 2, "protocols": {"paper": None, "paper_nested": None}},
                "metrics": {"permutations": 0},
            }
        )
    )
    jobs = jobs_of(run_snakemake(tmp_path, "--dry-run", "--forceall", config=tmp_path / "config.yaml").stdout)
    further = [job for job in jobs if "_order-10/" in " ".join(job["output"])]
    assert {job["rule"] for job in further} == {"classifier_linear"}
    for job in further:
        orders = {part for path in job["input"] for part in path.split("/") if part.startswith("order-")}
        assert orders == {"order-10"}
    [compared] = [job for job in jobs if job["rule"] == "metrics_orders"]
    assert {path for path in compared["input"] if path.endswith("components.tsv")} == {
        f"results/group_ica/all/order-{order}/components.tsv" for order in (30, 10)
    }
    [page] = [job for job in jobs if job["rule"] == "report_page"]
    assert "results/metrics/orders.tsv" in page["input"]


def test_a_searched_network_on_volumes_inherits_where_the_protocol_says_so_and_the_ladder_has_that_rung(tmp_path):
    write_bids_tree(tmp_path / "bids")
    config = tmp_path / "config.yaml"
    settings = {
        "dataset": {"bids_dir": "bids"},
        "folds": {"n_folds": 2},
        "functional": {"voxel_size": 4},
        "classifier": {"inner_folds": 2, "models": {"voxnet": {"search": {"trials": 3}}}},
        "metrics": {"ladder": True},
    }
    config.write_text(yaml.safe_dump(settings))
    done = run_snakemake(tmp_path, "--dry-run", "--forceall", config=config)
    jobs = {job["output"][0]: job["input"] for job in jobs_of(done.stdout) if job["rule"] == "classifier_network"}
    sources = {
        tuple(path.split("/")[2:4]): [
            name.split("/")[2:4] for name in inputs if name.endswith("voxnet/rep-1_fold-01/model.json")
        ]
        for path, inputs in jobs.items()
        if "rep-1_fold-01" in path
    }
    inheriting = {key: found[0] for key, found in sources.items() if found}
    assert inheriting == {
        ("paper", "rsp"): ["paper", "asc"],
        ("paper_nested", "rsp"): ["paper_nested", "asc"],
        ("clean_but_inherited", "rsp"): ["clean", "asc"],
    }
    watching = {
        key[0]
        for key in sources
        if "results/folds/labels/all.tsv"
        in jobs[f"results/classifier/{key[0]}/{key[1]}/voxnet/rep-1_fold-01/predictions.tsv"]
    }
    assert watching == {"paper", "clean_but_hyperparameters", "clean_but_epoch"}


def test_no_stage_before_folds_reads_what_only_later_stages_may_know(plan):
    for job in plan:
        if job["rule"].split("_")[0] in {"anatomical", "functional", "quality"}:
            assert not [path for path in job["input"] if "participants.tsv" in path or "labels" in path], job


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": {"bids_dir": "nowhere"}}, r"nowhere"),
        ({"group_ica": {"n_componets": 5}}, r"n_componets.*n_components"),
        ({"functional": {"voxel_size": 8}}, r"voxel_size"),
        ({"anatomical": {"engine": "spm"}}, r"engines.spm.command.*standalone.*embedded"),
        (
            {"functional": {"engine": "spm"}, "engines": {"spm": {"command": "no_such_spm.sh /opt/mcr script"}}},
            r"no_such_spm.sh.*not found.*standalone.*embedded",
        ),
    ],
)
def test_a_config_that_cannot_run_is_refused_before_any_job_in_words(tmp_path, change, message):
    write_bids_tree(tmp_path / "bids")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}} | change))
    done = run_snakemake(tmp_path, "--dry-run", config=config, check=False)
    assert done.returncode != 0
    assert re.search(message, done.stdout, re.DOTALL), done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("stage", ["anatomical", "functional"])
def test_an_engine_whose_programs_are_not_found_is_refused_before_any_job(tmp_path, monkeypatch, stage):
    monkeypatch.setenv("FSLDIR", str(tmp_path / "no_fsl"))
    write_bids_tree(tmp_path / "bids")
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}, stage: {"engine": "fsl"}})
    )
    done = run_snakemake(tmp_path, "--dry-run", config=config, check=False)
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert (
        "the engine fsl needs FSL" in done.stdout
        and "set anatomical.engine and functional.engine to embedded" in done.stdout
    )
    assert "no_fsl" in done.stdout


def test_a_mistyped_target_is_no_rule_at_once(tmp_path):
    write_bids_tree(tmp_path / "bids")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}}))
    target = "results/group_ica/rep-1_fold-03/order-30/components.npy"
    done = run_snakemake(tmp_path, target, "--dry-run", config=config, check=False)
    assert done.returncode != 0
    assert "MissingRuleException" in done.stdout


def test_a_scans_field_map_is_read_by_its_own_job_alone_and_its_absence_stops_who_asks_for_it(tmp_path):
    write_bids_tree(tmp_path / "bids")
    scan = sorted((tmp_path / "bids").glob("sub-*/func/*_bold.nii.gz"))[0]
    folder = scan.parent.parent / "fmap"
    folder.mkdir()
    participant = folder.parent.name
    for suffix in ("phasediff", "magnitude1"):
        nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_filename(folder / f"{participant}_{suffix}.nii.gz")
        sidecar = {"IntendedFor": f"func/{scan.name}", "EchoTime1": 0.005, "EchoTime2": 0.007}
        (folder / f"{participant}_{suffix}.json").write_text(json.dumps(sidecar))
    config = tmp_path / "config.yaml"
    settings = {"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}, "classifier": {"inner_folds": 2}}
    config.write_text(yaml.safe_dump(settings))
    done = run_snakemake(tmp_path, "--dry-run", "--forceall", config=config)
    readers = [job for job in jobs_of(done.stdout) if any("fmap" in path for path in job["input"])]
    assert [job["rule"] for job in readers] == ["functional_preprocess"]
    assert f"bids/{participant}/func/{scan.name}" in readers[0]["input"]
    assert {f"bids/{participant}/fmap/{participant}_{suffix}.nii.gz" for suffix in ("phasediff", "magnitude1")} <= set(
        readers[0]["input"]
    )
    config.write_text(yaml.safe_dump(settings | {"functional": {"unwarp": "fieldmap"}}))
    refused = run_snakemake(tmp_path, "--dry-run", config=config, check=False)
    assert refused.returncode != 0
    assert "functional.unwarp is fieldmap and there is no field map" in refused.stdout


def test_above_the_limit_a_folds_merges_and_passes_read_none_of_another_cohort(tmp_path):
    write_bids_tree(tmp_path / "bids")
    config = tmp_path / "config.yaml"
    ica = {"exact_limit": 3, "passes": 2}
    config.write_text(
        yaml.safe_dump({"dataset": {"bids_dir": "bids"}, "folds": {"n_folds": 2}, "batch": 2, "group_ica": ica})
    )
    target = "results/group_ica/rep-1_fold-01/order-30/components.npy"
    done = run_snakemake(tmp_path, "--dry-run", "--forceall", target, config=config)
    fitted = [job for job in jobs_of(done.stdout) if "results/group_ica/rep-1_fold-01/" in job["output"][0]]
    # Four batches of two, none of which fit into one part: four merges, a start, two passes of four parts and a sum.
    assert len(fitted) == 4 + 1 + 2 * (4 + 1) + 1
    for job in fitted:
        for path in job["input"]:
            own = path.startswith("results/group_ica/rep-1_fold-01/")
            assert (
                own or path.startswith("results/group_ica/participants/") or "/quality/" in path or "/folds.tsv" in path
            )
    assert not [job for job in jobs_of(done.stdout) if job["rule"] == "group_ica_gram"]
