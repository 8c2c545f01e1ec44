"""Render the report page."""

from restresponse.adapter import job

with job(snakemake):
    from pathlib import Path

    from restresponse.report.page import Run, write_page

    write_page(Run(results=Path("results"), **snakemake.params.settings), snakemake.output[0])
