"""Write the template's brain on the grid."""

from restresponse.adapter import job  # first: sets one BLAS thread

with job(snakemake):
    from restresponse.quality.group_mask import write_group_mask

    write_group_mask(snakemake.output.mask, snakemake.params.voxel_size)
