"""The artefacts behind a prediction, from its model back to the label table, and what its protocol lets each of them see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restresponse.classifier.ladder import CLEAN, CLOSED
from restresponse.metrics.collect import BASELINE
from restresponse.metrics.evidence import Evidence
from restresponse.metrics.refits import Fit

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """One artefact and what it may have seen.

    Attributes
    ----------
    sidecar : its sidecar
    fit : participants it must be fitted on, these and no others
    labels, labels_at_most : participants whose labels it must have read, and those it may
    cohorts, needed : cohorts whose components, maps or kernels may be among its sources, and those that must be
    tables : label tables that may be among them, or behind a selection among them
    may_fit_on_test, may_read_test_labels : whether the protocol declares that leak
    recomputed : what recomputing it found wrong; empty where all is well, None where there is nothing to recompute
    """

    sidecar: Path
    fit: frozenset[str]
    labels: frozenset[str]
    labels_at_most: frozenset[str]
    cohorts: frozenset[str] = _NOBODY
    needed: frozenset[str] = _NOBODY
    tables: frozenset[str] = _NOBODY
    may_fit_on_test: bool = False
    may_read_test_labels: bool = False
    recomputed: str | None = None


@dataclass(frozen=True)
class Classification:
    """One fold's model: its names, the rows of the config they stand for, and the fold's test participants.

    `searched`: a network's hyper-parameters are.
    """

    protocol: str
    arm: str
    model: str
    fold: str
    allowed: Mapping[str, Any]
    settings: Mapping[str, Any]
    kind: str
    order: int
    folds: Mapping[str, frozenset[str]]
    batches: Mapping[str, Sequence[str]]
    searched: bool = False

    @property
    def test(self) -> frozenset[str]:
        """The fold's test participants."""
        return self.folds[self.fold]

    @property
    def cohort(self) -> str:
        """The cohort whose group ICA the protocol gives this fold."""
        return "all" if self.allowed["group_ica"] == "all" else self.fold

    @property
    def selection_labels(self) -> str:
        """The label table that the protocol lets the selection read."""
        return "all" if self.allowed["selection"] == "all" else self.fold

    @property
    def components(self) -> bool:
        """Whether the arm reads maps of components."""
        return self.settings["input"] == "components"

    @property
    def select(self) -> bool:
        """Whether the arm selects components."""
        return self.components and bool(self.settings.get("select"))

    @property
    def watches_reported_folds(self) -> bool:
        """Whether the protocol lets this model see the labels it is reported on: by its epoch or its hyper-parameters."""
        choices = ["hyperparameters"] if self.kind == "linear" or self.searched else []
        choices += ["epoch"] if self.kind != "linear" else []
        return any(self.allowed[choice] == "reported_folds" for choice in choices)

    @property
    def refit(self) -> bool:
        """Whether the arm's maps are refitted on the selected components; a linear model does that in kernel space."""
        return self.select and self.kind != "linear" and self.settings.get("maps", "refit") == "refit"

    @property
    def folder(self) -> str:
        """Folder of the model; this and the paths below lie in the results folder."""
        return f"classifier/{self.protocol}/{self.arm}/{self.model}/{self.fold}"

    @property
    def group_ica(self) -> str:
        """Sidecar of the group ICA."""
        return f"group_ica/{self.cohort}/order-{self.order}/components.json"

    @property
    def kernel(self) -> str:
        """Sidecar of the kernel of a linear model."""
        return f"classifier/kernels/{self.cohort}/order-{self.order}/gram.json"

    @property
    def measures(self) -> str:
        """Sidecar of the amplitudes that a selection is made from."""
        return f"components/{self.cohort}/order-{self.order}/measures.json"

    @property
    def selection(self) -> str:
        """Sidecar of the group test and the selection."""
        return f"components/{self.cohort}/order-{self.order}/labels-{self.selection_labels}/components.json"

    def maps_folder(self, batch: str) -> str:
        """Folder of the maps of a batch of participants."""
        name = f"ssc_labels-{self.selection_labels}_p-{self.settings['p']}" if self.refit else "asc"
        return f"dual_regression/{self.cohort}/order-{self.order}/{name}/{batch}"

    def maps(self, participant: str) -> str:
        """Sidecar of a participant's maps."""
        return f"{self.maps_folder(self._batch_of(participant))}/{participant}_maps.json"

    def volume(self, participant: str) -> str:
        """A participant's preprocessed volumes."""
        return f"classifier/volumes/{self._batch_of(participant)}/{participant}.npy"

    def _batch_of(self, participant: str) -> str:
        return next((batch for batch, members in self.batches.items() if participant in members), "no-batch")

    @property
    def views(self) -> list[str]:
        """The folds whose files the job reads: its own, and those of its repeat where a penalty is chosen on them."""
        if self.kind == "linear" and self.watches_reported_folds:
            others = [
                fold for fold in self.folds if fold.split("_")[0] == self.fold.split("_")[0] and fold != self.fold
            ]
            return [self.fold, *others]
        return [self.fold]


class Baselines(Classification):
    """One fold's baselines: a classification of the clean protocol whose models share a folder and a sidecar."""

    @classmethod
    def of(
        cls, fold: str, order: int, folds: Mapping[str, frozenset[str]], batches: Mapping[str, Sequence[str]]
    ) -> Baselines:
        """The baselines of a fold, whose numbers are those of its own cohort."""
        settings = {"input": "components", "select": False}
        return cls(CLEAN, BASELINE, "all", fold, CLOSED, settings, "linear", order, folds, batches)

    @property
    def folder(self) -> str:
        """Folder of the fold's baselines."""
        return f"classifier/baselines/{self.fold}"


def steps_of(evidence: Evidence, case: Classification) -> Iterator[Step]:
    """The steps of one classification: model, maps or kernels, selection, group ICA, label table.

    Parameters
    ----------
    evidence : of the results folder
    case : the classification
    """
    if isinstance(case, Baselines):
        yield from _baseline_steps(evidence, case)
        return
    results, fold, test, order = evidence.results, case.fold, case.test, case.order
    training = evidence.members_of_table(results / f"folds/labels/{fold}.tsv")
    labelled = evidence.members_of_table(results / "folds/labels/all.tsv")
    usable = evidence.usable()
    left_out = evidence.sidecar(results / case.folder / "model.json").participants("left_out")
    trained = training - left_out
    watched = case.watches_reported_folds
    cohorts = [("all" if case.cohort == "all" else view) for view in case.views] if case.components else []
    yield Step(
        results / case.folder / "model.json",
        fit=trained,
        labels=trained,
        labels_at_most=labelled if watched else training,
        cohorts=frozenset(cohorts),
        needed=frozenset(cohorts[:1]),
        tables=_tables_of_model(case),
        may_read_test_labels=watched,
        recomputed=finding(evidence.refits.problem, _fit(evidence, case, trained)),
    )
    if case.components:
        cohort, labels = case.cohort, case.selection_labels
        ica = usable - (_NOBODY if cohort == "all" else test)
        leaks = cohort == "all"
        chosen = (labelled if labels == "all" else training) & usable
        selecting = {
            "fit": ica | chosen,
            "labels": chosen,
            "labels_at_most": chosen,
            "cohorts": frozenset({cohort}),
            "needed": frozenset({cohort}),
            "tables": frozenset({labels}),
            "may_fit_on_test": leaks or labels == "all",
            "may_read_test_labels": labels == "all",
        }
        if case.kind == "linear":
            yield unlabelled(results / case.kernel, _NOBODY, False, cohort)
        for participant in sorted(((training | test) - left_out) & usable):
            path = results / case.maps(participant)
            yield Step(path, **selecting) if case.refit else unlabelled(path, ica, leaks, cohort)
        if case.select:
            recomputed = finding(evidence.selection_problem, cohort, order, labels)
            yield Step(results / case.selection, **selecting, recomputed=recomputed)
            yield unlabelled(results / case.measures, ica, leaks, cohort)
        recomputed = finding(evidence.eigenvalue_problem, cohort, order)
        yield unlabelled(results / case.group_ica, ica, leaks, cohort, recomputed)
    yield table_step(results / f"folds/labels/{fold}.json", training, labelled - test)


def _baseline_steps(evidence: Evidence, case: Baselines) -> Iterator[Step]:
    """The steps of a fold's baselines: their models, the amplitudes of its cohort, its group ICA."""
    training = evidence.members_of_table(evidence.results / f"folds/labels/{case.fold}.tsv")
    yield model_step(evidence.results, case, training)
    yield from amplitude_steps(evidence, case)


def model_step(results: Path, case: Classification, known: frozenset[str], recomputed: str | None = None) -> Step:
    """The models that share a clean fold's sidecar, fitted on whoever's outcome is `known`, of the fold's own cohort."""
    own = frozenset({case.fold})
    path = results / case.folder / "model.json"
    return Step(path, known, known, known, cohorts=own, needed=own, tables=own, recomputed=recomputed)


def amplitude_steps(evidence: Evidence, case: Classification) -> Iterator[Step]:
    """The amplitudes of a clean fold's own cohort, and its group ICA."""
    results, fold, ica = evidence.results, case.fold, evidence.usable() - case.test
    yield unlabelled(results / case.measures, ica, False, fold)
    recomputed = finding(evidence.eigenvalue_problem, fold, case.order)
    yield unlabelled(results / case.group_ica, ica, False, fold, recomputed)


def table_step(path: Path, found: frozenset[str], training: frozenset[str]) -> Step:
    """A fold's table of labels or outcomes, in which those `found` must be its training part."""
    odd = ", ".join(sorted(found ^ training))
    recomputed = f"its participants are not the training part: {odd}" if odd else ""
    return Step(path, _NOBODY, found, found, recomputed=recomputed)


def audited_files(cases: Sequence[Classification]) -> list[str]:
    """What the audit of `cases` reads, within the results folder: sidecars, tables and folders of maps, its job's inputs."""
    files: dict[str, None] = {}
    for case in cases:
        own = [f"{case.folder}/model.json", f"{case.folder}/predictions.tsv", f"folds/labels/{case.fold}.json"]
        if not case.components:
            own += [f"classifier/volumes/{batch}" for batch in case.batches]
        else:
            own += [
                case.group_ica,
                *map(case.maps_folder, case.batches),
                *([case.kernel] if case.kind == "linear" else []),
            ]
        if case.select:
            folder = case.measures.removesuffix("measures.json")
            table = case.selection.removesuffix(".json") + ".tsv"
            own += [case.measures, case.selection, table, f"{folder}amplitudes.tsv"]
        files |= dict.fromkeys(own)
    return list(files)


def _tables_of_model(case: Classification) -> frozenset[str]:
    """The fold's own table, everyone's where reported folds may be watched, and those behind the selections it reads."""
    selections = ["all" if case.selection_labels == "all" else view for view in case.views] if case.select else []
    return frozenset([case.fold, *selections, *(["all"] if case.watches_reported_folds else [])])


def unlabelled(path: Path, fit: frozenset[str], leaks: bool, cohort: str, recomputed: str | None = None) -> Step:
    """A step that reads no label."""
    return Step(path, fit, _NOBODY, _NOBODY, frozenset({cohort}), may_fit_on_test=leaks, recomputed=recomputed)


def finding(check: Callable[..., str | None], *arguments: Any) -> str:
    """A recomputation's finding; a file it needs that is gone or broken is a finding too."""
    try:
        return check(*arguments) or ""
    except (OSError, KeyError, ValueError, TypeError) as error:
        return f"cannot be recomputed: {error}"


def _fit(evidence: Evidence, case: Classification, trained: frozenset[str]) -> Fit:
    """The model of a case as `Refits` recomputes it; its sources are the case's, whatever its sidecar names."""
    facts = evidence.sidecar(evidence.results / case.folder / "model.json").content
    maps = {name: (case.maps if case.components else case.volume)(name) for name in sorted(trained)}
    maps = {name: path.replace("_maps.json", "_maps.npy") for name, path in maps.items()}
    return fit_of(case, case.settings, facts, sorted(trained), f"folds/labels/{case.fold}.tsv", maps)


def fit_of(
    case: Classification,
    arm: Mapping[str, Any],
    facts: Mapping[str, Any],
    training: Sequence[str],
    labels: str,
    maps: Mapping[str, str],
) -> Fit:
    """A model of a case on an arm of the config, with what its sidecar says, as `Refits` recomputes it."""
    components = arm["input"] == "components"
    selects = components and bool(arm.get("select"))
    return Fit(
        folder=case.folder,
        facts=facts,
        training=training,
        labels=labels,
        kernels=str(Path(case.kernel).parent),
        maps=maps,
        asc=f"dual_regression/{case.cohort}/order-{case.order}/asc",
        components=case.group_ica.replace(".json", ".npy"),
        kind=case.kind,
        selects=selects,
        refits=selects and arm.get("maps", "refit") == "refit",
        volumes=None if components else arm["volumes"],
    )


def inner_participants(folds: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Everyone named by the inner folds on record in a model's sidecar, trained on or watched."""
    return frozenset(name for fold in folds for key in ("fitted_on", "watched") for name in fold.get(key) or ())
