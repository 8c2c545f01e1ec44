"""What each network adds to the decisions of one fold's model on its test participants."""

from restresponse.adapter import job

with job(snakemake):
    from restresponse.classifier.explanation import explain_fold

    explain_fold(
        **dict(snakemake.input),
        fold=snakemake.wildcards.fold,
        **snakemake.params.row,
        **snakemake.params.settings,
        **dict(snakemake.output),
    )
