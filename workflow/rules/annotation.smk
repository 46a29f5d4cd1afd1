# Cell annotation: saved splits, one job per data set and model for all protocols, tidy scores. The rules of the
# other tasks are these two with other files.
def encoder_of(wildcards):
    name = pretrained_for(wildcards.model)
    return results(f"checkpoints/{name}/encoder.safetensors") if name else []


def scored_row(wildcards):
    """A model's row, with the file of its encoder where it has one."""
    row, path = sized_row(wildcards.model), encoder_of(wildcards)
    return as_json(row | {"encoder": path} if path else row)


def method_settings(section, model):
    """Settings of a model in a section of the config: of fine-tuning, or of the baseline."""
    settings = {}
    for layer in layers_of(config, section, model).values():
        settings = lay_over(settings, layer)
    return as_json(settings)


def settings_in(section):
    def settings(wildcards):
        return method_settings(section, wildcards.model)

    return settings


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


def gpu_of_row(wildcards):
    """GPUs to ask a scheduler for: no baseline has a use for one."""
    return int(config["models"][wildcards.model]["kind"] == "encoder")


rule annotation_splits:
    input:
        cells=results("prepared/{data_set}.h5ad"),
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
        task="annotation",
        data_set="{data_set}",
        responses=[],
        settings=as_json(config["annotation"]["splits"] | {"seed": config["seed"]}),
    shell:
        "exec python -m celllm splits --task {params.task:q} --cells {input.cells:q} {params.responses:q}"
        " --data-set {params.data_set:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


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
    retries: 0
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        gpu=gpu_of_row,
    params:
        data_set="{data_set}",
        responses=[],
        model=scored_row,
        settings=settings_in("annotation"),
        protocols=config["annotation"]["protocols"],
        seed=config["seed"],
        out=results("scores"),
    shell:
        "exec python -m celllm score --cells {input.cells:q} {params.responses:q} --genes {input.genes:q}"
        " --splits {input.splits:q} --model {params.model:q} --settings {params.settings:q}"
        " --protocols {params.protocols:q} --seed {params.seed:q} --data-set {params.data_set:q}"
        " --out {params.out:q} >> {log:q} 2>&1"
