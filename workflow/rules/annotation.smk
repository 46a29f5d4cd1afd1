# Cell annotation: saved splits, one job per data set, model and protocol, tidy scores.
def encoder_of(wildcards):
    is_encoder = config["models"][wildcards.model]["kind"] == "encoder"
    return (
        results(f"checkpoints/{wildcards.model}/encoder.safetensors")
        if is_encoder
        else []
    )


def encoder_flag(wildcards):
    path = encoder_of(wildcards)
    return ["--encoder", path] if path else []


def method_settings(section, model):
    """Settings of a model in a section of the config: of fine-tuning, or of the baseline."""
    task = config[section]
    if config["models"][model]["kind"] != "encoder":
        return as_json(task["baselines"].get(model, {}))
    special = task.get("finetuning_by_model", {}).get(model)
    return as_json(lay_over(task["finetuning"], special))


def annotation_settings(wildcards):
    return method_settings("annotation", wildcards.model)


def annotation_scores(wildcards):
    return expand(
        results("scores/annotation/{data_set}/{model}/{protocol}.csv"),
        data_set=config["data_sets"]["annotation"],
        model=config["annotation"]["models"],
        protocol=config["annotation"]["protocols"],
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
        "python -m celllm splits --cells {input} --data-set {wildcards.data_set}"
        " --settings {params.settings:q} --out {output} > {log} 2>&1"


rule annotate:
    input:
        encoder_of,
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=rules.annotation_splits.output,
    output:
        scores=results("scores/annotation/{data_set}/{model}/{protocol}.csv"),
        predictions=results(
            "scores/annotation/{data_set}/{model}/{protocol}.predictions.csv"
        ),
    log:
        log_of("annotate/{data_set}/{model}/{protocol}"),
    benchmark:
        times_of("annotate/{data_set}/{model}/{protocol}")
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    params:
        encoder=encoder_flag,
        model=model_row,
        settings=annotation_settings,
        seed=config["seed"],
    shell:
        "python -m celllm annotate --cells {input.cells} --genes {input.genes} --splits {input.splits}"
        " {params.encoder:q} --model {params.model:q} --settings {params.settings:q}"
        " --protocol {wildcards.protocol} --seed {params.seed} --data-set {wildcards.data_set}"
        " --scores {output.scores} --predictions {output.predictions} > {log} 2>&1"
