"""Fit the group components of one cohort."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.cohort import fit_cohort

    fit_cohort(
        cohort=snakemake.wildcards.cohort,
        reduced=dict(zip(snakemake.params.participants, snakemake.input.reduced, strict=True)),
        tiles=dict(zip(map(tuple, snakemake.params.tiles), snakemake.input.tiles, strict=True)),
        folds=str(snakemake.input.folds) or None, mask=snakemake.input.mask,
        n_components=int(snakemake.wildcards.order), members=snakemake.params.members,
        seed=snakemake.params.seed, **snakemake.params.settings, **snakemake.output,
    )  # fmt: skip
