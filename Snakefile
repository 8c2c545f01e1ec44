# restresponse: who responds to a treatment, from resting-state fMRI, and how much of the accuracy is optimism.
# A table of contents in the order the data flows. One stage is one word: workflow/rules/<stage>.smk has the rules (and
# <stage>_<part>.smk those that would make it too long), workflow/scripts/<stage>_<step>.py their adapters,
# workflow/lib/restresponse/<stage> the science, config/config.yaml its section and results/<stage>/ what it writes.
from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/anatomical.smk"
include: "workflow/rules/functional.smk"
include: "workflow/rules/quality.smk"
include: "workflow/rules/folds.smk"
include: "workflow/rules/group_ica.smk"
include: "workflow/rules/dual_regression.smk"
include: "workflow/rules/components.smk"
include: "workflow/rules/classifier.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/metrics_null.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        all_targets(),
