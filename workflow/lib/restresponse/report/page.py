"""The report page: everything it shows is read from the run's tables, records and sidecars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.ladder import leak_of
from restresponse.files import digest_of, read_array, read_json, read_table, write_text
from restresponse.group_ica.layout import orders_of
from restresponse.identifiers import Identifiers
from restresponse.metrics.certificate import quoted
from restresponse.metrics.collect import BASELINE
from restresponse.metrics.verdicts import CLEAN, DECLARED, VIOLATION
from restresponse.plan import Plan
from restresponse.provenance import versions
from restresponse.report import figures, measured, trust, trust_figures
from restresponse.report.explanation import explanation_cases
from restresponse.report.group_motion import motion_rows, motion_sentences, motion_warning
from restresponse.report.ladder import ladder_sentences, rungs_of
from restresponse.report.methods_text import analysis_methods, preprocessing_methods
from restresponse.report.numbers import number, p_value
from restresponse.report.published import differences_from_paper, paper_rows
from restresponse.report.scores import METRICS, headline_rows, metric_rows, order_rows
from restresponse.report.summary import span, verdict
from restresponse.report.tuning import tuning_rows

if TYPE_CHECKING:
    import pandas

_TEXT = ("protocol", "arm", "model", "fold", "participant_id", "scan", "reason", "metric", "scope", "network", "level")


@dataclass(frozen=True)
class Run:
    """What the workflow knows of a run: its names, as the rules have them, and its results folder."""

    results: Path
    config: Mapping[str, Any]
    scan_batches: Mapping[str, Sequence[str]]
    anatomicals: Sequence[str]
    batches: Mapping[str, Sequence[str]]
    classifications: Sequence[tuple[str, str, str, str]]
    order: int
    minimum_dof: int

    @property
    def scans(self) -> list[str]:
        """Every scan that was read."""
        return [scan for scans in self.scan_batches.values() for scan in scans]

    def table(self, path: str) -> pandas.DataFrame:
        """A table of the results folder."""
        return read_table(self.results / path, text_columns=_TEXT)

    def identifiers(self) -> Identifiers:
        """What the page may tell of single people."""
        tables = (self.table(f"{name}.tsv") for name in ("dataset/participants", "quality/inclusion"))
        names = {name for table in tables for name in table["participant_id"]}
        folders = [self.config["dataset"][key] for key in ("bids_dir", "derivatives")]
        return Identifiers(self.config["report"]["identifiers"], names, folders)

    def models(self) -> dict[tuple[str, str, str, str], dict[str, Any]]:
        """Sidecar of each classification's model."""
        return {key: read_json(self.results / "classifier" / Path(*key) / "model.json") for key in self.classifications}


def write_page(run: Run, page: str | Path) -> None:
    """Render the page of a run: one file, nothing loaded from elsewhere, every value escaped."""
    import jinja2

    loader = jinja2.PackageLoader("restresponse.report", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "p": p_value}
    text = environment.get_template("page.html.j2").render(content(run))
    run.identifiers().check(text)
    write_text(page, text)


def content(run: Run) -> dict[str, Any]:
    """Everything the template shows, by section; without names of people unless the config allows them."""
    import yaml

    identifiers = run.identifiers()

    everything, optimism = run.table("metrics/metrics.tsv"), run.table("metrics/optimism.tsv")
    predictions, audit = run.table("metrics/predictions.tsv"), run.table("metrics/audit.tsv")
    metrics = everything[everything["arm"] != BASELINE]
    predictions = predictions[predictions["arm"] != BASELINE]
    comparisons, permutations = run.table("metrics/comparisons.tsv"), run.table("metrics/permutations.tsv")
    models = run.models()
    protocols = Plan.of(run.config).protocols
    named = [name for name in protocols if leak_of(name) is None]  # the rungs have a figure of their own
    confidence = run.config["metrics"]["confidence"]
    ladders = rungs_of(optimism)
    timing = run.table("metrics/timing.tsv")
    shown = {
        "identifiers": identifiers.shown,
        "title": run.config["report"]["title"],
        "summary": verdict(metrics, optimism, audit, predictions, confidence, comparisons, permutations)
        + [f"Each leak alone, {sentence}" for sentence in ladder_sentences(optimism, confidence)[:1]]
        + motion_warning(run.table("metrics/motion.tsv"), confidence),
        "headline": headline_rows(metrics, optimism, named),
        "confidence": f"{confidence:.0%}",
        "cohort": cohort(run, predictions, identifiers),
        "quality": quality(run),
        "folds": folds(run, predictions),
        "components": components(run),
        "orders": order_rows(run.table("metrics/orders.tsv")) if len(orders_of(run.config["group_ica"])) > 1 else [],
        "protocols": [{"name": name, **row} for name, row in protocols.items()],
        "training": training_rows(models),
        "tuning": tuning_rows(models),
        "left_out": left_out_rows(models, identifiers),
        "metrics": metric_rows(metrics, trust.null_cells(permutations)),
        "baselines": trust.baseline_rows(everything),
        "comparisons": trust.comparison_rows(comparisons),
        "null_figure": trust_figures.null_figure(run.table("metrics/null.tsv"), permutations),
        "permuted": trust.settings_of(run.config),
        "calibration": trust.calibration_rows(run.table("metrics/calibration.tsv"), run.table("metrics/variance.tsv")),
        "calibration_figure": trust_figures.calibration_figure(
            run.table("metrics/reliability.tsv"), run.table("metrics/decision_curve.tsv")
        ),
        "measured": measured.shown(run.table, run.config["metrics"]["continuous"], confidence),
        "explanations": explanation_cases(run.results, run.config),
        "power": trust.power_sentences(run.table("metrics/power.tsv"), confidence),
        "metric_names": [name.replace("_", " ") for name in METRICS],
        "roc": figures.roc_figure(predictions[predictions["protocol"].isin(named)], metrics),
        "optimism_figure": figures.optimism_figure(metrics, optimism, named),
        "ladder_figure": figures.ladder_figure(ladders) if ladders else None,
        "ladder": ladder_sentences(optimism, confidence),
        "optimism": optimism_rows(optimism),
        "paper": paper_rows(metrics, timing, run.config),
        "differences": differences_from_paper(run.config),
        "audit": audit_rows(audit),
        "certificate": quoted(read_json(run.results / "metrics/certificate.json"))
        | {"sha256": digest_of(run.results / "metrics/certificate.json")},
        "methods": preprocessing_methods(
            [run.results / f"anatomical/{anat}/{anat}.json" for anat in run.anatomicals],
            [run.results / f"functional/{scan}/{scan}.json" for scan in run.scans],
            [
                run.results / f"functional/denoised/{batch}/{scan}_desc-denoised.json"
                for batch, scans in run.scan_batches.items()
                for scan in scans
            ],
        )
        + analysis_methods(
            read_json(run.results / f"group_ica/all/order-{run.order}/components.json"),
            [
                read_json(run.results / f"group_ica/participants/{batch}/{name}_reduced.json")
                for batch, members in run.batches.items()
                for name in members
            ],
            read_json(run.results / f"components/all/order-{run.order}/labels-all/components.json"),
            models,
            run.config,
            len(set(run.table("metrics/change_predictions.tsv")["participant_id"])),
        ),
        "timing": timing.replace({np.nan: None}).to_dict("records"),
        "versions": versions(),
        "seed": run.config["seed"],
        "config": yaml.safe_dump(_plain(identifiers.settings(run.config)), sort_keys=False, allow_unicode=True),
    }
    return identifiers.without(shown)


def cohort(run: Run, predictions: pandas.DataFrame, identifiers: Identifiers) -> dict[str, Any]:
    """The flow of participants, every scan with its fate, and the table of characteristics."""
    people = run.table("dataset/participants.tsv")
    inclusion = run.table("quality/inclusion.tsv")
    used = inclusion["included"].astype(str).str.lower() == "true"
    with_scan, with_used = set(inclusion["participant_id"]), set(inclusion.loc[used, "participant_id"])
    matching = set(people.loc[people["included"].astype(str).str.lower() == "true", "participant_id"])
    tested = set(run.table("folds/folds.tsv")["participant_id"])
    everyone = set(people["participant_id"])
    flow = [
        ("participants in participants.tsv", everyone, []),
        ("who match dataset.include", matching, sorted(everyone - matching)),
        ("with a resting-state scan", matching & with_scan, sorted(matching - with_scan)),
        ("with a scan of sufficient quality", matching & with_used, sorted((matching & with_scan) - with_used)),
        ("with an outcome, classified", tested, sorted((matching & with_used) - tested)),
    ]
    measures = scan_measures(run)
    names = identifiers.names(
        {scan: measures.get(scan, {}).get("mean_framewise_displacement") for scan in inclusion["scan"]}
    )
    pages = files_of([f"../quality/pages/{batch}" for batch in run.scan_batches], run.scan_batches, ".html")
    rows = []
    for row, kept in zip(inclusion.itertuples(), used, strict=True):
        note = row.reason if isinstance(row.reason, str) else None
        if kept and row.participant_id not in tested:
            note = "used for group ICA alone: no outcome"
        rows.append(
            {
                **measures.get(row.scan, {}),
                "scan": names[row.scan],
                "used": bool(kept),
                "page": pages.get(row.scan) if identifiers.shown else None,
                "reason": note,
            }
        )
    places = {name: place for place, name in enumerate(names.values())}
    return {
        "flow": [
            {"step": step, "n": len(group), "lost": lost if identifiers.shown else [f"{len(lost)}"] * bool(lost)}
            for step, group, lost in flow
        ],
        "scans": sorted(rows, key=lambda row: places[row["scan"]]),
        "n_used": int(used.sum()),
        "table": identifiers.levels(
            run.table("metrics/cohort_table.tsv").replace({np.nan: None}).to_dict("records"), len(tested)
        ),
    }


def scan_measures(run: Run) -> dict[str, dict[str, Any]]:
    """Scan -> its quality measures."""
    folders = [run.results / f"quality/scans/{batch}" for batch in run.scan_batches]
    return {scan: read_json(path) for scan, path in files_of(folders, run.scan_batches, ".json").items()}


def quality(run: Run) -> dict[str, Any]:
    """The figure of all scans against the limits, and how motion compares between the groups."""
    import pandas as pd

    inclusion = run.table("quality/inclusion.tsv").set_index("scan")["included"].astype(str).str.lower() == "true"
    measured = scan_measures(run)
    settings = run.config["quality"]
    limits = {
        "mean_framewise_displacement": settings["maximum_mean_displacement"],
        "coverage": settings["minimum_coverage"],
        "overlap": settings["minimum_overlap"],
        "dof_residual": run.minimum_dof if settings["minimum_dof"] is None else settings["minimum_dof"],
    }
    table = pd.DataFrame(
        [
            {"scan": scan, "included": inclusion[scan], **{name: found.get(name) for name in limits}}
            for scan, found in measured.items()
        ]
    )
    counts = {"n_noted": sum(bool(found.get("notes")) for found in measured.values()), "n_measured": len(measured)}
    return {"figure": figures.quality_figure(table, limits), "limits": limits, "motion": motion(run), **counts}


def motion(run: Run) -> dict[str, Any]:
    """The comparison of motion between responders and non-responders: sentences and rows of the table."""
    table = run.table("metrics/motion.tsv")
    return {
        "sentences": motion_sentences(table, run.config["metrics"]["confidence"]),
        "rows": motion_rows(table),
        "confidence": f"{run.config['metrics']['confidence']:.0%} interval",
    }


def folds(run: Run, predictions: pandas.DataFrame) -> list[dict[str, Any]]:
    """Each fold's test participants, counted by response."""
    truth = predictions.drop_duplicates("participant_id").set_index("participant_id")["response"]
    rows = []
    for fold, members in run.table("folds/folds.tsv").groupby("fold", sort=True)["participant_id"]:
        known = truth.reindex(members)
        rows.append({"fold": fold, "responders": int((known == 1).sum()), "nonresponders": int((known == 0).sum())})
    return rows


def components(run: Run) -> dict[str, Any]:
    """The group maps of everyone, their networks, the group test and how they hold over folds."""
    from restresponse.grid import template_image
    from restresponse.images import read_mask

    folder = f"components/all/order-{run.order}/labels-all/components"
    table = run.table(f"{folder}.tsv")
    mask, affine = read_mask(run.results / "quality/group_mask.nii.gz")
    maps = read_array(run.results / f"group_ica/all/order-{run.order}/components.npy")
    titles = [
        f"{row.component} · {row.network if isinstance(row.network, str) else 'no network'}"
        for row in table.itertuples()
    ]
    stability = run.table("metrics/component_stability.tsv").drop(columns="network")
    iq = run.table(f"group_ica/all/order-{run.order}/components.tsv")[["component", "stability", "explained_variance"]]
    joined = table.merge(stability, on="component").merge(iq, on="component")
    facts, curve, plan = (
        read_json(run.results / f"{folder}.json"),
        run.table("metrics/selection.tsv"),
        Plan.of(run.config),
    )
    chosen = [name for name in table if name.startswith("selected_p-")]
    passing = [name for name in chosen if not facts["fallback"].get(name.removeprefix("selected_p-"))]
    for name in chosen:
        joined[name] = joined[name].astype(str).str.lower() == "true"
    template = template_image("T1w", float(affine[0, 0]))
    return {
        "figure": figures.component_figure(np.asarray(maps, np.float64), mask, affine, template, titles),
        "page": f"components_order-{run.order}.html",
        "curve": trust_figures.curve_figure(curve[curve["arm"].map(plan.order_of) == run.order]),
        "rows": [
            row | {"selected_from": next((name.removeprefix("selected_p-") for name in passing if row[name]), None)}
            for row in joined.replace({np.nan: None}).to_dict("records")
        ],
        "chance": facts.get("expected_by_chance") or {},
        "n_fitted": len(read_json(run.results / f"group_ica/all/order-{run.order}/components.json")["fitted_on"]),
        "n_tested": len(facts["labels_of"]),
    }


def optimism_rows(optimism: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table; one that must be 0 and is not is marked as a fault."""
    rows = optimism.astype(object).where(optimism.notna(), None).to_dict("records")
    for row in rows:
        difference = row["difference"]
        row["fault"] = bool(row["by_construction"]) and difference is not None and abs(difference) > 1e-9
    return rows


def audit_rows(audit: pandas.DataFrame) -> list[dict[str, Any]]:
    """Verdicts counted by protocol and check, and who was seen."""
    rows = []
    for (protocol, check), part in audit.groupby(["protocol", "check"], sort=False):
        counts = part["verdict"].value_counts()
        artefacts = sorted({Path(path).parts[1] for path in part.loc[part["verdict"] == DECLARED, "artefact"]})
        rows.append(
            {
                "protocol": protocol,
                "check": check,
                "clean": int(counts.get(CLEAN, 0)),
                "declared": int(counts.get(DECLARED, 0)),
                "violations": int(counts.get(VIOLATION, 0)),
                "stages": artefacts,
            }
        )
    return rows


def training_rows(models: Mapping[tuple[str, str, str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a (protocol, arm, model): its size and what was chosen in its folds."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for key, facts in models.items():
        groups.setdefault(key[:3], []).append(facts)
    rows = []
    for (protocol, arm, model), folds_facts in groups.items():
        chosen = [facts.get("chosen") or {} for facts in folds_facts]
        losses = [(facts.get("training_loss_first"), facts.get("training_loss_last")) for facts in folds_facts]
        channels = sorted({facts["n_channels"] for facts in folds_facts if facts.get("n_channels") is not None})
        rows.append(
            {
                "protocol": protocol,
                "arm": arm,
                "model": model,
                "parameters": max(
                    (facts["n_parameters"] for facts in folds_facts if facts.get("n_parameters")), default=None
                ),
                "channels": ", ".join(map(str, channels)) or None,
                "epochs": ", ".join(str(row["epoch"]) for row in chosen if row.get("epoch") is not None) or None,
                "penalties": ", ".join(f"{row['penalty']:g}" for row in chosen if row.get("penalty") is not None)
                or None,
                "loss_fell": f"{sum(last < first for first, last in losses)} of {len(losses)}"
                if all(value is not None for pair in losses for value in pair)
                else None,
            }
        )
    return rows


def left_out_rows(
    models: Mapping[tuple[str, str, str, str], Mapping[str, Any]], identifiers: Identifiers
) -> list[dict[str, str]]:
    """Participants whom an arm had to leave out, and why; counted by reason where they are not named."""
    found = {
        (key[1], entry["participant_id"], entry["reason"]): None
        for key, facts in models.items()
        for entry in facts.get("left_out") or []
        if isinstance(entry, dict)
    }
    if identifiers.shown:
        return [dict(zip(("arm", "participant", "reason"), row, strict=True)) for row in sorted(found)]
    counts = Counter((arm, identifiers.without(reason)) for arm, _, reason in found)
    return [
        {"arm": arm, "participant": f"{count} participant{'s' if count > 1 else ''}", "reason": reason}
        for (arm, reason), count in sorted(counts.items())
    ]


def _plain(value: Any) -> Any:
    """Plain dicts and lists, as YAML writes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


__all__ = ["Run", "content", "number", "p_value", "span", "write_page"]
