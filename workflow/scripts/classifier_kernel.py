"""Inner products of a cohort's maps on the classifier's grid."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.classifier.kernel import compute_kernel

    maps = files_of(snakemake.input.maps, snakemake.params.batches, "_maps.npy")
    compute_kernel(
        mask=snakemake.input.mask, maps=maps, voxel_size=snakemake.params.voxel_size, **dict(snakemake.output)
    )
