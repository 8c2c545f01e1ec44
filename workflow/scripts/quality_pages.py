"""Write the quality pages of the scans of a batch of participants."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.pages.scan import files_by_scan, write_scan_pages

    write_scan_pages(
        files_by_scan(snakemake.input, snakemake.params.scans, snakemake.params.anatomicals),
        snakemake.output[0],
        settings=snakemake.params.settings,
        minimum_dof=snakemake.params.minimum_dof,
    )
