"""Inner products between the reduced maps of two groups of participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.group_pca import compute_tile

    compute_tile(**snakemake.input, tile=snakemake.output[0])
