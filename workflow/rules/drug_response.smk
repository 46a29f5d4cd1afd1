# Cell-line drug response: pairs of a cell line and a drug, split by pairs (warm) or by cell lines (cold).


# One screen; a run without tables of drug response needs none.
PAIRS = plan.paths(RESPONSES, config["data_sets"]["response"])
LINES = plan.paths(CELLS, config["data_sets"]["expression"])


wildcard_constraints:
    response_task="response_warm|response_cold",


use rule annotation_splits as pair_splits with:
    input:
        PAIRS,
        cells=LINES,
    output:
        results("splits/{response_task}/gdsc_ccle.json"),
    log:
        log_of("splits/{response_task}/gdsc_ccle"),
    benchmark:
        times_of("splits/{response_task}/gdsc_ccle")
    conda:
        "../../envs/gpu.yaml"
    params:
        task="{response_task}",
        data_set=SCREEN,
        responses=["--responses", *PAIRS],
        settings=per(plan.splits, "{response_task}"),


# Warm and cold in one job: they share what the frozen layers make of a cell line.
use rule annotate as drug_response with:
    input:
        encoder_of,
        per(plan.row_files, "{model}", SCREEN),
        PAIRS,
        cells=LINES,
        genes=rules.genes.output.genes,
        splits=expand(
            rules.pair_splits.output, response_task=plan.tasks("drug_response")
        ),
    output:
        plan.row_outputs("drug_response"),
    log:
        log_of("drug_response/{model}"),
    benchmark:
        times_of("drug_response/{model}")
    params:
        data_set=SCREEN,
        responses=["--responses", *PAIRS],
        model=per(plan.scored_row, "{model}", SCREEN),
        settings=unwatched(plan.settings, "drug_response", "{model}"),
        science=per(plan.science, "drug_response", "{model}"),
        protocols=config["drug_response"]["protocols"],


use rule annotate_controls as drug_response_controls with:
    input:
        PAIRS,
        cells=LINES,
        genes=rules.genes.output.genes,
        splits=rules.drug_response.input.splits,
    output:
        plan.control_outputs("drug_response"),
    log:
        log_of("drug_response_controls"),
    benchmark:
        times_of("drug_response_controls")
    params:
        data_set=SCREEN,
        responses=["--responses", *PAIRS],
        model=plan.control_rows("drug_response"),
        protocols=config["drug_response"]["protocols"],
