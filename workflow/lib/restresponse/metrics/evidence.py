"""What an artefact's sidecar claims, and what the files themselves say: read once each, recomputed where they can be."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restresponse.errors import DamagedFile
from restresponse.files import digest_of, read_array, read_json, read_table
from restresponse.group_ica.layout import Layout
from restresponse.metrics.refits import Refits

_COHORTS = re.compile(r"/(?:group_ica|dual_regression|components|kernels)/(all|rep-\d+_fold-\d+)/")
_TABLES = re.compile(r"(?:/folds/(?:labels|outcomes)/|labels-)(all|rep-\d+_fold-\d+)(?=[/_.])")
_TEMPORARY = re.compile(r"/sub-[^/]+\.(npy|nii\.gz)$")
_LABEL_TABLE = re.compile(r"/folds/(?:labels|outcomes)/[^/]+\.tsv$")
_TOLERANCE = 1e-6  # relative, of a recomputed number; tables keep ten digits


@dataclass(frozen=True)
class Sidecar:
    """A sidecar as it was found: its lists, or the problem that kept them from being read."""

    path: Path
    content: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def participants(self, key: str) -> frozenset[str]:
        """The participants under `fitted_on`, `labels_of`, `applied_to` or `left_out` (whose entries carry a reason)."""
        entries = self.content.get(key) or ()
        return frozenset(entry["participant_id"] if isinstance(entry, dict) else entry for entry in entries)

    @property
    def sources(self) -> dict[str, str]:
        """File that was read -> its SHA-256 at that time."""
        return dict(self.content.get("sources") or {})


class Evidence:
    """Everything the audit reads from a results folder, each file once.

    Parameters
    ----------
    results : the results folder
    batches : batch -> its participants
    group_ica : of the config: `exact_limit` and `passes`
    """

    def __init__(self, results: str | Path, batches: Mapping[str, Sequence[str]], group_ica: Mapping[str, Any]) -> None:
        self.results = Path(results)
        self._batches = batches
        self._layout = Layout.of(batches, group_ica)
        self.sidecar = functools.cache(self._sidecar)
        self.source_problems = functools.cache(self._source_problems)
        self.eigenvalue_problem = functools.cache(self._eigenvalue_problem)
        self.selection_problem = functools.cache(self._selection_problem)
        self.members_of_table = functools.cache(self._members_of_table)
        self.refits = Refits(self.results, batches)
        self._digest = functools.cache(digest_of)

    def at(self, path: str) -> Path:
        """Where a file of the workflow (`results/…`) lies."""
        return self.results / path.removeprefix("results/")

    def digest(self, path: str) -> str:
        """SHA-256 of a file of the workflow."""
        return self._digest(self.at(path))

    def _sidecar(self, path: Path) -> Sidecar:
        if not path.is_file():
            return Sidecar(path, problem="the sidecar is missing")
        try:
            content = read_json(path)
        except DamagedFile as error:
            return Sidecar(path, problem=f"the sidecar is not readable JSON ({error})")
        lists = [key for key in ("fitted_on", "labels_of") if not isinstance(content.get(key), list)]
        if lists:
            return Sidecar(path, problem=f"the sidecar has no list {' and no list '.join(lists)}")
        return Sidecar(path, content)

    def _members_of_table(self, path: Path) -> frozenset[str]:
        """Participants of a table of participant_id."""
        return frozenset(read_table(path)["participant_id"])

    def usable(self) -> frozenset[str]:
        """Participants with an included scan."""
        table = read_table(self.results / "quality/inclusion.tsv", text_columns=("scan", "participant_id", "reason"))
        return frozenset(table.loc[table["included"].astype(str).str.lower() == "true", "participant_id"])

    def cohorts_read(self, path: Path) -> frozenset[str]:
        """The cohorts named in the paths of a sidecar's sources: whose components, maps or kernels it read."""
        return frozenset(name for source in self.sidecar(path).sources for name in cohorts_in(source))

    def tables_read(self, path: Path) -> frozenset[str]:
        """The label tables named there, those behind a selection too."""
        return frozenset(name for source in self.sidecar(path).sources for name in _TABLES.findall(f"/{source}"))

    def labels_read(self, path: Path) -> frozenset[str]:
        """Everyone in a label table among a sidecar's sources."""
        tables = [Path(source) for source in self.sidecar(path).sources if _LABEL_TABLE.search(f"/{source}")]
        return frozenset().union(*(self.members_of_table(table) for table in tables if table.is_file()))

    def _source_problems(self, path: Path) -> tuple[str, ...]:
        """Sources that are gone or no longer what was read.

        Arrays and images of one participant may have been removed as temporary; any other source must still be there.
        """
        problems = []
        for source, recorded in self.sidecar(path).sources.items():
            if not Path(source).is_file():
                if not _TEMPORARY.search(f"/{source}"):
                    problems.append(f"{source}, which it was made from, is missing")
            elif self._digest(source) != recorded:
                problems.append(f"{source} is not the file it was made from")
        return tuple(problems)

    def _eigenvalue_problem(self, cohort: str, order: int) -> str | None:
        """Whether the group PCA of the claimed participants has the eigenvalues on record; of a merged one, its steps."""
        from restresponse.group_ica.group_pca import gram_matrix, leading_eigenpairs
        from restresponse.metrics.merges import merge_problem

        if not self._layout.exact:
            return merge_problem(self, self._layout, cohort, order)
        sidecar = self.sidecar(self.results / f"group_ica/{cohort}/order-{order}/components.json")
        recorded = np.asarray(sidecar.content.get("eigenvalues") or [], np.float64)
        claimed = sorted(sidecar.participants("fitted_on"))
        known = {
            participant: self.results / f"group_ica/participants/{batch}/{participant}_reduced.npy"
            for batch, members in self._batches.items()
            for participant in members
        }
        unknown = [participant for participant in claimed if participant not in known]
        if unknown or not len(recorded) or not claimed:
            return f"no eigenvalues to compare (unknown participants: {', '.join(unknown) or 'none'})"
        sizes = {participant: len(read_array(path)) for participant, path in known.items()}
        tiles = dict(zip(self._layout.tiles, map(self.at, self._layout.tile_files), strict=True))
        gram = gram_matrix(tiles, self._batches, sizes, claimed)
        if len(gram) < len(recorded):
            return f"the claimed participants hold {len(gram)} dimensions, fewer than the {len(recorded)} on record"
        found, _ = leading_eigenpairs(gram, len(recorded))
        gap = np.max(np.abs(found - recorded) / recorded)
        return None if gap < _TOLERANCE else f"the claimed participants' group PCA has other eigenvalues (by {gap:.1%})"

    def _selection_problem(self, cohort: str, order: int, labels: str) -> str | None:
        """Whether Welch's t of the claimed participants and labels is the one on record (scipy, not the stage's code)."""
        from scipy import stats

        folder = self.results / f"components/{cohort}/order-{order}"
        claimed = sorted(self.sidecar(folder / f"labels-{labels}/components.json").participants("labels_of"))
        amplitudes = read_table(folder / "amplitudes.tsv").set_index("participant_id")
        truth = read_table(self.results / f"folds/labels/{labels}.tsv").set_index("participant_id")["response"]
        lacking = sorted(set(claimed) - set(amplitudes.index) | set(claimed) - set(truth.index))
        if lacking or not claimed:
            return f"{', '.join(lacking) or 'nobody'} on record has both an amplitude and a label in the table it read"
        responder = truth.loc[claimed].to_numpy(int) == 1
        values = amplitudes.loc[claimed].to_numpy(np.float64)
        t = np.nan_to_num(stats.ttest_ind(values[responder], values[~responder], equal_var=False).statistic)
        table = read_table(folder / f"labels-{labels}/components.tsv", text_columns=("network", "direction"))
        recorded = table["t"].to_numpy(np.float64)
        if len(t) != len(recorded):
            return f"{len(recorded)} components are on record; the amplitudes have {len(t)}"
        gap = np.max(np.abs(t - recorded) / np.maximum(np.abs(recorded), 1.0))
        return None if gap < _TOLERANCE else f"the claimed participants' group test gives other t values (by {gap:.2g})"


def cohorts_in(path: str | Path) -> frozenset[str]:
    """The cohorts that a path names."""
    return frozenset(_COHORTS.findall(f"/{path}"))
