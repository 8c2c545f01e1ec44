"""Write the tables of scans and participants."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.dataset import write_tables

    write_tables(
        snakemake.params.bids_dir, snakemake.params.settings, snakemake.output.scans, snakemake.output.participants
    )
