"""Which files the group PCA of a cohort is made from: inner products of all pairs, or, above a size, merges and passes.

The path is chosen by the number of participants of the dataset, the same for every cohort, so that the graph of jobs
is known from the config. Every cohort has nodes and passes of its own; none is shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restresponse.batches import files_of

_CHILDREN = 8  # nodes merged into one

FOLDER = "results/group_ica"


def orders_of(settings: Mapping[str, Any]) -> list[int]:
    """The numbers of components under `group_ica` of a validated config, the study's own first."""
    given = settings["n_components"]
    return list(given) if isinstance(given, list) else [given]


@dataclass(frozen=True)
class Record:
    """A sidecar of the merged path, temporary or not, and what it must say.

    Attributes
    ----------
    sidecar : its path
    participants : those below it, whether in the cohort or not
    arrays : other arrays of the merged path that it must name as sources
    reduced : participant -> reduced maps, to be named of those in the cohort, with the table of folds
    """

    sidecar: str
    participants: Sequence[str]
    arrays: Sequence[str]
    reduced: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """The files of the group PCA.

    Attributes
    ----------
    batches : batch -> its participants
    exact : whether it is computed from the inner products of all pairs
    passes : number of passes of the merged path
    parts : part -> its batches: what one job of a merge or a pass reads
    nodes : node -> the nodes it merges, above the parts, which are the leaves
    """

    batches: Mapping[str, Sequence[str]]
    exact: bool
    passes: int
    parts: Mapping[str, Sequence[str]]
    nodes: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, batches: Mapping[str, Sequence[str]], settings: Mapping[str, Any]) -> Layout:
        """The layout for a dataset's batches under `group_ica` of a validated config."""
        limit = settings["exact_limit"]
        exact = sum(map(len, batches.values())) <= limit
        parts = {} if exact else _parts_of(batches, limit)
        return cls(batches, exact, settings["passes"], parts, _nodes_of(list(parts)))

    @property
    def tiles(self) -> list[tuple[str, str]]:
        """The pairs of batches with a tile of inner products; none on the merged path."""
        return [(a, b) for a in self.batches for b in self.batches if a <= b] if self.exact else []

    @property
    def tile_files(self) -> list[str]:
        """The files of the tiles, in their order."""
        return [f"{FOLDER}/gram/{a}_{b}.npy" for a, b in self.tiles]

    @property
    def top(self) -> list[str]:
        """The nodes that none merges, at most eight: the first block is made from them."""
        merged = {child for children in self.nodes.values() for child in children}
        return [node for node in [*self.parts, *self.nodes] if node not in merged]

    def batches_of(self, node: str) -> dict[str, list[str]]:
        """The batches of a part with their participants; none of a node that merges others."""
        return {batch: list(self.batches[batch]) for batch in self.parts.get(node, ())}

    def participants_of(self, node: str) -> list[str]:
        """Participants below a part or a node, whether in the cohort or not."""
        own = [name for members in self.batches_of(node).values() for name in members]
        return own + [name for child in self.nodes.get(node, ()) for name in self.participants_of(child)]

    def folders_of(self, part: str) -> list[str]:
        """The folders of a part's reduced maps, one a batch."""
        return [f"{FOLDER}/participants/{batch}" for batch in self.parts[part]]

    def reduced_of(self, part: str) -> dict[str, str]:
        """Participant -> reduced maps, of a part's participants."""
        return files_of(self.folders_of(part), self.batches_of(part), "_reduced.npy")

    def nodes_below(self, node: str, cohort: str) -> list[str]:
        """The files of the nodes that a node merges; a part has none."""
        return [f"{FOLDER}/{cohort}/merged/{child}.npy" for child in self.nodes.get(node, ())]

    def merged_by(self, node: str, cohort: str) -> list[str]:
        """What a node merges: the folders of a part's reduced maps, or the nodes below."""
        return self.nodes_below(node, cohort) or self.folders_of(node)

    def top_files(self, cohort: str) -> list[str]:
        """The files of the nodes that none merges."""
        return [f"{FOLDER}/{cohort}/merged/{node}.npy" for node in self.top]

    def part_files(self, cohort: str, number: int) -> list[str]:
        """The parts of the product of pass `number`, 1 the first."""
        return [f"{FOLDER}/{cohort}/pass-{number}/{part}.npy" for part in self.parts]

    def block_files(self, cohort: str, number: int) -> list[str]:
        """The blocks that the passes up to `number` multiply."""
        return [f"{FOLDER}/{cohort}/pass-{before}/next.npy" for before in range(number)]

    def product_files(self, cohort: str) -> list[str]:
        """The products of all passes."""
        return [f"{FOLDER}/{cohort}/pass-{number}/product.npy" for number in range(1, self.passes + 1)]

    def inputs(self, kind: str, cohort: str) -> list[str]:
        """What the components of a cohort are computed from: `reduced` and `tiles`, or `blocks`, `products` and `facts`.

        Those of the path that is not taken are none.
        """
        if self.exact:
            folders = [f"{FOLDER}/participants/{batch}" for batch in self.batches]
            return {"reduced": folders, "tiles": self.tile_files}.get(kind, [])
        products = self.product_files(cohort)
        return {
            "blocks": self.block_files(cohort, self.passes),
            "products": products,
            "facts": [product.replace("product.npy", "next.json") for product in products],
        }.get(kind, [])

    def kept_sidecars(self, cohort: str) -> list[str]:
        """The sidecars of the merged path that stay: the tree's and each pass's, with the records of what was temporary."""
        return [] if self.exact else beside(self.block_files(cohort, self.passes + 1))

    def records(self, cohort: str) -> Iterator[Record]:
        """What is on record of every step of the merged path of a cohort, each after those that it was made from."""
        if self.exact:
            return
        folder = f"{FOLDER}/{cohort}"
        for node in [*self.parts, *self.nodes]:
            below, own = self.nodes_below(node, cohort), self.reduced_of(node) if node in self.parts else {}
            yield Record(f"{folder}/merged/{node}.json", self.participants_of(node), below, own)
        everyone = [name for members in self.batches.values() for name in members]
        yield Record(f"{folder}/pass-0/next.json", everyone, self.top_files(cohort), {})
        for number in range(1, self.passes + 1):
            blocks = self.block_files(cohort, number)
            for part in self.parts:
                path = f"{folder}/pass-{number}/{part}.json"
                yield Record(path, self.participants_of(part), blocks[-1:], self.reduced_of(part))
            parts = self.part_files(cohort, number)
            yield Record(f"{folder}/pass-{number}/next.json", everyone, [*parts, *blocks], {})


def beside(paths: Sequence[str | Path]) -> list[str]:
    """The sidecar beside each array."""
    return [str(Path(path).with_suffix(".json")) for path in paths]


def _parts_of(batches: Mapping[str, Sequence[str]], limit: int) -> dict[str, list[str]]:
    """Batches in their order, put together as long as they hold at most `limit` participants."""
    groups: list[list[str]] = []
    held = limit + 1
    for batch, members in batches.items():
        if held + len(members) > limit:
            groups.append([])
            held = 0
        groups[-1].append(batch)
        held += len(members)
    width = max(2, len(str(len(groups))))
    return {f"part-{index:0{width}d}": group for index, group in enumerate(groups, start=1)}


def _nodes_of(leaves: list[str]) -> dict[str, list[str]]:
    """Levels of nodes, each of at most eight of the level below, until eight or fewer are left."""
    nodes: dict[str, list[str]] = {}
    level, below = 2, leaves
    while len(below) > _CHILDREN:
        groups = [below[start : start + _CHILDREN] for start in range(0, len(below), _CHILDREN)]
        width = max(2, len(str(len(groups))))
        above = {f"level-{level}_{index:0{width}d}": group for index, group in enumerate(groups, start=1)}
        nodes |= above
        level, below = level + 1, list(above)
    return nodes
