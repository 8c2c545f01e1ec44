"""Write the table of labels."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.dataset import write_labels

    write_labels(snakemake.input.participants, snakemake.params.settings, snakemake.output[0])
