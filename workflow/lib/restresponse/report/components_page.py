"""The page of one cohort's components: each on slices, its spectrum, stability, network and amplitude by group, on one row.

Descriptive: it shows the components of everyone and the labels of everyone. No classifier of the clean protocol reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.batches import files_of
from restresponse.components.templates import network_templates
from restresponse.dual_regression import read_time_courses
from restresponse.files import read_array, read_json, read_table, write_text
from restresponse.identifiers import Identifiers
from restresponse.images import read_mask
from restresponse.report import component_pictures as pictures
from restresponse.report.numbers import number, p_value

if TYPE_CHECKING:
    import pandas

STABLE = 0.8  # ICASSO index, and mean |r| over folds, from which a component is called stable
LEVEL = 0.05
_TEXT = (
    "network", "best_three", "direction", "time_course_direction", "least_fold", "protocol", "arm", "model", "scan",
    "participant_id",
)  # fmt: skip


@dataclass(frozen=True)
class ComponentsRun:
    """What the page is made from: the results folder, the order, the config, and the names of batches.

    Attributes
    ----------
    arms : of this order, whose rows of the curve are shown
    stable : whether the table of stability over folds is of this order
    """

    results: Path
    order: int
    config: Mapping[str, Any]
    batches: Mapping[str, Sequence[str]]
    scan_batches: Mapping[str, Sequence[str]]
    arms: Sequence[str]
    stable: bool = True

    @property
    def cohort(self) -> Path:
        """Folder of the components of everyone."""
        return self.results / f"group_ica/all/order-{self.order}"

    @property
    def selected(self) -> Path:
        """Folder of their tests on everyone's labels."""
        return self.results / f"components/all/order-{self.order}/labels-all"

    @property
    def groups(self) -> Path:
        """Folder of the comparison of the groups."""
        return self.results / f"metrics/group_maps/order-{self.order}"

    def table(self, path: Path) -> pandas.DataFrame:
        """A table of the results folder."""
        return read_table(path, text_columns=_TEXT)


def write_components_page(run: ComponentsRun, page: str | Path) -> None:
    """Render the page: one file, nothing loaded from elsewhere, every value escaped, nobody named."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("restresponse.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "p": p_value}
    folders = [run.config["dataset"][key] for key in ("bids_dir", "derivatives")]
    people = set(run.table(run.groups / "groups.tsv")["participant_id"])
    identifiers = Identifiers(run.config["report"]["identifiers"], people, folders)
    text = environment.get_template("components.html.j2").render(identifiers.without(components_content(run)))
    identifiers.check(text)
    write_text(page, text)


def components_content(run: ComponentsRun) -> dict[str, Any]:
    """Everything the template shows."""
    table = run.table(run.selected / "components.tsv")
    facts, group_facts = read_json(run.selected / "components.json"), read_json(run.groups / "group_maps.json")
    table = table.merge(run.table(run.cohort / "components.tsv"), on="component")
    renamed = {"direction": "voxel_direction", "p_maxt": "p_maxt_voxels"}
    table = table.merge(run.table(run.groups / "voxelwise.tsv").rename(columns=renamed), on="component")
    folds = 0
    if run.stable:
        stability = run.table(run.results / "metrics/component_stability.tsv").drop(columns="network")
        table, folds = table.merge(stability, on="component"), int(stability["n_folds"].max())
    thresholds = [name.removeprefix("selected_p-") for name in table if name.startswith("selected_p-")]
    for p in thresholds:
        table[f"selected_p-{p}"] = table[f"selected_p-{p}"].astype(str).str.lower() == "true"
    permutations = group_facts["parameters"]["permutations"]
    curve = run.table(run.results / "metrics/selection.tsv")
    return {
        "title": run.config["report"]["title"],
        "order": run.order,
        "sentences": summary_sentences(table, thresholds, facts, permutations, run.stable),
        "n_responders": group_facts["n_responders"],
        "n_nonresponders": group_facts["n_nonresponders"],
        "n_fitted": len(read_json(run.cohort / "components.json")["fitted_on"]),
        "folds": folds,
        "permutations": permutations,
        "normalise": run.config["dual_regression"]["normalise_time_courses"],
        "curve": curve_rows(curve[curve["arm"].isin(run.arms)], table, thresholds, facts),
        "bar": pictures.colour_bar(),
        "colours": {"responder": pictures.RESPONDER, "other": pictures.OTHER},
        "least": pictures.LEAST,
        "most": pictures.MOST,
        "stable": STABLE,
        "level": LEVEL,
        "spectrum": {"top": spectrum_top(run)},
        "rows": component_rows(run, table, thresholds, facts["fallback"]),
        "networks": run.table(run.selected.parent / "networks.tsv").replace({np.nan: None}).to_dict("records"),
    }


def component_rows(
    run: ComponentsRun, table: pandas.DataFrame, thresholds: Sequence[str], fallbacks: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """One row a component, with its pictures; `fallbacks` says at which p none passed and the one of least p is taken alone."""
    maps = np.asarray(read_array(run.cohort / "components.npy"), np.float64)
    mask, affine = read_mask(run.results / "quality/group_mask.nii.gz")
    settings = run.config["components"]
    names, templates = network_templates(mask, affine, settings["template"], settings["template_labels"])
    slicer = pictures.Slicer(mask, affine)
    spectra = mean_spectra(run)
    highest = float(spectra.max()) or 1.0
    frequencies = _frequencies(spectrum_top(run))
    amplitudes = dict(list(run.table(run.groups / "groups.tsv").groupby("component")))
    rows = []
    for index, row in enumerate(table.replace({np.nan: None}).to_dict("records")):
        template = templates[names.index(row["network"])] if row["network"] in names else None
        own = amplitudes[row["component"]]
        response = own["response"].to_numpy()
        middle = float((frequencies * spectra[index]).sum() / (spectra[index].sum() or 1.0))
        rows.append(
            row
            | {
                "slices": slicer.draw(maps[index], template),
                "spectrum": pictures.spectrum_drawing(spectra[index], highest),
                "middle": middle,
                "map_strip": pictures.strip_drawing(own["map"].to_numpy(np.float64), response),
                "course_strip": pictures.strip_drawing(own["time_course"].to_numpy(np.float64), response),
                "selected": [p for p in thresholds if row[f"selected_p-{p}"] and not fallbacks[p]],
                "alone": [p for p in thresholds if row[f"selected_p-{p}"] and fallbacks[p]],
                "apart": row["t"] * row["time_course_t"] < 0 and min(row["p"], row["time_course_p"]) < LEVEL,
            }
        )
    return rows


def spectrum_top(run: ComponentsRun) -> float:
    """Greatest frequency shown, Hz: a little beyond the filter, and never beyond half the sampling rate of any scan."""
    scans = run.table(run.results / "dataset/scans.tsv")
    times = scans["repetition_time"].astype(float)
    nyquist = 0.5 / float(times[times > 0].max())
    high = run.config["functional"]["denoising"]["bandpass_high"]
    return min(nyquist, 1.25 * high if high else 0.25)


def mean_spectra(run: ComponentsRun) -> np.ndarray:
    """Power of each component's time courses `(n_components, n_frequencies)`, mean over runs and participants."""
    scans = run.table(run.results / "dataset/scans.tsv").set_index("scan")
    times = scans["repetition_time"].astype(float)
    folders = [run.results / f"dual_regression/all/order-{run.order}/asc/{batch}" for batch in run.batches]
    records = files_of(folders, run.batches, "_maps.json")
    courses = files_of(folders, run.batches, "_timecourses.tsv")
    measures = files_of(
        [run.results / f"quality/scans/{batch}" for batch in run.scan_batches], run.scan_batches, ".json"
    )
    frequencies, found = _frequencies(spectrum_top(run)), []
    for participant, path in records.items():
        runs = read_json(path)["scans"]
        if not runs:
            continue
        lengths = [read_json(measures[scan])["n_volumes"] for scan in runs]
        series = read_time_courses(courses[participant])
        parts = np.split(series, np.cumsum(lengths)[:-1]) if sum(lengths) == len(series) else [series]
        found += [
            pictures.power(part, times[scan], frequencies) for part, scan in zip(parts, runs, strict=False) if len(part)
        ]
    return np.mean(found, axis=0)


def _frequencies(top: float) -> np.ndarray:
    return np.linspace(0, top, 73)[1:]


def curve_rows(
    curve: pandas.DataFrame, table: pandas.DataFrame, thresholds: Sequence[str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The table of thresholds: components selected on everyone, expected by chance, and what linear models make of them."""
    keys = list(dict.fromkeys(zip(curve["protocol"], curve["arm"], curve["model"], strict=True)))
    rows = []
    for p in thresholds:
        cells = []
        for key in keys:
            mine = (curve["protocol"] == key[0]) & (curve["arm"] == key[1]) & (curve["model"] == key[2])
            found = curve[mine & (curve["p"].astype(float).sub(float(p)).abs() < 1e-12)]
            cells.append(found.iloc[0].to_dict() if len(found) else None)
        rows.append(
            {
                "p": p,
                "n": int(table[f"selected_p-{p}"].sum()),
                "fallback": bool(facts["fallback"][p]),
                "chance": facts["expected_by_chance"][p],
                "cells": cells,
            }
        )
    return {"keys": [{"protocol": one, "arm": two, "model": three} for one, two, three in keys], "rows": rows}


def summary_sentences(
    table: pandas.DataFrame, thresholds: Sequence[str], facts: Mapping[str, Any], permutations: int, stable: bool
) -> list[str]:
    """What a reader should know before looking at the rows."""
    n = len(table)
    named = int(table["network"].notna().sum())
    loose = table.loc[table["stability"] < STABLE, "component"].tolist()
    found = [
        f"{named} of {n} components bear a network's name. "
        + (
            f"Unstable over restarts (ICASSO below {STABLE:g}): {_listed(loose)}."
            if loose
            else f"All are stable over restarts (ICASSO {STABLE:g} or more)."
        )
    ]
    if stable:
        weak = table.loc[table["mean_r"] < STABLE, "component"].tolist()
        found[0] += (
            f" Not found again in every fold (mean |r| below {STABLE:g}): {_listed(weak)}."
            if weak
            else f" Each is found again in the folds (mean |r| {table['mean_r'].min():.2f} or more)."
        )
    if thresholds:
        p = thresholds[0] if "0.1" not in thresholds else "0.1"
        count = 0 if facts["fallback"][p] else int(table[f"selected_p-{p}"].sum())
        found.append(
            f"At p < {p}, {count} of {n} components differ between the groups and {facts['expected_by_chance'][p]:.1f} would by "
            f"chance; {int((table['p_fdr'] < LEVEL).sum())} after FDR and {int((table['p_maxt'] < LEVEL).sum())} after max-T, "
            f"both at {LEVEL:g}."
        )
    if permutations:
        alone, together = (int((table[name] < LEVEL).sum()) for name in ("p_maxt_voxels", "p_maxt_all"))
        found.append(
            f"Voxel by voxel, {alone or 'no'} component{'s' if alone > 1 else ''} {'have' if alone > 1 else 'has'} a difference beyond chance "
            f"(max-T over the component's voxels, {permutations} permutations, p < {LEVEL:g}); {together or 'none'} over all components' voxels."
        )
    return found


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
