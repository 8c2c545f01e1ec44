"""A small cohort of maps on disk, in the workflow's own layout, for the tests of stage `classifier`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd

from restresponse.batches import batches_of, files_of
from restresponse.classifier.kernel import compute_kernel
from restresponse.classifier.protocols import config_row, linear_files, linear_views, network_files
from restresponse.components.selection import group_test, select
from restresponse.dual_regression import restriction, spatial_gram
from restresponse.files import write_array, write_json, write_table
from restresponse.plan import Plan

EDGE, N_COMPONENTS, N_SCANS = 27, 4, 40
FOLDS = ["rep-1_fold-01", "rep-1_fold-02", "rep-1_fold-03"]
CLEAN = {"group_ica": "training", "selection": "training", "hyperparameters": "inner_folds", "epoch": "inner_folds"}
PAPER = {"group_ica": "all", "selection": "all", "hyperparameters": "reported_folds", "epoch": "reported_folds"}
VOXNET = {
    "kind": "network",
    "preset": "voxnet",
    "learning_rate": 0.001,
    "epsilon": 0.1,
    "dropout": 0.3,
    "batch_size": 4,
    "epochs": 2,
    "patience": 2,
}


def config(**classifier):
    """A validated config as far as the classifier reads it."""
    return {
        "functional": {"voxel_size": 6},
        "folds": {"n_folds": len(FOLDS), "repeats": 1},
        "group_ica": {"n_components": N_COMPONENTS},
        "components": {"thresholds": []},
        "metrics": {"ladder": False},
        "classifier": {
            "voxel_size": None,
            "protocols": {"clean": CLEAN, "paper": PAPER, "selection_alone": CLEAN | {"selection": "all"}},
            "arms": {
                "asc": {"input": "components", "select": False, "models": ["voxnet", "linear"]},
                "ssc": {
                    "input": "components",
                    "select": True,
                    "p": 0.1,
                    "maps": "refit",
                    "models": ["voxnet", "linear"],
                },
                "rows": {"input": "components", "select": True, "p": 0.1, "maps": "subset", "models": ["linear"]},
                "rsp": {"input": "volumes", "volumes": 3, "models": ["voxnet"]},
            },
            "models": {"voxnet": VOXNET, "linear": {"kind": "linear", "penalties": [0.01, 0.1, 1, 10]}},
        }
        | classifier,
    }


@dataclass
class Cohort:
    """Participants' maps, time courses, amplitudes and labels; `write` lays them out under the current folder."""

    maps: np.ndarray  # (n, K, V)
    mask: np.ndarray
    response: np.ndarray
    courses: np.ndarray  # (n, N_SCANS, K)
    components: np.ndarray  # (K, V)
    names: list[str] = field(default_factory=list)
    change: np.ndarray | None = None  # (n,) percent fall of pain, NaN where it is not known
    affine: np.ndarray = field(default_factory=lambda: np.diag([6.0, 6, 6, 1]))

    @classmethod
    def of(cls, n_responders: int = 6, n_others: int = 6, effect: float = 0.0, seed: int = 1) -> Cohort:
        """Noise around common maps; responders have `effect` more of component 2."""
        rng = np.random.default_rng(seed)
        axes = np.linspace(-1, 1, EDGE)
        x, y, z = np.meshgrid(axes, axes, axes, indexing="ij")
        mask = x**2 + y**2 + z**2 < 0.5
        n, n_voxels = n_responders + n_others, int(mask.sum())
        components = rng.standard_normal((N_COMPONENTS, n_voxels))
        response = (
            np.tile([1, 0], n)[:n] if n_responders == n_others else np.r_[np.ones(n_responders), np.zeros(n_others)]
        )
        response = response.astype(int)
        maps = components + rng.standard_normal((n, N_COMPONENTS, n_voxels))
        maps[response == 1, 1] += effect * components[1]
        courses = rng.standard_normal((n, N_SCANS, N_COMPONENTS))
        return cls(
            maps.astype(np.float32), mask, response, courses, components, [f"sub-{i:02d}" for i in range(1, n + 1)]
        )

    @property
    def tests(self) -> dict[str, list[int]]:
        """Positions of the test participants of each fold, both classes in each."""
        order = np.concatenate([np.flatnonzero(self.response == group) for group in (1, 0)])
        return {fold: sorted(order[start :: len(FOLDS)].tolist()) for start, fold in enumerate(FOLDS)}

    @property
    def batches(self) -> dict[str, list[str]]:
        """Three batches."""
        return batches_of(self.names, 5)

    def batch_of(self, name: str) -> str:
        """The batch of a participant."""
        return next(batch for batch, members in self.batches.items() if name in members)

    @property
    def amplitudes(self) -> np.ndarray:
        """(n, K)."""
        return np.einsum("nkv,kv->nk", self.maps, self.components) / self.components.shape[1]

    def training(self, labels: str) -> np.ndarray:
        """Positions of the participants of a label table."""
        return np.setdiff1d(np.arange(len(self.names)), self.tests.get(labels, []))

    def selected(self, labels: str, p: float = 0.1) -> np.ndarray:
        """Components selected by the labels of a table."""
        rows = self.training(labels)
        return select(group_test(self.amplitudes[rows], self.response[rows])["p"], p)[0]

    def refit(self, position: int, selected: np.ndarray) -> np.ndarray:
        """Maps of one participant refitted on the selected components, (k, V) float64."""
        gram = spatial_gram(self.components)
        return restriction(self.courses[position], gram, selected) @ self.maps[position].astype(np.float64)

    def write(self) -> None:
        """Write every file that a classifier's job may be given, under `results`."""
        root = Path("results")
        (root / "quality").mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(self.mask.astype(np.uint8), self.affine), root / "quality/group_mask.nii.gz")
        rows = [("1", fold, self.names[i]) for fold, test in self.tests.items() for i in test]
        write_table(root / "folds/folds.tsv", pd.DataFrame(rows, columns=["repeat", "fold", "participant_id"]))
        names = [f"component_{k:02d}" for k in range(1, N_COMPONENTS + 1)]
        for labels in ("all", *FOLDS):
            kept = self.training(labels)
            table = pd.DataFrame({"participant_id": np.array(self.names)[kept], "response": self.response[kept]})
            write_table(root / f"folds/labels/{labels}.tsv", table)
            if self.change is not None:
                measured = table.assign(pain_change=self.change[kept]).dropna()
                write_table(root / f"folds/outcomes/{labels}.tsv", measured)
            self._write_cohort(root, labels, names)

    def _write_cohort(self, root: Path, cohort: str, names: list[str]) -> None:
        order = f"{cohort}/order-{N_COMPONENTS}"
        write_array(root / f"group_ica/{order}/components.npy", self.components.astype(np.float32))
        table = pd.DataFrame(self.amplitudes, columns=names)
        table.insert(0, "participant_id", self.names)
        write_table(root / f"components/{order}/amplitudes.tsv", table)
        write_table(root / f"components/{order}/matches.tsv", pd.DataFrame({"matched": [True] * N_COMPONENTS}))
        for position, name in enumerate(self.names):
            folder = root / f"dual_regression/{order}/asc/{self.batch_of(name)}"
            write_array(folder / f"{name}_maps.npy", self.maps[position])
            courses = pd.DataFrame(self.courses[position], columns=names)
            write_table(folder / f"{name}_timecourses.tsv", courses)
        for labels in {cohort, "all"}:
            chosen = self.selected(labels)
            flags = pd.DataFrame({"selected_p-0.1": np.isin(np.arange(N_COMPONENTS), chosen)})
            write_table(root / f"components/{order}/labels-{labels}/components.tsv", flags)
            for position, name in enumerate(self.names):
                path = root / f"dual_regression/{order}/ssc_labels-{labels}_p-0.1/{self.batch_of(name)}/{name}_maps.npy"
                write_array(path, self.refit(position, chosen).astype(np.float32))

    def write_volumes(self, n_volumes: list[int]) -> None:
        """Write preprocessed volumes of each participant, as `classifier_volumes` does."""
        rng = np.random.default_rng(5)
        for name, count in zip(self.names, n_volumes, strict=True):
            rows = rng.standard_normal((count, int(self.mask.sum()))).astype(np.float32)
            write_array(f"results/classifier/volumes/{self.batch_of(name)}/{name}.npy", rows)
            write_json(f"results/classifier/volumes/{self.batch_of(name)}/{name}.json", {"scan": f"{name}_task-rest"})

    def write_kernels(self, cohorts: tuple[str, ...] = ("all", *FOLDS)) -> None:
        """Write the inner products of each cohort's maps."""
        for cohort in cohorts:
            folder = f"results/classifier/kernels/{cohort}/order-{N_COMPONENTS}"
            source = f"results/dual_regression/{cohort}/order-{N_COMPONENTS}/asc"
            compute_kernel(
                mask="results/quality/group_mask.nii.gz",
                maps=files_of([f"{source}/{batch}" for batch in self.batches], self.batches, "_maps.npy"),
                voxel_size=None,
                gram=f"{folder}/gram.npy",
                sums=f"{folder}/sums.npy",
                record=f"{folder}/gram.json",
            )


def job_of(cohort: Cohort, kind: str, protocol: str, arm: str, fold: str = FOLDS[0], **changed):
    """Arguments of the job function of a kind of model (`network`, `linear`), as the rule gives them, and its folder."""
    settings = config(**changed)
    plan = Plan.of(settings)
    wildcards = SimpleNamespace(
        protocol=protocol, arm=arm, model="voxnet" if kind == "network" else "linear", fold=fold
    )
    folder = Path(f"results/classifier/{protocol}/{arm}/{wildcards.model}/{fold}")
    common = {
        **config_row(plan, wildcards),
        "batches": cohort.batches,
        "fold": fold,
        "seed": 2021,
        "n_inner_folds": 2,
        "normalise": True,
        "require_match": False,
        "predictions": folder / "predictions.tsv",
        "sidecar": folder / "model.json",
    }
    if kind == "network":
        files = network_files(plan, list(cohort.batches), wildcards)
        further = {"voxel_size": None, "gpu": 0, "history": folder / "history.tsv", "network": folder / "model.keras"}
    else:
        files = linear_files(plan, list(cohort.batches), wildcards)
        further = {"views": linear_views(plan, wildcards), "coefficients": folder / "model.npz"}
    return {**common, **files, **further}, folder
