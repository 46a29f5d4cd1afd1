# Single-cell drug sensitivity: 5 % (few-shot) or 80 % (full data) of the cells to train on, otherwise as cell annotation.
def drug_sensitivity_settings(wildcards):
    return method_settings("drug_sensitivity", wildcards.model)


def drug_splits_settings(wildcards):
    chosen = config["drug_sensitivity"]["splits"][wildcards.drug_task]
    return as_json(chosen | {"task": wildcards.drug_task, "seed": config["seed"]})


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


rule drug_splits:
    input:
        results("prepared/{data_set}.h5ad"),
    output:
        results("splits/{drug_task}/{data_set}.json"),
    log:
        log_of("splits/{drug_task}/{data_set}"),
    benchmark:
        times_of("splits/{drug_task}/{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=drug_splits_settings,
    shell:
        "exec python -m celllm splits --cells {input:q} --data-set {wildcards.data_set:q}"
        " --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


# Few-shot and full data in one job: they share what the frozen layers make of a cell.
rule drug_sensitivity:
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
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    params:
        encoder=encoder_flag,
        model=model_row,
        settings=drug_sensitivity_settings,
        protocols=config["drug_sensitivity"]["protocols"],
        seed=config["seed"],
        out=results("scores"),
    shell:
        "exec python -m celllm drug-sensitivity --cells {input.cells:q} --genes {input.genes:q}"
        " --splits {input.splits:q} {params.encoder:q} --model {params.model:q} --settings {params.settings:q}"
        " --protocols {params.protocols:q} --seed {params.seed:q} --data-set {wildcards.data_set:q} --out {params.out:q} >> {log:q} 2>&1"
