"""Inner products of all participants' maps, computed once: linear models on them are exact algebra ever after.

With G the inner products of every (participant, channel) map with every other, the kernel of any subset of channels, of
maps refitted on a subset, under any scaling and centring, follows from G and from the sum of each map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restresponse.classifier.inputs import ClassifierGrid, Scaling, read_channels
from restresponse.errors import InputError
from restresponse.files import read_array, write_array
from restresponse.provenance import write_sidecar


def inner_products(maps: Sequence[np.ndarray], block: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Inner products and sums of maps, in blocks of voxels.

    Parameters
    ----------
    maps : one (n_channels, n_voxels) array for each of n_participants
    block : voxels read at once

    Returns
    -------
    gram : (n_participants * n_channels, n_participants * n_channels) float64
    sums : (n_participants, n_channels) float64, over voxels
    """
    n_channels, n_voxels = maps[0].shape
    gram = np.zeros((len(maps) * n_channels,) * 2)
    sums = np.zeros(len(maps) * n_channels)
    for start in range(0, n_voxels, block):
        stacked = np.concatenate([rows[:, start : start + block] for rows in maps]).astype(np.float64)
        gram += stacked @ stacked.T
        sums += stacked.sum(axis=1)
    return gram, sums.reshape(len(maps), n_channels)


def compute_kernel(
    *,
    mask: str | Path,
    maps: Mapping[str, str | Path],
    voxel_size: float | None,
    gram: str | Path,
    sums: str | Path,
    record: str | Path,
) -> None:
    """Write the inner products of a cohort's maps on the classifier's grid.

    `maps` are paths by participant, in the order of the rows; participants without an included scan are left out.
    """
    target = ClassifierGrid.of(mask, voxel_size)
    found = {name: read_channels(path, name, target) for name, path in maps.items()}
    kept = [name for name in maps if len(found[name])]
    if not kept:
        raise InputError(
            "no participant has maps; expected at least two: see results/quality/inclusion.tsv for the reasons"
        )
    products, totals = inner_products([found[name] for name in kept])
    write_array(gram, products)
    write_array(sums, totals)
    write_sidecar(
        record,
        applied_to=kept,
        sources=[maps[name] for name in kept],
        parameters={"voxel_size": voxel_size},
        participants=kept,
        n_channels=totals.shape[1],
        n_voxels=target.n_voxels,
        left_out=[{"participant_id": name, "reason": "no included scan"} for name in maps if name not in kept],
    )


@dataclass(frozen=True)
class Channels:
    """An arm's channels as inner products: of the maps of the same channel, participant by participant.

    Attributes
    ----------
    products : (n_channels, n_participants, n_participants) float64
    sums : (n_participants, n_channels) float64, over voxels
    n_voxels : int
    """

    products: np.ndarray
    sums: np.ndarray
    n_voxels: int

    def scaling(self, training: np.ndarray) -> Scaling:
        """Mean and standard deviation of each channel over the training participants (positions) and voxels."""
        squares = np.einsum("cii->ic", self.products)[training].sum(axis=0)
        return Scaling.of_sums(self.sums[training].sum(axis=0), squares, len(training) * self.n_voxels)

    def kernel(self, training: np.ndarray) -> np.ndarray:
        """Inner products `(n_participants, n_participants)` of all channels, each scaled by the training participants.

        Not centred: the channels' means drop out when the kernel is (`centred`).
        """
        return np.tensordot(1 / self.scaling(training).deviation ** 2, self.products, axes=1)


class MapProducts:
    """The stored inner products of a cohort, from which the channels of any selection are made.

    Parameters
    ----------
    gram : (n * K, n * K) array of `inner_products`
    sums : (n, K) array
    n_voxels : int
    restrict : for maps refitted on a selection, the function of the selected components (k,) that gives each participant's
        matrix of `dual_regression.restriction`, (n, k, K); None: a selection is a subset of the maps
    """

    def __init__(
        self,
        gram: np.ndarray,
        sums: np.ndarray,
        n_voxels: int,
        restrict: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        n, channels = sums.shape
        self._gram, self._sums, self._n_voxels, self._restrict = (
            gram.reshape(n, channels, n, channels),
            sums,
            n_voxels,
            restrict,
        )
        self._made: dict[tuple[int, ...], Channels] = {}

    @classmethod
    def read(
        cls,
        gram: str | Path,
        sums: str | Path,
        n_voxels: int,
        restrict: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> MapProducts:
        """Read what `compute_kernel` wrote."""
        return cls(read_array(gram, memory_map=False), read_array(sums, memory_map=False), n_voxels, restrict)

    def channels(self, selected: np.ndarray | None = None) -> Channels:
        """Channels of the selected components (k,); None: all of them, as they are. Kept for the next call."""
        key = (-1,) if selected is None else tuple(int(index) for index in selected)
        if key not in self._made:
            self._made[key] = self._make(selected)
        return self._made[key]

    @property
    def n_components(self) -> int:
        """Maps of each participant."""
        return self._sums.shape[1]

    def forget(self) -> None:
        """Drop the channels that were kept."""
        self._made.clear()

    def _make(self, selected: np.ndarray | None) -> Channels:
        if selected is None or self._restrict is None:
            index = np.arange(self._sums.shape[1]) if selected is None else np.asarray(selected, int)
            products = np.stack([self._gram[:, channel, :, channel] for channel in index])
            return Channels(products, self._sums[:, index], self._n_voxels)
        n, n_all = self._sums.shape
        matrices = self._restrict(np.asarray(selected, int))
        half = np.matmul(matrices, self._gram.reshape(n, n_all, n * n_all)).reshape(n, len(selected), n, n_all)
        products = np.einsum("iajd,jad->aij", half, matrices, optimize=True)
        return Channels(products, np.einsum("iac,ic->ia", matrices, self._sums), self._n_voxels)


def centred(kernel: np.ndarray, training: np.ndarray) -> np.ndarray:
    """The kernel `(n, n)` of features centred on the mean of the training participants (positions)."""
    to_training = kernel[:, training].mean(axis=1)
    return kernel - to_training[:, None] - to_training[None, :] + to_training[training].mean()


def unit_kernel(kernel: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, float]:
    """The centred kernel of all participants with the training ones, of unit mean square norm in training.

    Parameters
    ----------
    kernel : (n, n) array, not centred
    training : positions of the participants that everything is fitted on

    Returns
    -------
    scaled : (n, n_training) float64
    norm : mean square norm in training; `scaled` is the centred kernel over it
    """
    middle = centred(kernel, training)[:, training]
    # The mean square norm sets the unit of the penalty: it does not depend on the numbers of voxels and channels.
    norm = np.trace(middle[training]) / len(training)
    if not norm > 0:
        raise InputError("the training participants have the same maps; expected maps that differ between participants")
    return middle / norm, float(norm)
