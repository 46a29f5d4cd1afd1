# Single-cell drug sensitivity: 5 % (few-shot) or 80 % (full data) of the cells to train on, otherwise as cell annotation.
wildcard_constraints:
    drug_task="drug_few_shot|drug_full",


use rule annotation_splits as drug_splits with:
    output:
        results("splits/{drug_task}/{data_set}.json"),
    log:
        log_of("splits/{drug_task}/{data_set}"),
    benchmark:
        times_of("splits/{drug_task}/{data_set}")
    params:
        task="{drug_task}",
        settings=per(plan.splits, "{drug_task}"),


# Few-shot and full data in one job: they share what the frozen layers make of a cell.
use rule annotate as drug_sensitivity with:
    input:
        encoder_of,
        per(plan.row_files, "{model}", "{data_set}"),
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=expand(
            rules.drug_splits.output,
            drug_task=plan.tasks("drug_sensitivity"),
            allow_missing=True,
        ),
    output:
        plan.row_outputs("drug_sensitivity"),
    log:
        log_of("drug_sensitivity/{data_set}/{model}"),
    benchmark:
        times_of("drug_sensitivity/{data_set}/{model}")
    params:
        settings=unwatched(plan.settings, "drug_sensitivity", "{model}"),
        science=per(plan.science, "drug_sensitivity", "{model}"),
        protocols=config["drug_sensitivity"]["protocols"],


use rule annotate_controls as drug_sensitivity_controls with:
    input:
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=rules.drug_sensitivity.input.splits,
    output:
        plan.control_outputs("drug_sensitivity"),
    log:
        log_of("drug_sensitivity_controls/{data_set}"),
    benchmark:
        times_of("drug_sensitivity_controls/{data_set}")
    params:
        model=plan.control_rows("drug_sensitivity"),
        protocols=config["drug_sensitivity"]["protocols"],
