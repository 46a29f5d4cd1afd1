# Spread of the embeddings of cells that no encoder was trained on.
def compared_models():
    """Encoders that read expressed genes. scBERT reads all, at many times the price, and has no contrast to show."""
    return [
        name
        for name in encoder_models()
        if not config["models"][name]["tokens"]["zeros"]
    ]


def untrained_models():
    """Rows that start from the same encoder without any pre-training."""
    names = models_of(config["tables"])
    return [n for n in names if config["models"][n].get("pretrained") is False]


def geometry_tables():
    wanted = compared_models() and config["data_sets"]["annotation"]
    return [results("geometry.csv"), results("contrast.csv")] if wanted else []


def contrast_table():
    return [path for path in geometry_tables() if path == results("contrast.csv")]


rule geometry:
    input:
        expand(
            results("checkpoints/{name}/encoder.safetensors"), name=compared_models()
        ),
        expand(results("prepared/{name}.h5ad"), name=config["data_sets"]["annotation"]),
        genes=rules.genes.output.genes,
    output:
        results("geometry.csv"),
    log:
        log_of("geometry"),
    benchmark:
        times_of("geometry")
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        encoders=by_name(compared_models(), "checkpoints/{name}/encoder.safetensors"),
        cells=by_name(config["data_sets"]["annotation"], "prepared/{name}.h5ad"),
        untrained=[f"{name}={row_of(name)}" for name in untrained_models()],
        settings=as_json({"seed": config["seed"]}),
    shell:
        "exec python -m celllm geometry --encoders {params.encoders:q} --cells {params.cells:q} --genes {input.genes:q}"
        " --settings {params.settings:q} --untrained {params.untrained:q} --out {output:q} >> {log:q} 2>&1"


rule contrast:
    input:
        expand(
            results("checkpoints/{name}/{file}"),
            name=compared_models(),
            file=["encoder.safetensors", "metrics.csv"],
        ),
        geometry=rules.geometry.output,
    output:
        results("contrast.csv"),
    log:
        log_of("contrast"),
    benchmark:
        times_of("contrast")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        encoders=by_name(compared_models(), "checkpoints/{name}/encoder.safetensors"),
        metrics=by_name(compared_models(), "checkpoints/{name}/metrics.csv"),
    shell:
        "exec python -m celllm contrast --encoders {params.encoders:q} --metrics {params.metrics:q}"
        " --geometry {input.geometry:q} --out {output:q} >> {log:q} 2>&1"
