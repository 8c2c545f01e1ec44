"""The tables of stage `components`: measures of a cohort's components (no labels), and the test and selection (labels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from restresponse.components.match import match_tables
from restresponse.components.selection import (
    direction_words,
    group_test,
    map_amplitudes,
    max_t_p,
    network_amplitudes,
    select,
)
from restresponse.components.templates import network_templates
from restresponse.dual_regression import read_time_courses
from restresponse.files import read_array, read_json, read_table, write_table
from restresponse.images import read_mask
from restresponse.provenance import write_sidecar


def measure_components(
    *,
    components: str | Path,
    component_facts: str | Path,
    mask: str | Path,
    maps: Mapping[str, str | Path],
    residuals: Mapping[str, str | Path],
    time_courses: Mapping[str, str | Path],
    threshold: float,
    match_threshold: float,
    template: str | Path | None,
    template_labels: str | Path | None,
    amplitudes: str | Path,
    variability: str | Path,
    matches: str | Path,
    networks: str | Path,
    sidecar: str | Path,
) -> None:
    """Write each participant's amplitude in each component's map and time course, and each component's network.

    `maps`, `residuals` and `time_courses` are paths by participant; participants without an included scan have no row.
    The amplitude of a time course (`variability`) is its spread over that of what the components leave.
    """
    import pandas as pd

    inside, affine = read_mask(mask)
    group = read_array(components).astype(np.float64)
    names = [f"component_{number:02d}" for number in range(1, len(group) + 1)]
    rows, spreads = {}, {}
    for participant, path in sorted(maps.items()):
        found = read_array(path)
        if len(found):
            rows[participant] = map_amplitudes(found, group, threshold)
            courses = read_time_courses(time_courses[participant])
            spreads[participant] = network_amplitudes(courses, read_array(residuals[participant]))
    for path, values in ((amplitudes, rows), (variability, spreads)):
        table = pd.DataFrame.from_dict(values, orient="index", columns=names)
        write_table(path, table.rename_axis("participant_id").reset_index())

    names_of_networks, templates = network_templates(inside, affine, template, template_labels)
    by_component, by_network = match_tables(
        group, templates, names_of_networks, threshold=threshold, least=match_threshold
    )
    write_table(matches, pd.DataFrame(by_component))
    write_table(networks, pd.DataFrame(by_network).astype({"component": "Int64"}))
    write_sidecar(
        sidecar,
        fitted_on=read_json(component_facts)["fitted_on"],
        applied_to=rows,
        sources=[components, *(maps[participant] for participant in rows)],
        parameters={"threshold": threshold, "match_threshold": match_threshold, "template": template},
    )


def select_components(
    *,
    amplitudes: str | Path,
    variability: str | Path,
    matches: str | Path,
    measures_facts: str | Path,
    labels: str | Path,
    thresholds: Sequence[float],
    require_match: bool,
    normalise: bool,
    seed: int,
    table: str | Path,
    sidecar: str | Path,
) -> None:
    """Test each component between the groups of the label table and write the selection for each threshold of p."""
    import pandas as pd
    from scipy.stats import false_discovery_control

    response = read_table(labels).set_index("participant_id")["response"].astype(int)
    measured = read_table(amplitudes).set_index("participant_id")
    spread = read_table(variability).set_index("participant_id")
    used = [participant for participant in sorted(response.index) if participant in measured.index]
    truth, values = response.loc[used].to_numpy(), measured.loc[used].to_numpy(np.float64)
    amplitude = spread.loc[used].to_numpy(np.float64)
    test, amplitude_test = group_test(values, truth), group_test(amplitude, truth)
    result = read_table(matches, text_columns=("network", "best_three"))
    allowed = result["matched"].to_numpy(bool) if require_match else None
    n_eligible = len(result) if allowed is None else int(allowed.sum())
    columns = {
        "mean_responders": values[truth == 1].mean(axis=0),
        "mean_nonresponders": values[truth == 0].mean(axis=0),
        "difference": test["difference"],
        "t": test["t"],
        "p": test["p"],
        "p_fdr": false_discovery_control(test["p"]),
        "p_maxt": max_t_p(values, truth, seed=seed),
        "direction": direction_words(test["t"], "map", normalise=normalise),
        "time_course_t": amplitude_test["t"],
        "time_course_p": amplitude_test["p"],
        "time_course_p_fdr": false_discovery_control(amplitude_test["p"]),
        "time_course_p_maxt": max_t_p(amplitude, truth, seed=seed),
        "time_course_direction": direction_words(amplitude_test["t"], "time course", normalise=normalise),
    }
    fallbacks = {}
    for threshold in thresholds:
        chosen, fallback = select(test["p"], threshold, allowed)
        columns[f"selected_p-{threshold}"] = np.isin(np.arange(len(result)), chosen)
        fallbacks[str(threshold)] = fallback
        if fallback:
            print(f"no component has p < {threshold}; the one of least p, {int(chosen[0]) + 1}, is taken alone")
    write_table(table, pd.concat([result, pd.DataFrame(columns)], axis=1))
    write_sidecar(
        sidecar,
        fitted_on=sorted({*read_json(measures_facts)["fitted_on"], *used}),
        labels_of=used,
        sources=[amplitudes, variability, matches, labels],
        parameters={
            "thresholds": list(thresholds),
            "require_match": require_match,
            "normalise_time_courses": normalise,
        },
        seed=seed,
        fallback=fallbacks,
        expected_by_chance={str(p): p * n_eligible for p in thresholds},
    )
