# One encoder per model row. Checkpoints stand beside the outputs, so that an interrupted training goes on.
def pretrained_for(name):
    """The model whose pre-training gives a row its encoder; None for baselines and untrained encoders."""
    row = config["models"][name]
    if row["kind"] != "encoder" or "pretrained" in row:
        return None
    return row.get("encoder", name)


def encoder_models():
    wanted = [pretrained_for(name) for name in models_of(config["tables"])]
    return [name for name in dict.fromkeys(wanted) if name]


def encoders():
    return [
        results(f"checkpoints/{name}/encoder.safetensors") for name in encoder_models()
    ]


def gene_embeddings(wildcards):
    row = config["models"][wildcards.model]
    if row["gene_embeddings"] != "graphmae":
        return []
    return results(
        f"graph/gene_embeddings_{config['sizes'][row['size']]['dim']}.safetensors"
    )


def gene_embedding_flag(wildcards):
    path = gene_embeddings(wildcards)
    return ["--gene-embeddings", path] if path else []


def sized_row(name):
    """A model's row with its size spelled out; how it is fine-tuned is a matter of the settings."""
    row = {k: v for k, v in config["models"][name].items() if k != "finetuning"}
    if "size" in row:
        row["size"] = config["sizes"][row["size"]]
        row["tokens"] = row["tokens"] | config["tokens"]
    return row | {"name": name}


def row_of(name):
    return as_json(sized_row(name))


def model_row(wildcards):
    return row_of(wildcards.model)


def pretraining_of(name):
    chosen = lay_over(
        config["pretraining"]["settings"],
        config["pretraining"].get("by_model", {}).get(name),
    )
    return as_json(chosen | {"seed": config["seed"]})


def pretraining_settings(wildcards):
    return pretraining_of(wildcards.model)


rule pretrain:
    input:
        gene_embeddings,
        corpus=rules.corpus.output,
        genes=rules.genes.output.genes,
    output:
        encoder=results("checkpoints/{model}/encoder.safetensors"),
        metrics=results("checkpoints/{model}/metrics.csv"),
    log:
        log_of("pretrain/{model}"),
    benchmark:
        times_of("pretrain/{model}")
    retries: 0
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        model=model_row,
        settings=pretraining_settings,
        embeddings=gene_embedding_flag,
        checkpoints=results("checkpoints/{model}/state"),
    shell:
        "exec python -m celllm pretrain --corpus {input.corpus:q} --genes {input.genes:q} {params.embeddings:q}"
        " --model {params.model:q} --settings {params.settings:q} --checkpoints {params.checkpoints:q}"
        " --out {output.encoder:q} --metrics {output.metrics:q} >> {log:q} 2>&1"
