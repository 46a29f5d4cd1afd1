# Single-cell drug sensitivity: 5 % (few-shot) or 80 % (full data) of the cells to train on, otherwise as cell annotation.
def drug_splits_settings(wildcards):
    chosen = config["drug_sensitivity"]["splits"][wildcards.drug_task]
    return as_json(chosen | {"seed": config["seed"]})


def drug_sensitivity_scores():
    return expand(
        score_files(
            "drug_sensitivity",
            config["drug_sensitivity"]["splits"],
            "{data_set}",
            ["csv"],
        ),
        data_set=config["data_sets"]["single_cell_drug"],
        model=config["drug_sensitivity"]["models"],
    )


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
        settings=drug_splits_settings,


# Few-shot and full data in one job: they share what the frozen layers make of a cell.
use rule annotate as drug_sensitivity with:
    input:
        encoder_of,
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=expand(
            rules.drug_splits.output,
            drug_task=config["drug_sensitivity"]["splits"],
            allow_missing=True,
        ),
    output:
        score_files(
            "drug_sensitivity", config["drug_sensitivity"]["splits"], "{data_set}"
        ),
    log:
        log_of("drug_sensitivity/{data_set}/{model}"),
    benchmark:
        times_of("drug_sensitivity/{data_set}/{model}")
    params:
        settings=settings_in("drug_sensitivity"),
        protocols=config["drug_sensitivity"]["protocols"],
