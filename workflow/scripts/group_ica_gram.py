"""Inner products between the reduced maps of two batches of participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.group_ica.group_pca import compute_tile

    first, second = snakemake.input
    compute_tile(
        first=[f"{first}/{name}_reduced.npy" for name in snakemake.params.rows],
        second=[f"{second}/{name}_reduced.npy" for name in snakemake.params.columns],
        tile=snakemake.output[0],
    )
