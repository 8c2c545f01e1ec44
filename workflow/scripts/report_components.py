"""Render the page of one order's components."""

from restresponse.adapter import job

with job(snakemake):
    from pathlib import Path

    from restresponse.report.components_page import ComponentsRun, write_components_page

    write_components_page(ComponentsRun(results=Path("results"), **snakemake.params.settings), snakemake.output[0])
