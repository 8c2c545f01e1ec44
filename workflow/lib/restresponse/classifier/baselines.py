"""Baselines of one fold: what can be predicted without the classifier's maps, each fitted on training participants alone.

Motion, global signal, pain before treatment, the named clinical columns, each network's amplitude by itself: logistic ridge
on standardised numbers. Connectivity between nodes: a linear support vector machine (the source study's group's earlier work).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.connectivity import MEASURES
from restresponse.classifier.fold import Fold
from restresponse.classifier.inner import check_both_classes
from restresponse.classifier.logistic import logistic_ridge
from restresponse.dataset.characteristics import PAIN
from restresponse.files import read_array, read_json, read_table, write_table
from restresponse.provenance import write_sidecar

if TYPE_CHECKING:
    import pandas

PENALTY = 1.0  # inverse strength of every baseline: fixed, so that none is tuned

NETWORK = "network "  # before the name of a network in the name of its baseline


@dataclass(frozen=True)
class Baseline:
    """A baseline's features, rows in the order of the participants, missing values NaN or None."""

    name: str
    features: pandas.DataFrame


def design(table: pandas.DataFrame, training: np.ndarray) -> np.ndarray:
    """Numbers for a model, everything about them from the rows `training`.

    Numeric columns: missing values become the training median; centred, of unit variance. Others: one column a level that
    training has; missing values and unseen levels become the commonest. A column that does not vary in training is left out.

    Returns
    -------
    (n_participants, n_columns) float64
    """
    import pandas as pd

    columns = []
    for name in table:
        values = table[name]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(np.float64)
            known = numbers[training][np.isfinite(numbers[training])]
            if len(known):
                columns.append(np.where(np.isfinite(numbers), numbers, np.median(known)))
            continue
        text = values.astype(object).where(values.notna(), None)
        levels = sorted({str(value) for value in text.iloc[training] if value is not None})
        counts = [sum(str(value) == level for value in text.iloc[training]) for level in levels]
        if levels:
            commonest = levels[int(np.argmax(counts))]
            filled = [str(value) if str(value) in levels else commonest for value in text]
            columns += [np.array([value == level for value in filled], float) for level in levels[1:]]
    if not columns:
        return np.zeros((len(table), 0))
    matrix = np.stack(columns, axis=1)
    spread = matrix[training].std(axis=0)
    kept = spread > 1e-12 * (1 + np.abs(matrix[training]).max(axis=0))
    return (matrix[:, kept] - matrix[training][:, kept].mean(axis=0)) / spread[kept]


def logistic_scores(features: np.ndarray, training: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Probability of a responder of everyone, from a logistic ridge on `features`; the training share without any."""
    from scipy.special import expit

    known = response[training].astype(np.float64)
    if not features.shape[1]:
        return np.full(len(features), known.mean())
    kernel = features @ features[training].T / features.shape[1]
    everyone = np.ones((1, len(training)), bool)
    dual, intercept = logistic_ridge(kernel[training][None], known[None], everyone, PENALTY)
    return expit(kernel @ dual[0] + intercept[0])


def support_vector_scores(features: np.ndarray, training: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The logistic function of a linear support vector machine's decision: an order, not a calibrated probability."""
    from scipy.special import expit
    from sklearn.svm import SVC

    kernel = features @ features[training].T / max(1, features.shape[1])
    machine = SVC(kernel="precomputed", C=PENALTY).fit(kernel[training], response[training])
    return expit(machine.decision_function(kernel))


def fit_baselines(
    *,
    folds: str | Path,
    labels: str | Path,
    characteristics: str | Path,
    measures: Sequence[str | Path],
    amplitudes: str | Path,
    matches: str | Path,
    batches: Mapping[str, Sequence[str]],
    fold: str,
    predictions: str | Path,
    sidecar: str | Path,
) -> None:
    """Fit every baseline on a fold's training participants and predict its test participants.

    Parameters
    ----------
    labels : label table of the fold's training participants, the only one that is read
    characteristics : table of stage `dataset`
    measures : folders of `connectivity.measure_batch`, one for each of `batches`
    amplitudes, matches : of the fold's own cohort
    predictions : table to write: baseline, participant_id, y_score
    """
    import pandas as pd

    known = Fold.read(fold, folds, labels)
    names = sorted({*known.training, *known.test})
    response = known.array(names)
    training = np.flatnonzero(response >= 0)
    check_both_classes(response[training], f"the training participants of {fold}")
    own = files_of(measures, batches, ".json", names)
    edges = files_of(measures, batches, ".npy", names)
    facts = pd.DataFrame([read_json(path) for path in own.values()], index=names)[list(MEASURES)].astype(float)
    clinical = read_table(characteristics).set_index("participant_id").reindex(names)
    strengths = read_table(amplitudes).set_index("participant_id").reindex(names)
    tabular = [
        Baseline("motion", facts[["mean_framewise_displacement"]]),
        Baseline("global_signal", facts[["global_signal"]]),
        Baseline("pain_before", clinical[[PAIN]]),
        Baseline("clinical", clinical.drop(columns=PAIN)),
        *network_baselines(strengths, read_table(matches, text_columns=("network", "best_three"))),
    ]
    connected = pd.DataFrame([read_array(path) for path in edges.values()], index=names)
    fits: list[tuple[Baseline, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]]] = [
        *((baseline, logistic_scores) for baseline in tabular),
        (Baseline("connectivity", connected), support_vector_scores),
    ]
    rows, record = [], {}
    test = [index for index, name in enumerate(names) if name in set(known.test)]
    for baseline, fit in fits:
        features = design(baseline.features, training)
        scores = (
            fit(features, training, response) if features.shape[1] else logistic_scores(features, training, response)
        )
        rows += [(baseline.name, names[index], scores[index]) for index in test]
        record[baseline.name] = {"columns": list(map(str, baseline.features.columns))[:20], "n_used": features.shape[1]}
    write_table(predictions, pd.DataFrame(rows, columns=["baseline", "participant_id", "y_score"]))
    write_sidecar(
        sidecar,
        fitted_on=[names[index] for index in training],
        labels_of=known.response,
        applied_to=[names[index] for index in test],
        sources=[folds, labels, characteristics, amplitudes, matches, *own.values(), *edges.values()],
        parameters={"penalty": PENALTY, "fold": fold},
        baselines=record,
    )


def network_baselines(amplitudes: pandas.DataFrame, matches: pandas.DataFrame) -> list[Baseline]:
    """One baseline for each network that a component of the fold's cohort is named by: that component's amplitude."""
    found = []
    for row in matches.itertuples():
        if isinstance(row.network, str):
            column = f"component_{int(row.component):02d}"
            found.append(Baseline(NETWORK + row.network, amplitudes[[column]]))
    return sorted(found, key=lambda baseline: baseline.name)


def edges_memory(n_participants: int) -> int:
    """Memory in MiB to ask for a job of the baselines: a few kernels of everyone, whatever the number of features."""
    return 1000 + round(6 * 8 * n_participants**2 / 2**20)


def baseline_files(batches: Sequence[str], order: int, fold: str) -> dict[str, Any]:
    """Input files of `classifier_baselines`: its own fold's, and those that know no label."""
    return {
        "folds": "results/folds/folds.tsv",
        "labels": f"results/folds/labels/{fold}.tsv",
        "characteristics": "results/dataset/characteristics.tsv",
        "measures": [f"results/classifier/connectivity/{batch}" for batch in batches],
        "amplitudes": f"results/components/{fold}/order-{order}/amplitudes.tsv",
        "matches": f"results/components/{fold}/order-{order}/matches.tsv",
    }
