"""Inner products of a cohort's maps on the classifier's grid."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.kernel import compute_kernel

    compute_kernel(**dict(snakemake.input), **snakemake.params.settings, **dict(snakemake.output))
