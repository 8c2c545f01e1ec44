"""Measure the components of one cohort: their networks, and each participant's amplitudes."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.components.tables import measure_components

    files = {name: snakemake.input[name] for name in ("components", "component_facts", "mask")}
    for name in ("maps", "time_courses"):
        files[name] = dict(zip(snakemake.params.participants, snakemake.input[name], strict=True))
    measure_components(**files, **snakemake.params.settings, **snakemake.output)
