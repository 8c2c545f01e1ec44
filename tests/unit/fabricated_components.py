"""The fabricated results' group ICA, dual regression, measures, selections and kernels, by the stages' own functions."""

from __future__ import annotations

from itertools import product

import numpy as np
from fabricated_cohort import ORDER, PARTICIPANTS, batch_of, scan_of

from restresponse.batches import files_of
from restresponse.classifier.kernel import compute_kernel
from restresponse.components.tables import measure_components, select_components
from restresponse.dual_regression import regress_batch, restrict_batch
from restresponse.files import write_image
from restresponse.group_ica.cohort import fit_cohort
from restresponse.group_ica.group_pca import compute_tile
from restresponse.group_ica.reduction import reduce_participant
from restresponse.plan import Plan


def write_components(plan: Plan, batches: dict[str, list[str]]) -> None:
    """Group ICA, dual regression, measures, selections, refitted maps and kernels of every cohort."""
    mask, inclusion = "results/quality/group_mask.nii.gz", "results/quality/inclusion.tsv"
    bold, reduced = {}, {}
    for name in PARTICIPANTS:
        scan = scan_of(name)
        cleaned = f"results/functional/denoised/{batch_of(batches, name)}"
        bold[name] = {scan: f"{cleaned}/{scan}_space-MNI152_desc-denoised_bold.nii.gz"}
        reduced[name] = f"results/group_ica/participants/{batch_of(batches, name)}/{name}_reduced.npy"
        reduce_participant(
            bold=bold[name],
            mask=mask,
            inclusion=inclusion,
            participant=name,
            n_dimensions=10,
            reduced=reduced[name],
            sidecar=reduced[name].replace(".npy", ".json"),
        )
    tiles = {(a, b): f"results/group_ica/gram/{a}_{b}.npy" for a in batches for b in batches if a <= b}
    for (a, b), tile in tiles.items():
        compute_tile(first=[reduced[p] for p in batches[a]], second=[reduced[p] for p in batches[b]], tile=tile)
    write_image("template.nii.gz", *_template(mask))
    for cohort in plan.cohorts:
        group = f"results/group_ica/{cohort}/order-{ORDER}/components"
        fit_cohort(
            cohort=cohort,
            reduced=reduced,
            tiles=tiles,
            members=batches,
            folds=None if cohort == "all" else "results/folds/folds.tsv",
            mask=mask,
            n_components=ORDER,
            restarts=3,
            subsample=20000,
            tolerance=1e-6,
            max_iterations=500,
            seed=1,
            components=f"{group}.npy",
            image=f"{group}.nii.gz",
            table=f"{group}.tsv",
            sidecar=f"{group}.json",
        )
        folder = f"results/dual_regression/{cohort}/order-{ORDER}"
        folders = [f"{folder}/asc/{batch}" for batch in batches]
        for batch, members in batches.items():
            regress_batch(
                bold={name: bold[name] for name in members},
                measures=f"results/quality/scans/{batch}",
                mask=mask,
                inclusion=inclusion,
                components=f"{group}.npy",
                component_facts=f"{group}.json",
                normalise_time_courses=True,
                folder=f"{folder}/asc/{batch}",
            )
        measured = f"results/components/{cohort}/order-{ORDER}"
        measure_components(
            components=f"{group}.npy",
            component_facts=f"{group}.json",
            mask=mask,
            maps=files_of(folders, batches, "_maps.npy"),
            residuals=files_of(folders, batches, "_residual.npy"),
            time_courses=files_of(folders, batches, "_timecourses.tsv"),
            threshold=2,
            match_threshold=0.0,
            template="template.nii.gz",
            template_labels=None,
            amplitudes=f"{measured}/amplitudes.tsv",
            variability=f"{measured}/variability.tsv",
            matches=f"{measured}/matches.tsv",
            networks=f"{measured}/networks.tsv",
            sidecar=f"{measured}/measures.json",
        )
        pairs = {(plan.cohort(*key), plan.selection_labels(*key)) for key in product(plan.protocols, plan.folds)}
        for labels in sorted(labels for name, labels in pairs if name == cohort):
            _select(plan, batches, cohort, labels)
        compute_kernel(
            mask=mask,
            maps=files_of(folders, batches, "_maps.npy"),
            voxel_size=None,
            gram=f"results/classifier/kernels/{cohort}/order-{ORDER}/gram.npy",
            sums=f"results/classifier/kernels/{cohort}/order-{ORDER}/sums.npy",
            record=f"results/classifier/kernels/{cohort}/order-{ORDER}/gram.json",
        )


def _template(mask: str) -> tuple[np.ndarray, np.ndarray]:
    """A label image of four slabs along x, as networks."""
    import nibabel as nib

    image = nib.load(mask)
    labels = np.zeros(image.shape, np.int16)
    for number, part in enumerate(np.array_split(np.arange(image.shape[0]), ORDER), start=1):
        labels[part] = number
    return labels, image.affine


def _select(plan: Plan, batches: dict[str, list[str]], cohort: str, labels: str) -> None:
    measured = f"results/components/{cohort}/order-{ORDER}"
    select_components(
        amplitudes=f"{measured}/amplitudes.tsv",
        variability=f"{measured}/variability.tsv",
        matches=f"{measured}/matches.tsv",
        measures_facts=f"{measured}/measures.json",
        labels=f"results/folds/labels/{labels}.tsv",
        thresholds=plan.curve,
        require_match=False,
        normalise=True,
        seed=1,
        table=f"{measured}/labels-{labels}/components.tsv",
        sidecar=f"{measured}/labels-{labels}/components.json",
    )
    folder = f"results/dual_regression/{cohort}/order-{ORDER}"
    for threshold in plan.thresholds:
        for batch, members in batches.items():
            restrict_batch(
                all_maps=f"{folder}/asc/{batch}",
                participants=members,
                components=f"results/group_ica/{cohort}/order-{ORDER}/components.npy",
                selection=f"{measured}/labels-{labels}/components.tsv",
                selection_facts=f"{measured}/labels-{labels}/components.json",
                threshold=threshold,
                normalise=True,
                folder=f"{folder}/ssc_labels-{labels}_p-{threshold}/{batch}",
            )
