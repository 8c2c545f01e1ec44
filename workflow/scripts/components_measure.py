"""Measure the components of one cohort: their networks, and each participant's amplitudes."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.batches import files_of
    from restresponse.components.tables import measure_components

    files = {name: snakemake.input[name] for name in ("components", "component_facts", "mask")}
    for name, ending in (("maps", "_maps.npy"), ("residuals", "_residual.npy"), ("time_courses", "_timecourses.tsv")):
        files[name] = files_of(snakemake.input.maps, snakemake.params.batches, ending)
    measure_components(**files, **snakemake.params.settings, **snakemake.output)
