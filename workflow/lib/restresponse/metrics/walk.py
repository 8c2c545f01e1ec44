"""The walk back from a prediction, by the sources that each sidecar names, to whoever was fitted on and whose label was read.

It knows nothing of what a workflow should look like: whatever an artefact read is followed, so that a warm start from
another fold's model is found as an ICA of everyone is. Followed are fits and label tables. A participant's own reduction
is an application, yet a group ICA that read it was fitted on that participant; the split itself is stratified by all
labels and no fit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from restresponse.metrics.evidence import Evidence

_OF_A_LABEL_TABLE = re.compile(r"(?:^|/)(?:folds/(?:labels|outcomes)/[^/]+|dataset/(?:labels|participants))\.tsv$")
_OF_A_REDUCTION = re.compile(r"/group_ica/participants/[^/]+/(sub-[A-Za-z0-9]+)_reduced\.npy$")
_SIDECARS = (  # what a file is called -> what its sidecar is called, within a stage's folder; the first that fits
    (re.compile(r"/(group_ica/participants/.*)\.npy$"), r"/\1.json"),
    (re.compile(r"/(group_ica/.*/pass-\d+)/(?:next|product)\.npy$"), r"/\1/next.json"),
    (re.compile(r"/(kernels/.*)/(?:gram|sums)\.npy$"), r"/\1/gram.json"),
    (re.compile(r"/(components/.*)/(?:amplitudes|variability|matches)\.tsv$"), r"/\1/measures.json"),
    (re.compile(r"/(dual_regression/.*)_(?:maps\.npy|timecourses\.tsv)$"), r"/\1_maps.json"),
    (re.compile(r"/(components/.*labels-.*)/components\.tsv$"), r"/\1/components.json"),
    (re.compile(r"/(group_ica/.*)/components\.(?:npy|nii\.gz|tsv)$"), r"/\1/components.json"),
    (re.compile(r"/(classifier/.*)/(?:model\.keras|model\.npz|predictions\.tsv|history\.tsv)$"), r"/\1/model.json"),
    (re.compile(r"/(classifier/(?:volumes|connectivity)/.*)\.npy$"), r"/\1.json"),
    (re.compile(r"/((?:classifier|components|dual_regression|group_ica)/.*\.json)$"), r"/\1"),
)
_STAGES_OF_FITS = ("group_ica", "dual_regression", "components", "classifier")


@dataclass(frozen=True)
class Finding:
    """Test participants who enter at one artefact on the way.

    Attributes
    ----------
    check : `fitted_on` or `labels_of`, the list they belong in, or `sources` where the artefact cannot be followed
    artefact : the sidecar, or the file that has none
    participants : who enters there
    way : files from the prediction to where they enter
    stage : of the artefact
    """

    check: str
    artefact: Path
    participants: frozenset[str]
    way: tuple[str, ...]
    stage: str


def ways_back(evidence: Evidence, model: Path) -> dict[Path, tuple[str, ...]]:
    """Sidecar of each artefact behind a model -> files read on the shortest way to it, the model's own files first."""
    ways: dict[Path, tuple[str, ...]] = {model: ()}
    pending = [model]
    for path in pending:  # grows while it is walked
        for source, parent in _parents(evidence, path):
            if parent is not None and parent not in ways:
                ways[parent] = (*ways[path], source)
                pending.append(parent)
    return ways


def entries(evidence: Evidence, ways: dict[Path, tuple[str, ...]], test: frozenset[str]) -> Iterator[Finding]:
    """Where test participants and test labels enter, each artefact that saw more of them than those it was made from."""
    for path, way in ways.items():
        stage = stage_of(path, evidence.results)
        if path != next(iter(ways)) and evidence.sidecar(path).problem:
            yield Finding("sources", path, frozenset(), way, stage)
            continue
        parents = _parents(evidence, path)
        # A model's list is its own, whoever the components were fitted on; other artefacts hand on what theirs were.
        explaining = [
            parent
            for _, parent in parents
            if parent is not None and (stage != "classifier" or stage_of(parent, evidence.results) == stage)
        ]
        above = frozenset().union(*(_seen(evidence, parent) for parent in explaining))
        visible = (_seen(evidence, path) - above) & test
        # A selection is "fitted on" those whose labels it read: they enter by the label table, below.
        labels = _labels_read(evidence, path) if stage == "components" else frozenset()
        if visible - labels:
            yield Finding("fitted_on", path, visible - labels, way, stage)
        for source, parent in parents:
            if _OF_A_LABEL_TABLE.search(source):
                hidden = _members(evidence, source) & test
                if hidden:
                    yield Finding("labels_of", path, hidden, (*way, source), stage)
            elif parent is None and _is_unknown(source, evidence.results):
                yield Finding("sources", Path(source), frozenset(), (*way, source), stage)


def in_words(predictions: Path, way: tuple[str, ...], end: str = "") -> str:
    """The way from a prediction in words."""
    steps = [str(predictions), *way]
    return " was made from ".join(steps) + end


def stage_of(path: Path, results: Path) -> str:
    """The stage whose folder a file of the results lies in; `elsewhere` for any other."""
    return path.relative_to(results).parts[0] if path.is_relative_to(results) else "elsewhere"


def leaves(evidence: Evidence, ways: dict[Path, tuple[str, ...]]) -> dict[str, str]:
    """Files at the ends of the ways, those without a fit behind them: path -> SHA-256 on record."""
    found: dict[str, str] = {}
    for path in ways:
        recorded = _sources(evidence, path)
        found |= {source: recorded[source] for source, parent in _parents(evidence, path) if parent is None}
    return found


@functools.cache  # each of these is asked for once a classification, of the same few thousand files
def _parents(evidence: Evidence, path: Path) -> list[tuple[str, Path | None]]:
    """Each source of an artefact with its sidecar; None for a file that is no fit: raw data, label tables, the split."""
    return [(source, _sidecar_of(source, evidence.results)) for source in _sources(evidence, path)]


@functools.cache
def _sources(evidence: Evidence, path: Path) -> dict[str, str]:
    """Files an artefact was made from -> SHA-256 on record; of temporary steps that its sidecar tells, theirs instead."""
    sidecar = evidence.sidecar(path)
    records = sidecar.content.get("records") or {}
    told = {Path(name).with_suffix("") for name in records}
    found = dict(sidecar.sources)
    for record in records.values():
        found |= record["sources"]
    return {source: digest for source, digest in found.items() if Path(source).with_suffix("") not in told}


def _sidecar_of(source: str, results: Path) -> Path | None:
    if not Path(source).is_relative_to(results):
        return None
    inside = f"/{Path(source).relative_to(results).as_posix()}"
    for pattern, replacement in _SIDECARS:
        if pattern.search(inside):
            return results / pattern.sub(replacement, inside).removeprefix("/")
    return None


def _is_unknown(source: str, results: Path) -> bool:
    """Whether a file without a sidecar lies among the fits all the same, or is an array or weights from elsewhere."""
    path = Path(source)
    if path.is_relative_to(results):
        return stage_of(path, results) in _STAGES_OF_FITS and "gram" not in path.parts
    return path.suffix in (".npy", ".npz", ".keras", ".h5", ".json")


@functools.cache
def _seen(evidence: Evidence, path: Path) -> frozenset[str]:
    """Whom an artefact was fitted on, by its list and by the reductions among its sources."""
    sidecar = evidence.sidecar(path)
    if _OF_A_REDUCTION.search(f"/{path.with_suffix('.npy').as_posix()}"):
        return frozenset()
    told = (sidecar.content.get("records") or {}).values()
    read = {match[1] for source in _sources(evidence, path) if (match := _OF_A_REDUCTION.search(f"/{source}"))}
    return sidecar.participants("fitted_on").union(read, *(record["fitted_on"] for record in told))


@functools.cache
def _labels_read(evidence: Evidence, path: Path) -> frozenset[str]:
    tables = [source for source in evidence.sidecar(path).sources if _OF_A_LABEL_TABLE.search(source)]
    return frozenset().union(*(_members(evidence, table) for table in tables))


def _members(evidence: Evidence, table: str) -> frozenset[str]:
    return evidence.members_of_table(Path(table)) if Path(table).is_file() else frozenset()
