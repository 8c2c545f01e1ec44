"""Write the tables of scans and participants."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.dataset import write_tables

    settings, unwarp = snakemake.params.settings, snakemake.params.unwarp
    write_tables(settings["bids_dir"], settings, snakemake.output.scans, snakemake.output.participants, unwarp)
