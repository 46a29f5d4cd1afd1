# What pre-training did: curves of its losses, and how the embeddings of cells lie that it has not seen.
def compared_models():
    """Encoders that read expressed genes. scBERT reads all, at many times the price, and has no contrast to show."""
    return [
        name
        for name in encoder_models()
        if not config["models"][name]["tokens"]["zeros"]
    ]


def geometry_tables():
    wanted = compared_models() and config["data_sets"]["annotation"]
    return [results("geometry.csv")] if wanted else []


def watching_figures():
    curves = ["loss_curves"] if encoder_models() else []
    return curves + (["geometry"] if geometry_tables() else [])


def titled_models():
    titles = {name: config["models"][name]["title"] for name in encoder_models()}
    return as_json(RUN_LABEL | {"titles": titles})


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
    params:
        encoders=by_name(compared_models(), "checkpoints/{name}/encoder.safetensors"),
        cells=by_name(config["data_sets"]["annotation"], "prepared/{name}.h5ad"),
        settings=as_json({"seed": config["seed"]}),
    shell:
        "exec python -m celllm geometry --encoders {params.encoders:q} --cells {params.cells:q} --genes {input.genes:q}"
        " --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


rule geometry_figure:
    input:
        results("geometry.csv"),
    output:
        report(
            results("figures/geometry.svg"),
            caption="../report/geometry.rst",
            category="Figures",
            labels={"figure": "Geometry of embeddings", "data set": ""},
        ),
        multiext(results("figures/geometry"), ".png", ".csv"),
    log:
        log_of("figures/geometry"),
    benchmark:
        times_of("figures/geometry")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=titled_models(),
        out=results("figures/geometry"),
    shell:
        "exec python -m celllm geometry-figure --table {input:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


rule loss_curves:
    input:
        expand(results("checkpoints/{name}/metrics.csv"), name=encoder_models()),
    output:
        report(
            results("figures/loss_curves.svg"),
            caption="../report/loss_curves.rst",
            category="Figures",
            labels={"figure": "Losses of pre-training", "data set": ""},
        ),
        multiext(results("figures/loss_curves"), ".png", ".csv"),
    log:
        log_of("figures/loss_curves"),
    benchmark:
        times_of("figures/loss_curves")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        metrics=by_name(encoder_models(), "checkpoints/{name}/metrics.csv"),
        settings=titled_models(),
        out=results("figures/loss_curves"),
    shell:
        "exec python -m celllm loss-curves --metrics {params.metrics:q} --settings {params.settings:q}"
        " --out {params.out:q} >> {log:q} 2>&1"
