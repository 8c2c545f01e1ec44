"""What the classifiers looked at, joined over folds: which networks tell the groups apart, where, and how stable that is.

A fold's components are aligned with those of everyone here alone, for the report; no fit reads it. Where the clean AUC may
be chance there is nothing to explain: such a classifier is withheld, with a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restresponse.classifier.attribution import ATTRIBUTION, COMPONENT, DECISION, NETWORK, WHOLE
from restresponse.classifier.inputs import ClassifierGrid
from restresponse.classifier.ladder import CLEAN
from restresponse.classifier.scores import area_under_curve
from restresponse.components.match import one_to_one, spatial_correlation
from restresponse.errors import InputError
from restresponse.files import read_array, read_json, read_table, write_image, write_table, writing_folder

if TYPE_CHECKING:
    import pandas

CHANCE = 0.5
FIRST = 3  # ranks that count as the first
_KEY = ("protocol", "arm", "model")
NETWORKS_COLUMNS = (
    *_KEY, "what", "name", "network", "measure", "rank", "separation", "sd", "share_first", "size", "auc_lost",
    "randomised", "randomised_rank", "n_folds",
)  # fmt: skip
SUMMARY_COLUMNS = (
    *_KEY, "withheld", "what", "measure", "rank_r", "randomised_r", "whole", "gap", "map_r", "n_folds",
)  # fmt: skip


def map_name(protocol: str, arm: str, model: str) -> str:
    """Name of the image of a classifier's integrated gradients."""
    return f"{protocol}_{arm}_{model}_space-MNI152_desc-attribution_map.nii.gz"


def write_explanations(
    *,
    metrics: str | Path,
    predictions: str | Path,
    tables: Sequence[str | Path],
    attributions: Sequence[str | Path],
    sidecars: Sequence[str | Path],
    reference: str | Path,
    networks: str | Path,
    fold_components: Sequence[str | Path],
    mask: str | Path,
    explained: Sequence[tuple[str, str, str]],
    folds: Sequence[str],
    voxel_size: float | None,
    confidence: float,
    explanation: str | Path,
) -> None:
    """Write `networks.tsv`, `summary.tsv` and a map of each classifier that is not withheld.

    Parameters
    ----------
    metrics, predictions : tables of this stage
    tables, attributions, sidecars : of `explain_fold`, one for each of `explained` and within it of `folds`
    reference, networks : components of cohort `all`, and the table that names them
    fold_components : components of each fold's cohort
    mask : group mask
    explained : (protocol, arm, model)
    voxel_size : of the classifier's grid
    explanation : folder to write
    """
    import pandas as pd

    scores = read_table(metrics, text_columns=(*_KEY, "metric", "scope"))
    truth = read_table(predictions, text_columns=(*_KEY, "fold", "participant_id"))
    response = truth.drop_duplicates("participant_id").set_index("participant_id")["response"].astype(int)
    names = component_names(networks)
    aligned = [alignment(read_array(reference), read_array(path)) for path in fold_components]
    target = ClassifierGrid.of(mask, voxel_size)
    rows: list[pandas.DataFrame] = []
    summary: list[dict[str, Any]] = []
    with writing_folder(explanation) as folder:
        for number, key in enumerate(map(tuple, explained)):
            part = slice(number * len(folds), (number + 1) * len(folds))
            sentence = withheld(scores, key, confidence)
            if sentence:
                summary.append(dict(zip(_KEY, key, strict=True)) | {"withheld": sentence})
                continue
            found = [
                fold_separations(read_table(path, ("participant_id", "what", "name", "measure")), response)
                for path in tables[part]
            ]
            for fold, by_fold in zip(aligned, found, strict=True):
                rename(by_fold, fold, names)
            maps = np.stack(
                [
                    separation(np.asarray(read_array(path), np.float64), response[read_json(sidecar)["participants"]])
                    for path, sidecar in zip(attributions[part], sidecars[part], strict=True)
                ]
            )
            table, facts = joined(found, names)
            rows.append(table.assign(**dict(zip(_KEY, key, strict=True))))
            facts["map_r"] = mean_agreement(maps)
            summary += [{**dict(zip(_KEY, key, strict=True)), **row} for row in facts.to_dict("records")]
            volume = np.zeros(target.mask.shape, np.float32)
            volume[target.mask] = np.nanmean(maps, axis=0)
            write_image(folder / map_name(*key), volume, target.affine)
        everything = pd.concat(rows) if rows else pd.DataFrame(columns=list(NETWORKS_COLUMNS))
        write_table(folder / "networks.tsv", everything[list(NETWORKS_COLUMNS)])
        write_table(folder / "summary.tsv", pd.DataFrame(summary, columns=list(SUMMARY_COLUMNS)))


def withheld(scores: pandas.DataFrame, key: tuple[str, str, str], confidence: float) -> str | None:
    """Why a classifier is not explained, or None where the interval of its clean AUC lies above chance."""
    _, arm, model = key
    row = scores[(scores["protocol"] == CLEAN) & (scores["arm"] == arm) & (scores["model"] == model)]
    row = row[(row["metric"] == "auc") & (row["scope"] == "mean")]
    if row.empty:
        raise InputError(
            f"the metrics have no AUC of {model} on {arm} under {CLEAN}; expected one to decide whether it can be explained: "
            "remove results/metrics/metrics.tsv and run again"
        )
    value, low, high = (float(row[name].iloc[0]) for name in ("value", "low", "high"))
    if low > CHANCE:
        return None
    if not np.isfinite(low):
        return f"Withheld: the clean AUC of {model} on {arm} has no interval, so that it cannot be told from chance."
    where = "covers chance" if high >= CHANCE else "lies below chance"
    return (
        f"Withheld: the {confidence:.0%} interval of the clean AUC of {model} on {arm}, {value:.2f} [{low:.2f}, {high:.2f}], "
        f"{where} ({CHANCE:g}); what it looks at would explain noise."
    )


def component_names(networks: str | Path) -> dict[str, str]:
    """Component of cohort `all` -> the network it is named by, where there is one."""
    table = read_table(networks, text_columns=("network", "best_three"))
    return {str(row.component): row.network for row in table.itertuples() if isinstance(row.network, str)}


def alignment(reference: np.ndarray, components: np.ndarray) -> dict[str, str]:
    """Number of a fold's component -> number of the component of everyone that it is assigned (one to one, by |r|)."""
    assigned = one_to_one(np.abs(spatial_correlation(np.asarray(components), np.asarray(reference))))
    return {str(own + 1): str(other + 1) for own, other in enumerate(assigned) if other >= 0}


def separation(values: np.ndarray, response: pandas.Series | np.ndarray) -> np.ndarray:
    """Mean of the rows of responders less that of non-responders; missing where a group is."""
    group = np.asarray(response)
    if not (np.any(group == 1) and np.any(group == 0)):
        return np.full(values.shape[1:], np.nan)
    return values[group == 1].mean(axis=0) - values[group == 0].mean(axis=0)


def fold_separations(table: pandas.DataFrame, response: pandas.Series) -> pandas.DataFrame:
    """Of one fold and each (what, name, measure): what it adds to the difference between the groups' mean log-odds.

    Columns `separation` and `randomised` (the same with shuffled weights), `size` (mean absolute log-odds, whoever
    responds) and `auc_lost` (the fold's AUC less that without the unit).
    """
    import pandas as pd

    whole = table[(table["what"] == WHOLE) & (table["measure"] == DECISION)].set_index("participant_id")["trained"]
    groups = response.reindex(whole.index).to_numpy()
    both = len(set(groups)) == 2
    full = area_under_curve(groups, whole.to_numpy()) if both else np.nan
    rows = []
    for key, part in table.groupby(["what", "name", "measure"], sort=False):
        values = part.set_index("participant_id").reindex(whole.index)
        trained = values["trained"].to_numpy(np.float64)
        without = area_under_curve(groups, whole.to_numpy() - trained) if both and key[0] != WHOLE else np.nan
        rows.append(
            {
                **dict(zip(("what", "name", "measure"), key, strict=True)),
                "separation": float(separation(trained[:, None], groups)[0]),
                "randomised": float(separation(values["randomised"].to_numpy(np.float64)[:, None], groups)[0]),
                "size": float(np.abs(trained).mean()),
                "auc_lost": full - without,
            }
        )
    return pd.DataFrame(rows)


def rename(by_fold: pandas.DataFrame, aligned: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Number a fold's components as those of everyone, in place."""
    own = by_fold["what"] == COMPONENT
    by_fold.loc[own, "name"] = [aligned[name] for name in by_fold.loc[own, "name"]]


def joined(folds: Sequence[pandas.DataFrame], names: Mapping[str, str]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The rows of `networks.tsv` and of `summary.tsv` from `fold_separations` of every fold.

    A component that a fold did not select adds nothing there.
    """
    import pandas as pd

    everything = pd.concat([table.assign(fold=number) for number, table in enumerate(folds)])
    whole = everything[everything["what"] == WHOLE].pivot(index="fold", columns="measure", values="separation")
    total = float(whole[DECISION].mean())
    gap = float((whole[ATTRIBUTION] - whole[DECISION]).abs().max())
    rows, facts = [], []
    for (what, measure), part in everything[everything["what"] != WHOLE].groupby(["what", "measure"], sort=False):
        cells = {
            column: part.pivot(index="fold", columns="name", values=column).reindex(range(len(folds)))
            for column in ("separation", "randomised", "size", "auc_lost")
        }
        present = cells["separation"].notna()
        usable = whole[DECISION].reindex(range(len(folds))).notna()  # a fold of one group says nothing
        cells = {column: values.fillna(0.0)[usable] for column, values in cells.items()}
        values, shuffled = cells["separation"], cells["randomised"]
        mean, other = values.mean(), shuffled.mean()
        ranks = values.rank(axis=1, ascending=False)
        table = pd.DataFrame(
            {
                "what": what,
                "name": mean.index,
                "network": [names.get(name) if what == COMPONENT else name for name in mean.index],
                "measure": measure,
                "rank": mean.rank(ascending=False, method="first").astype(int).to_numpy(),
                "separation": mean.to_numpy(),
                "sd": values.std(ddof=1).to_numpy(),
                "share_first": (ranks <= FIRST).mean().to_numpy(),
                "size": cells["size"].mean().to_numpy(),
                "auc_lost": cells["auc_lost"].mean().to_numpy(),
                "randomised": other.to_numpy(),
                "randomised_rank": other.rank(ascending=False, method="first").astype(int).to_numpy(),
                "n_folds": present.sum().to_numpy(),
            }
        )
        rows.append(table.sort_values("rank"))
        facts.append(
            {
                "what": what,
                "measure": measure,
                "rank_r": mean_agreement(values.rank(axis=1).to_numpy(np.float64)),
                "randomised_r": mean_agreement(np.stack([mean.rank(), other.rank()])),
                "whole": total,
                "gap": gap,
                "n_folds": int(usable.sum()),
            }
        )
    return pd.concat(rows), pd.DataFrame(facts)


def mean_agreement(rows: np.ndarray) -> float:
    """Mean correlation of all pairs of rows `(n_rows, n)`; missing with fewer than two rows or fewer than three values."""
    kept = rows[np.isfinite(rows).all(axis=1)]
    if len(kept) < 2 or kept.shape[1] < 3:
        return float("nan")
    centred = kept - kept.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    if not np.all(norm > 0):
        return float("nan")
    product = (centred / norm) @ (centred / norm).T
    return float(product[np.triu_indices(len(kept), 1)].mean())


__all__ = ["COMPONENT", "NETWORK", "map_name", "write_explanations"]
