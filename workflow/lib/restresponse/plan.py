"""What a config asks for, as the values of the workflow's wildcards: folds, cohorts, sets, classifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restresponse.classifier.ladder import runs, with_rungs
from restresponse.group_ica.layout import orders_of


@dataclass(frozen=True)
class Plan:
    """The values of every wildcard of a validated config.

    Attributes
    ----------
    folds : names of the outer folds, `rep-1_fold-01` …
    cohorts : `all` and every fold: on whom a statistic may be fitted
    orders : numbers of components; the first is the study's own, which an arm has that names none
    thresholds : p thresholds of the arms that select components, ascending
    protocols, arms, models : the config's, by name; with `metrics.ladder` the rungs after the config's protocols, and after
        its arms those at further orders
    curve : the thresholds and those of `components.thresholds`, ascending: how many components each selects
    """

    folds: list[str]
    cohorts: list[str]
    orders: list[int]
    thresholds: list[float]
    protocols: Mapping[str, Mapping[str, Any]]
    arms: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    curve: Sequence[float] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Plan:
        """Read the plan out of a validated config."""
        classifier = config["classifier"]
        folds = fold_names(config["folds"]["n_folds"], config["folds"]["repeats"])
        orders, protocols = orders_of(config["group_ica"]), classifier["protocols"]
        arms = with_orders(classifier["arms"], orders[1:], classifier["models"])
        thresholds = {arm["p"] for arm in arms.values() if arm.get("select")}
        return cls(
            folds=folds,
            cohorts=["all", *folds],
            orders=orders,
            thresholds=sorted(thresholds),
            curve=sorted({*thresholds, *config["components"]["thresholds"]}),
            protocols=with_rungs(protocols) if config["metrics"]["ladder"] else protocols,
            arms=arms,
            models=classifier["models"],
        )

    def cohort(self, protocol: str, fold: str) -> str:
        """The cohort whose group ICA a protocol's fold uses."""
        return "all" if self.protocols[protocol]["group_ica"] == "all" else fold

    def selection_labels(self, protocol: str, fold: str) -> str:
        """The label table that a protocol's selection of components reads."""
        return "all" if self.protocols[protocol]["selection"] == "all" else fold

    def order_of(self, arm: str) -> int:
        """The number of components of an arm."""
        return self.arms[arm].get("order") or self.orders[0]

    def models_of_kind(self, kind: str) -> list[str]:
        """Names of the models of a kind, `network` or `linear`."""
        return [name for name, model in self.models.items() if model["kind"] == kind]

    @property
    def classifications(self) -> list[tuple[str, str, str, str]]:
        """Every (protocol, arm, model, fold); of the ladder those alone on which the leak can act."""
        return [
            (protocol, arm, model, fold)
            for protocol in self.protocols
            for arm, settings in self.arms.items()
            for model in settings["models"]
            if runs(protocol, settings, self.models[model])
            for fold in self.folds
        ]

    @property
    def sets(self) -> list[str]:
        """Every set of components that a dual regression can have as regressors."""
        return ["asc", *(f"ssc_labels-{labels}_p-{p}" for labels in self.cohorts for p in self.thresholds)]


def with_orders(
    arms: Mapping[str, Mapping[str, Any]], orders: Sequence[int], models: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The arms and, at each of some further orders, those of components that name no order, as `asc_order-10`.

    They go to their linear models alone: a network is trained at another order only where an arm of the config names it.
    """
    found = dict(arms)
    for order in orders:
        for name, arm in arms.items():
            linear = [model for model in arm["models"] if models.get(model, {}).get("kind") == "linear"]
            if arm["input"] == "components" and not arm.get("order") and linear:
                found[f"{name}_order-{order}"] = {**arm, "order": order, "models": linear}
    return found


def fold_names(n_folds: int, repeats: int) -> list[str]:
    """Names of the outer folds: `rep-1_fold-01` … in order."""
    return [f"rep-{repeat}_fold-{fold:02d}" for repeat in range(1, repeats + 1) for fold in range(1, n_folds + 1)]
