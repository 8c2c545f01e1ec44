"""Models recomputed from their training participants alone: the scaling of each, and of a linear one the whole fit.

The scaling is worked out here from the maps or from their inner products, not by the classifier's code, so that a scaling
over everyone shows whatever the sidecar says. A linear model's fit is exact given its penalty and its components.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.inputs import ClassifierGrid
from restresponse.classifier.kernel import Channels, MapProducts
from restresponse.classifier.kernel_files import refitting
from restresponse.files import read_array, read_json, read_table

_TOLERANCE = 1e-6  # relative, of a scaling; absolute, of a predicted probability (tables keep ten digits)


@dataclass(frozen=True)
class Fit:
    """What a model's sidecar says and where its files lie, within the results folder."""

    folder: str
    facts: Mapping[str, Any]
    training: Sequence[str]
    labels: str
    kernels: str
    maps: Mapping[str, str]
    asc: str
    components: str
    kind: str
    selects: bool
    refits: bool
    volumes: int | None


class Refits:
    """Recomputes the models of a results folder; sums of each file of maps are taken once.

    Parameters
    ----------
    results : the results folder
    batches : batch -> its participants
    """

    def __init__(self, results: Path, batches: Mapping[str, Sequence[str]]) -> None:
        self._results, self._batches = results, batches
        self._grid = functools.cache(lambda size: ClassifierGrid.of(results / "quality/group_mask.nii.gz", size))
        self._sums = functools.cache(self._sums_of)

    def problem(self, fit: Fit) -> str | None:
        """What is wrong with the model's scaling, or with the predictions of a linear one; None where nothing is."""
        recorded = fit.facts.get("scaling")
        if not isinstance(recorded, dict):
            return "no scaling is on record"
        if fit.kind == "linear":
            return self._linear_problem(fit, recorded)
        voxel_size = (fit.facts.get("parameters") or {}).get("voxel_size")
        parts = [self._sums(fit.maps[name], voxel_size, fit.volumes is not None) for name in fit.training]
        kept = slice(fit.volumes)
        if fit.selects and not fit.refits:
            kept = np.asarray(fit.facts["chosen"]["selected"], int) - 1
        n_values = sum(n for _, _, n in parts)
        sums, squares = (sum(part[index] for part in parts)[kept] for index in (0, 1))
        return _scaling_problem(recorded, sums, squares, n_values)

    def _sums_of(self, path: str, voxel_size: float | None, volumes: bool) -> tuple[np.ndarray, np.ndarray, int]:
        """Sum and sum of squares of each row of a file of maps, and how many values a row has."""
        rows = read_array(self._results / path)
        if not volumes:
            rows = self._grid(voxel_size).from_masked(rows)
        pairs = np.array([(row.sum(dtype=np.float64), np.square(row, dtype=np.float64).sum()) for row in rows])
        return pairs[:, 0], pairs[:, 1], rows.shape[1]

    def _linear_problem(self, fit: Fit, recorded: Mapping[str, Any]) -> str | None:
        names, inside, kernel, sums = self._kernel(fit)
        problem = _scaling_problem(recorded, *sums)
        if problem:
            return problem
        table = read_table(self._results / fit.folder / "predictions.tsv").set_index("participant_id")["y_score"]
        labels = read_table(self._results / fit.labels).set_index("participant_id")["response"]
        scores = _scores(kernel, inside, labels.loc[list(fit.training)].to_numpy(int), fit.facts["chosen"]["penalty"])
        return _gap(scores[[names.index(name) for name in table.index]], table.to_numpy(np.float64), 1.0)

    def measured_problem(self, fit: Fit) -> str | None:
        """What is wrong with one model of the percent fall of pain; `fit.facts["chosen"]` says which. None: nothing."""
        names, inside, kernel, _ = self._kernel(fit)
        chosen = fit.facts["chosen"]
        table = read_table(self._results / fit.folder / "predictions.tsv", text_columns=("arm", "model", "target"))
        own = (table[["arm", "model", "target"]] == [chosen[key] for key in ("arm", "model", "target")]).all(axis=1)
        change = read_table(self._results / fit.labels).set_index("participant_id")["pain_change"]
        values = change.loc[list(fit.training)].to_numpy(np.float64)
        if chosen["target"] == "change":
            scores, unit = _change(kernel, inside, values, chosen["penalty"]), float(np.std(values))
        else:
            reached = np.round(values, 9) >= float(chosen["target"].removeprefix("threshold-"))
            scores, unit = _scores(kernel, inside, reached.astype(int), chosen["penalty"]), 1.0
        rows = table[own]
        found = scores[[names.index(name) for name in rows["participant_id"]]]
        return _gap(found, rows["predicted"].to_numpy(np.float64), unit)

    def _kernel(self, fit: Fit) -> tuple[list[str], np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, int]]:
        """Participants, positions of the training ones, the kernel scaled by those, and the sums of their channels."""
        record = read_json(self._results / fit.kernels / "gram.json")
        names = list(record["participants"])
        inside = np.array([names.index(name) for name in fit.training])
        channels = self._channels(fit, names, record["n_voxels"])
        sums = channels.sums[inside].sum(axis=0)
        squares = np.diagonal(channels.products, axis1=1, axis2=2)[:, inside].sum(axis=1)
        n_values = len(inside) * channels.n_voxels
        variance = squares / n_values - (sums / n_values) ** 2
        return names, inside, np.tensordot(1 / variance, channels.products, axes=1), (sums, squares, n_values)

    def _channels(self, fit: Fit, names: Sequence[str], n_voxels: int) -> Channels:
        selected = np.asarray(fit.facts["chosen"]["selected"], int) - 1 if fit.selects else None
        restrict = None
        if fit.selects and fit.refits:
            folders = [self._results / fit.asc / batch for batch in self._batches]
            courses = list(files_of(folders, self._batches, "_timecourses.tsv", names).values())
            facts = read_json(next(iter(files_of(folders, self._batches, "_maps.json", names).values())))
            normalise = facts["parameters"]["normalise_time_courses"]
            restrict = refitting(self._results / fit.components, courses, normalise)
        folder = self._results / fit.kernels
        products = MapProducts(read_array(folder / "gram.npy"), read_array(folder / "sums.npy"), n_voxels, restrict)
        return products.channels(selected)


def _scaling_problem(recorded: Mapping[str, Any], sums: np.ndarray, squares: np.ndarray, n_values: int) -> str | None:
    mean = sums / n_values
    deviation = np.sqrt(squares / n_values - mean**2)
    found = [np.asarray(recorded.get(key) or [], np.float64) for key in ("mean", "deviation")]
    if any(len(array) != len(mean) for array in found):
        return f"the scaling on record has {len(found[0])} channels; the training participants' maps have {len(mean)}"
    gap = np.max(np.abs(np.concatenate([found[0] - mean, found[1] - deviation])) / np.tile(deviation, 2))
    return None if gap < _TOLERANCE else f"the scaling is not that of the training participants (by {gap:.2g} of an SD)"


def _gap(found: np.ndarray, recorded: np.ndarray, unit: float) -> str | None:
    gap = np.max(np.abs(found - recorded), initial=0.0) / unit
    return None if gap < _TOLERANCE else f"the fit on the training participants gives other scores (by {gap:.2g})"


def _scores(kernel: np.ndarray, inside: np.ndarray, response: np.ndarray, penalty: float) -> np.ndarray:
    """Probability of a responder, `(n,)`, by logistic ridge on a kernel `(n, n)` centred on the participants `inside`."""
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    features = _features(kernel, inside)
    model = LogisticRegression(C=penalty, solver="newton-cholesky", tol=1e-10, max_iter=500)
    model.fit(features[inside], response)
    return expit(features @ model.coef_[0] + model.intercept_[0])


def _change(kernel: np.ndarray, inside: np.ndarray, values: np.ndarray, penalty: float) -> np.ndarray:
    """The change, `(n,)`, by ridge regression on the same kernel."""
    from sklearn.linear_model import Ridge

    features = _features(kernel, inside)
    return Ridge(alpha=1 / penalty).fit(features[inside], values).predict(features)


def _features(kernel: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Features `(n, rank)` whose inner products with those of `inside` are the kernel, centred and scaled by those."""
    left = kernel - kernel[inside].mean(axis=0)
    middle = left - left[:, inside].mean(axis=1)[:, None]
    block = middle[np.ix_(inside, inside)]
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    kept = values > 1e-10 * values[-1]
    return middle[:, inside] @ (vectors[:, kept] / np.sqrt(values[kept] * np.trace(block) / len(inside)))
