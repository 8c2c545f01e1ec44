"""Fit the group components of one cohort."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.group_ica.cohort import fit_cohort

    given, batches = snakemake.input, snakemake.params.batches
    fit_cohort(
        cohort=snakemake.wildcards.cohort, members=batches, mask=given.mask, folds=str(given.folds) or None,
        reduced=files_of(given.reduced, batches, "_reduced.npy"), n_components=int(snakemake.wildcards.order),
        tiles=dict(zip(map(tuple, snakemake.params.tiles), given.tiles, strict=True)),
        blocks=given.blocks, products=given.products, facts=given.facts,
        seed=snakemake.params.seed, **snakemake.params.settings, **snakemake.output,
    )  # fmt: skip
