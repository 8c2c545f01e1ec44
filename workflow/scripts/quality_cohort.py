"""Write the quality page of all scans."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.pages.cohort import write_cohort_page

    write_cohort_page(
        snakemake.input.measures,
        snakemake.input.inclusion,
        snakemake.output[0],
        settings=snakemake.params.settings,
        minimum_dof=snakemake.params.minimum_dof,
        title=snakemake.params.title,
    )
