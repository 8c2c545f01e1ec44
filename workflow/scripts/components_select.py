"""Test the components of one cohort between the groups of a label table and select."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.components.tables import select_components

    settings = {name: snakemake.params[name] for name in ("thresholds", "require_match", "normalise", "seed")}
    select_components(**snakemake.input, **settings, **snakemake.output)
