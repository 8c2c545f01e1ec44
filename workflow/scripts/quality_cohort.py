"""Write the quality pages of all scans."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.pages.cohort import write_cohort_pages

    write_cohort_pages(
        snakemake.input.measures,
        snakemake.input.inclusion,
        **dict(snakemake.output),
        **snakemake.params.page,
    )
