"""The stored inner products that a job of linear models is given, and what channels of a selection are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from restresponse.batches import files_of
from restresponse.classifier.kernel import MapProducts
from restresponse.classifier.selection import Selector
from restresponse.dual_regression import read_time_courses, restrictions, spatial_gram
from restresponse.errors import InputError
from restresponse.files import read_array, read_json

Paths = Sequence[str | Path]


@dataclass(frozen=True)
class KernelFiles:
    """Input files of a job, in the order of its distinct cohorts.

    Attributes
    ----------
    gram, sums, records : one path a cohort
    amplitudes, matches : one a cohort, of the first cohort alone, or none where nothing is selected in the job
    components, all_maps : where maps are refitted: one path a cohort, and folders of the maps on all components, one for
        each batch within each cohort
    """

    gram: Paths
    sums: Paths
    records: Paths
    amplitudes: Paths = ()
    matches: Paths = ()
    components: Paths = ()
    all_maps: Paths = ()

    def read(
        self,
        cohorts: Sequence[str],
        batches: Mapping[str, Sequence[str]],
        *,
        p: float | None,
        normalise: bool,
        require_match: bool,
    ) -> Kernels:
        """Read the kernels of `cohorts`; `p` is the threshold of the arm's selection, the others are of the config."""
        facts = [read_json(record) for record in self.records]
        names = list(facts[0]["participants"])
        if any(fact["participants"] != names for fact in facts):
            raise InputError(
                "the kernels of the cohorts hold different participants; remove results/classifier/kernels, run again"
            )
        made = Kernels(names)
        for index, cohort in enumerate(cohorts):
            restrict = None
            if self.all_maps:
                folders = self.all_maps[index * len(batches) : (index + 1) * len(batches)]
                courses = list(files_of(folders, batches, "_timecourses.tsv", names).values())
                made.time_courses += courses
                restrict = refitting(self.components[index], courses, normalise)
            n_voxels = facts[index]["n_voxels"]
            made.products[cohort] = MapProducts.read(self.gram[index], self.sums[index], n_voxels, restrict)
            if index < len(self.amplitudes):
                pair = self.amplitudes[index], self.matches[index]
                made.selectors[cohort] = Selector.read(*pair, names, p, require_match)
        made.sources += [*self.gram, *self.sums, *self.records, *self.amplitudes, *self.matches, *self.components]
        return made


@dataclass
class Kernels:
    """What was read: the participants in the kernels' order and, by cohort, their products and their selection.

    `sources` and `time_courses` are the files it was read from.
    """

    names: list[str]
    products: dict[str, MapProducts] = field(default_factory=dict)
    selectors: dict[str, Selector] = field(default_factory=dict)
    sources: list[str | Path] = field(default_factory=list)
    time_courses: list[str | Path] = field(default_factory=list)

    def at(self, participants: Sequence[str]) -> np.ndarray:
        """Positions of participants; those without maps are an `InputError`."""
        position = {name: index for index, name in enumerate(self.names)}
        missing = sorted(set(participants) - set(position))
        if missing:
            raise InputError(
                f"the kernels have no maps of {', '.join(missing)}; remove results/classifier/kernels and run again"
            )
        return np.array([position[name] for name in participants], int)


def refitting(
    components: str | Path, time_courses: Sequence[str | Path], normalise: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the selected components that gives every participant's matrix of `dual_regression.restriction`."""
    gram = spatial_gram(read_array(components))
    covariances = np.stack(
        [np.atleast_2d(np.cov(read_time_courses(path), rowvar=False, bias=True)) for path in time_courses]
    )
    return lambda selected: restrictions(covariances, gram, selected, normalise=normalise)
