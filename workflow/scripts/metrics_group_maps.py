"""Responders and non-responders compared in everyone's maps, voxel by voxel."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.metrics.group_maps import write_group_maps

    files = {name: snakemake.input[name] for name in ("labels", "mask", "amplitudes", "variability")}
    files["maps"] = files_of(snakemake.input.maps, snakemake.params.batches, "_maps.npy")
    write_group_maps(**files, **snakemake.params.settings, **snakemake.output)
