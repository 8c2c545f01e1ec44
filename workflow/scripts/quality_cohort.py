"""Write the quality page of all scans."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.quality.pages.cohort import write_cohort_page

    batches = snakemake.params.batches
    write_cohort_page(
        files_of(snakemake.input.measures, batches, ".json"),
        files_of([f"pages/{batch}" for batch in batches], batches, ".html"),
        snakemake.input.inclusion,
        snakemake.output[0],
        settings=snakemake.params.settings,
        minimum_dof=snakemake.params.minimum_dof,
        title=snakemake.params.title,
    )
