# Cell annotation: saved splits, one job per data set and model for all protocols, tidy scores.
def encoder_of(wildcards):
    name = pretrained_for(wildcards.model)
    return results(f"checkpoints/{name}/encoder.safetensors") if name else []


def encoder_flag(wildcards):
    path = encoder_of(wildcards)
    return ["--encoder", path] if path else []


def method_settings(section, model):
    """Settings of a model in a section of the config: of fine-tuning, or of the baseline."""
    task, row = config[section], config["models"][model]
    if row["kind"] != "encoder":
        return as_json(task["baselines"].get(model, {}))
    special = task.get("finetuning_by_model", {}).get(model)
    settings = lay_over(task["finetuning"], row.get("finetuning"))
    return as_json(lay_over(settings, special))


def annotation_settings(wildcards):
    return method_settings("annotation", wildcards.model)


def score_files(section, tasks, data_set, kinds=("csv", "predictions.csv")):
    """Scores of a job for each task under each protocol, and what it predicted."""
    return [
        results(f"scores/{task}/{data_set}/{{model}}/{protocol}.{kind}")
        for task in tasks
        for protocol in config[section]["protocols"]
        for kind in kinds
    ]


def annotation_scores():
    return expand(
        score_files("annotation", ["annotation"], "{data_set}", ["csv"]),
        data_set=config["data_sets"]["annotation"],
        model=config["annotation"]["models"],
    )


rule annotation_splits:
    input:
        results("prepared/{data_set}.h5ad"),
    output:
        results("splits/annotation/{data_set}.json"),
    log:
        log_of("splits/annotation/{data_set}"),
    benchmark:
        times_of("splits/annotation/{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(config["annotation"]["splits"] | {"seed": config["seed"]}),
    shell:
        "exec python -m celllm splits --cells {input:q} --data-set {wildcards.data_set:q}"
        " --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


rule annotate:
    input:
        encoder_of,
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=rules.annotation_splits.output,
    output:
        score_files("annotation", ["annotation"], "{data_set}"),
    log:
        log_of("annotate/{data_set}/{model}"),
    benchmark:
        times_of("annotate/{data_set}/{model}")
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    params:
        encoder=encoder_flag,
        model=model_row,
        settings=annotation_settings,
        protocols=config["annotation"]["protocols"],
        seed=config["seed"],
        out=results("scores"),
    shell:
        "exec python -m celllm annotate --cells {input.cells:q} --genes {input.genes:q} --splits {input.splits:q}"
        " {params.encoder:q} --model {params.model:q} --settings {params.settings:q}"
        " --protocols {params.protocols:q} --seed {params.seed:q} --data-set {wildcards.data_set:q}"
        " --out {params.out:q} >> {log:q} 2>&1"
