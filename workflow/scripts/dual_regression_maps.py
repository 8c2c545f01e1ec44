"""Dual regression of one participant on all components of a cohort."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.dual_regression import regress_participant

    files = dict(snakemake.input)
    for name in ("bold", "records"):
        files[name] = dict(zip(snakemake.params.scans, snakemake.input[name], strict=True))
    regress_participant(
        **files,
        participant=snakemake.wildcards.participant,
        normalise=snakemake.params.normalise,
        **snakemake.output,
    )
