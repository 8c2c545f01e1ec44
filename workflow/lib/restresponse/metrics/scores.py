"""The metrics of one classifier's predictions. Positive class: responder; a score of 0.5 or more predicts one.

The headline AUC is the mean of the fold AUCs. Metrics of the confusion table are pooled over the folds of a repeat and
averaged over repeats. What is not defined (a precision without positive predictions) is NaN, written as n/a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from restresponse.errors import InputError

if TYPE_CHECKING:
    import pandas

THRESHOLD = 0.5
CONFUSION = ("tn", "fp", "fn", "tp")
POOLED = (
    "auc", "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "brier", "pr_auc",
    *CONFUSION,
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Scores of one (protocol, arm, model): `n` participants, each scored once in each of `R` repeats.

    Attributes
    ----------
    participants : (n,) str, sorted
    response : (n,) bool, True for a responder
    score : (R, n) float64
    fold : (R, n) str, the fold whose test part held the participant
    """

    participants: np.ndarray
    response: np.ndarray
    score: np.ndarray
    fold: np.ndarray

    @classmethod
    def of(cls, rows: pandas.DataFrame) -> Sample:
        """From rows of predictions.tsv of one (protocol, arm, model), in any order."""
        wide = rows.pivot(index="repeat", columns="participant_id", values=["y_score", "fold"])
        score = wide["y_score"].astype(float)
        if score.isna().to_numpy().any():
            lacking = sorted(score.columns[score.isna().any()])
            raise InputError(
                f"{', '.join(lacking)} lacks a score in one of {len(score)} repeats: run the classifier again"
            )
        response = rows.groupby("participant_id")["response"].first().loc[score.columns]
        return cls(
            participants=score.columns.to_numpy(str),
            response=response.to_numpy(int) == 1,
            score=score.to_numpy(np.float64),
            fold=wide["fold"].to_numpy(str),
        )

    def subset(self, participants: np.ndarray) -> Sample:
        """The same scores of some of the participants."""
        kept = np.isin(self.participants, participants)
        return Sample(self.participants[kept], self.response[kept], self.score[:, kept], self.fold[:, kept])

    @property
    def informative(self) -> bool:
        """Whether the scores differ between the participants of any fold: a constant classifier's do not."""
        folds = [
            (row, row_fold == fold)
            for row, row_fold in zip(self.score, self.fold, strict=True)
            for fold in set(row_fold)
        ]
        return any(np.ptp(row[members]) > 0 for row, members in folds)


def pooled_values(sample: Sample) -> dict[str, float]:
    """Every metric of `POOLED`, over the folds of a repeat together, averaged over repeats."""
    per_repeat = [_one_repeat(sample.response, score) for score in sample.score]
    return {metric: float(np.mean([values[metric] for values in per_repeat])) for metric in POOLED}


def fold_aucs(sample: Sample) -> dict[str, tuple[float, int]]:
    """Fold -> (AUC, number of participants), in order; NaN for a fold whose scored participants are of one class."""
    found = {}
    for score, folds in zip(sample.score, sample.fold, strict=True):
        for fold in sorted(set(folds)):
            members = folds == fold
            found[fold] = auc(sample.response[members], score[members]), int(members.sum())
    return found


def mean_fold_auc(sample: Sample) -> float:
    """Mean of the fold AUCs that are defined."""
    values = [value for value, _ in fold_aucs(sample).values() if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def auc(response: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN with one class."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(response, score)) if len(set(response)) == 2 else float("nan")


def from_confusion(tn: np.ndarray, fp: np.ndarray, fn: np.ndarray, tp: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of confusion tables (arrays of any one shape, weights allowed); NaN where a denominator is 0.

    F1 is that of the responders; the Matthews correlation is 0 where every prediction is of one class.
    """
    tn, fp, fn, tp = (np.asarray(value, np.float64) for value in (tn, fp, fn, tp))
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    two_classes = (tp + fn > 0) & (tn + fp > 0)
    return {
        "accuracy": _ratio(tn + tp, tn + fp + fn + tp),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "specificity": specificity,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "mcc": np.where(two_classes, np.where(root > 0, _ratio(tp * tn - fp * fn, root), 0.0), np.nan),
        "tn": tn,
        "fp": fp,
        "fn": fn,
        "tp": tp,
    }


def _one_repeat(response: np.ndarray, score: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix

    table = confusion_matrix(response, score >= THRESHOLD, labels=[False, True]).ravel()
    values = {metric: float(value) for metric, value in from_confusion(*table).items()}
    values["auc"] = auc(response, score)
    values["brier"] = float(brier_score_loss(response, score, pos_label=True)) if len(response) else float("nan")
    values["pr_auc"] = float(average_precision_score(response, score)) if response.any() else float("nan")
    return values


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
