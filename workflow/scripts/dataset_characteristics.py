"""What is known of each participant before treatment."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.dataset.characteristics import write_characteristics

    write_characteristics(**snakemake.input, **snakemake.output, **snakemake.params.settings)
