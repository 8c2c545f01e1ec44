"""Write the quality page of one scan."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.pages.scan import write_scan_page

    files = {name: str(path) for name, path in snakemake.input.items() if path}
    write_scan_page(
        files,
        snakemake.output[0],
        settings=snakemake.params.settings,
        minimum_dof=snakemake.params.minimum_dof,
    )
