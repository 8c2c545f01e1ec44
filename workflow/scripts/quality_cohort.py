"""Write the quality pages of all scans."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.quality.pages.cohort import write_cohort_pages

    batches = snakemake.params.batches
    write_cohort_pages(
        files_of(snakemake.input.measures, batches, ".json"),
        files_of([f"pages/{batch}" for batch in batches], batches, ".html"),
        snakemake.input.inclusion,
        **dict(snakemake.output),
        batches=snakemake.input.pages,
        group_mask=snakemake.input.group_mask,
        **snakemake.params.settings,
    )
