"""The ladder of leaks: the clean protocol with each leak switched on alone, and what makes a protocol contradict itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CLEAN = "clean"
CLOSED = {
    "group_ica": "training",
    "selection": "training",
    "hyperparameters": "inner_folds",
    "epoch": "inner_folds",
    "inherited": "own_arm",
}
OPEN = {
    "group_ica": "all",
    "selection": "all",
    "hyperparameters": "reported_folds",
    "epoch": "reported_folds",
    "inherited": "other_arms",
}
LEAKS = tuple(CLOSED)  # L1 to L5, in order
WORDS = {  # what a leak lets in
    "group_ica": "the group ICA fitted on test participants too",
    "selection": "components selected with test labels",
    "hyperparameters": "hyper-parameters chosen on the reported folds",
    "epoch": "training stopped by the loss of the reported fold",
    "inherited": "hyper-parameters taken over from another arm",
}
_PREFIX = f"{CLEAN}_but_"


def number_of(leak: str) -> str:
    """`L1` … `L5`, as the method's table has them."""
    return f"L{LEAKS.index(leak) + 1}"


def rung(leak: str) -> str:
    """Name of the protocol that differs from the clean one in one leak."""
    return f"{_PREFIX}{leak}"


def leak_of(protocol: str) -> str | None:
    """The leak of a rung; None for any other protocol."""
    leak = protocol.removeprefix(_PREFIX)
    return leak if leak != protocol and leak in LEAKS else None


def with_rungs(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The protocols, and after them one rung a leak."""
    rungs = {rung(leak): {**CLOSED, leak: OPEN[leak]} for leak in LEAKS}
    return {**{name: dict(row) for name, row in protocols.items()}, **rungs}


def searched(model: Mapping[str, Any]) -> bool:
    """Whether a model's hyper-parameters are chosen, and not fixed by the config."""
    return len(model.get("penalties", ())) > 1 or bool(model.get("search"))


def absence(leak: str, arm: Mapping[str, Any], model: Mapping[str, Any]) -> str | None:
    """Why a leak cannot act on an arm and model, in words; None where it can.

    Parameters
    ----------
    leak : of `LEAKS`
    arm, model : rows of the config
    """
    components = arm["input"] == "components"
    if leak == "group_ica":
        return None if components else "no group ICA (L1)"
    if leak == "selection":
        return None if components and arm.get("select") else "no selection of components (L2)"
    if leak == "hyperparameters":
        return None if searched(model) else "hyper-parameters fixed by the config (L3)"
    if leak == "epoch":
        return "no epoch to stop at (L4)" if model["kind"] == "linear" else None
    return None if searched(model) and not components else "no hyper-parameters inherited from another arm (L5)"


def runs(protocol: str, arm: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a protocol is run for an arm and model: a rung only where its leak can act, as else it is the clean one."""
    leak = leak_of(protocol)
    return leak is None or absence(leak, arm, model) is None


def contradictions(classifier: Mapping[str, Any], ladder: bool) -> Iterator[str]:
    """Sentences for what cannot be meant in `classifier.protocols` of a validated config; `ladder` is metrics.ladder."""
    protocols = classifier["protocols"]
    for leak, value in protocols.get(CLEAN, {}).items():
        if value != CLOSED[leak]:
            yield (
                f"classifier.protocols.{CLEAN}.{leak}: found {value}; expected {CLOSED[leak]}: clean is what every other "
                f"protocol is measured against and closes every leak: give a protocol with {number_of(leak)} another name"
            )
    if ladder and CLEAN not in protocols:
        yield (
            f"metrics.ladder: true, and classifier.protocols has no {CLEAN}; expected it, since a rung is the difference "
            f"from it: leave out '{CLEAN}: null' or set metrics.ladder to false"
        )
    for name, row in protocols.items():
        leak = leak_of(name)
        if leak is not None and row != {**CLOSED, leak: OPEN[leak]}:
            yield (
                f"classifier.protocols.{name}: found {_shown(row)}; expected {leak}: {OPEN[leak]} and nothing else open, "
                "which is what the name says: give it another name"
            )
        if row["inherited"] == "other_arms":
            yield from _nothing_to_inherit(name, classifier)


def source_arm(arm: str, model: str, arms: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The arm whose hyper-parameters an arm of volumes inherits: the first of components that goes to the model."""
    if arms[arm]["input"] == "components":
        return None
    return next((name for name, row in arms.items() if row["input"] == "components" and model in row["models"]), None)


def _nothing_to_inherit(protocol: str, classifier: Mapping[str, Any]) -> Iterator[str]:
    arms, models = classifier["arms"], classifier["models"]
    for arm, row in arms.items():
        for model in row["models"]:
            concerned = row["input"] == "volumes" and model in models and searched(models[model])
            if concerned and source_arm(arm, model, arms) is None:
                yield (
                    f"classifier.protocols.{protocol}.inherited: other_arms, and no arm of components goes to {model}, whose "
                    f"hyper-parameters {arm} would take over; expected one: add {model} to the models of an arm of "
                    "components or set inherited to own_arm"
                )


def _shown(row: Mapping[str, Any]) -> str:
    opened = ", ".join(f"{leak}: {value}" for leak, value in row.items() if value != CLOSED[leak])
    return opened or "a row that is the clean one"
