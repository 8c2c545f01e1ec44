# For all rules: the path of the library, the validated config, the scans of the dataset, the values of the wildcards.
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "lib"))

from restresponse.batches import batches_of
from restresponse.classifier.protocols import check_plan
from restresponse.code import code_of
from restresponse.config import validate
from restresponse.containers import (
    apptainer_arguments,
    check_images,
    forget_the_hosts_programs,
    images,
    kind_of,
    kinds_used,
)
from restresponse.dataset import read_dataset
from restresponse.engines.programs import check_found
from restresponse.errors import InputError
from restresponse.functional.unwarping import files_of, read_field_map
from restresponse.locks import locked
from restresponse.plan import Plan
from restresponse.resources import memory_of_attempt


def scan_row(wildcards):
    """The row of the scan that the wildcards name."""
    if wildcards.scan not in SCANS:
        raise WorkflowError(f"no scan {wildcards.scan}: results/dataset/scans.tsv has the names")
    return SCANS[wildcards.scan]


def of_scan(column):
    """Input function: a column of the scan's row."""
    return lambda wildcards: scan_row(wildcards)[column]


def if_any(*columns):
    """Input function: the values of these columns of the scan's row, without those that hold n/a."""
    return lambda wildcards: [value for value in map(scan_row(wildcards).get, columns) if value != "n/a"]


def t1w_of(wildcards):
    """Input function: the T1w image that the wildcards name."""
    if wildcards.anat not in ANATS:
        raise WorkflowError(f"no T1w image {wildcards.anat}: results/dataset/scans.tsv has the names")
    return ANATS[wildcards.anat]


def scans_of_batch(wildcards):
    """Parameter: the scans of each participant of the batch."""
    return {participant: SCANS_OF[participant] for participant in BATCHES[wildcards.batch]}


def of_batch(path):
    """Input function: a file of each scan of the batch."""
    return lambda wildcards: [path.format(scan=scan) for scan in SCAN_BATCHES[wildcards.batch]]


def anatomicals_of_batch(wildcards):
    """Parameter: the anatomical image of each scan of the batch that has one."""
    found = {scan: SCANS[scan]["anat"] for scan in SCAN_BATCHES[wildcards.batch]}
    return {scan: anat for scan, anat in found.items() if anat != "n/a"}


def field_map_files(wildcards):
    """Input function: the images of the scan's field map, if it has one."""
    return files_of(read_field_map(scan_row(wildcards)["fieldmap"]))


def folds_unless_all(wildcards):
    """Input function: the table of folds, which says whom a fold's cohort leaves out."""
    return [] if wildcards.cohort == "all" else "results/folds/folds.tsv"


def memory(mem_mb):
    """Resource: a number of MiB, or a function of the wildcards; more of it when a job is tried again."""
    return lambda wildcards, attempt: memory_of_attempt(mem_mb(wildcards) if callable(mem_mb) else mem_mb, attempt)


def one_of(values):
    """A wildcard's constraint: one of these values and nothing else.

    Of many values, any name will do: Snakemake reads the constraint through for each file, and the rules' own lookups refuse
    a name that does not exist.
    """
    listed = "|".join(re.escape(str(value)) for value in values) or "(?!)"
    return listed if len(listed) < 4000 else "[^/]+"


def stated(error):
    """An input error as Snakemake shows it: its sentence, no traceback."""
    return WorkflowError(str(error))


if workflow.is_main_process and (note := locked(Path.cwd(), sys.argv)):
    print(note, file=sys.stderr)

try:
    config.update(validate(config, Path.cwd()))
    if workflow.local_exec and not workflow.deployment_settings.deployment_method:
        check_found(config)  # elsewhere, programs are those of the container or of the other machine
    DATASET = read_dataset(config["dataset"]["bids_dir"], config["dataset"], config["functional"]["unwarp"])
    PLAN = Plan.of(config)
    check_plan(PLAN, config)
    CONTAINERS = images(config["containers"], workflow.basedir)
    if DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method:
        check_images(CONTAINERS, kinds_used(config))
        forget_the_hosts_programs()
        # what the user would have to type: the dataset bound read-only, wherever it is; a job on a cluster has it already
        bound = apptainer_arguments(config, DATASET)
        if bound not in workflow.deployment_settings.apptainer_args:
            workflow.deployment_settings.apptainer_args += f" {bound}"
except InputError as error:
    raise stated(error) from None

SCANS = {row["scan"]: row for row in DATASET.scans}
ADOPTED = [scan for scan, row in SCANS.items() if row["space"] != "n/a"]
PREPROCESSED_HERE = [scan for scan in SCANS if scan not in set(ADOPTED)]
SET_ASIDE = [(row["scan"], row["participant_id"]) for row in DATASET.set_aside]
ANATS = DATASET.anatomicals
SCANS_OF = {
    participant: [scan for scan, row in SCANS.items() if row["participant_id"] == participant]
    for participant in sorted({row["participant_id"] for row in SCANS.values()})
}
PARTICIPANTS = list(SCANS_OF)
FOLDS, COHORTS, ORDERS = PLAN.folds, PLAN.cohorts, PLAN.orders
LEAST_DOF = max(ORDERS) + 10  # residual degrees of freedom, where quality.minimum_dof names none
NETWORKS, LINEARS = PLAN.models_of_kind("network"), PLAN.models_of_kind("linear")
CLASSIFICATIONS = PLAN.classifications
BATCHES = batches_of(PARTICIPANTS, config["batch"])
SCAN_BATCHES = {batch: [scan for name in members for scan in SCANS_OF[name]] for batch, members in BATCHES.items()}


wildcard_constraints:
    scan=one_of(SCANS),
    anat=one_of(ANATS),
    fold=one_of(FOLDS),
    cohort=one_of(COHORTS),
    labels=one_of(COHORTS),
    order=one_of(ORDERS),
    set=one_of(PLAN.sets),
    protocol=one_of(PLAN.protocols),
    arm=one_of(PLAN.arms),
    model=one_of(PLAN.models),
    p=one_of(PLAN.thresholds),
    batch=one_of(BATCHES),
    batch_a=one_of(BATCHES),
    batch_b=one_of(BATCHES),


def all_targets():
    """Every fold's outputs, models too: what nothing asks for is not made again when it is lost."""
    folds = [f"results/classifier/{protocol}/{arm}/{model}/{fold}/" for protocol, arm, model, fold in CLASSIFICATIONS]
    kinds = [PLAN.models[model]["kind"] for _, _, model, _ in CLASSIFICATIONS]
    files = {
        "network": ("predictions.tsv", "history.tsv", "model.keras", "model.json"),
        "linear": ("predictions.tsv", "model.npz", "model.json"),
    }
    models = [folder + name for folder, kind in zip(folds, kinds) for name in files[kind]]
    pages = [f"results/quality/pages/{batch}" for batch in BATCHES]
    return [
        *models,
        *pages,
        "results/quality/index.html",
        "results/derivatives",
        "results/metrics/audit.tsv",
        "results/metrics/certificate.json",
        "results/report/index.html",
    ]
