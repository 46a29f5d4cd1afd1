# Cells of the annotated data sets laid out by their embeddings.
rule embedding_map:
    input:
        encoder=results("checkpoints/celllm/encoder.safetensors"),
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        predictions=results(
            "scores/annotation/{data_set}/celllm/strict.predictions.csv"
        ),
    output:
        results("embeddings/{data_set}.csv"),
    log:
        log_of("embedding_map/{data_set}"),
    benchmark:
        times_of("embedding_map/{data_set}")
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    params:
        settings=as_json(config["embedding_map"] | {"seed": config["seed"]}),
    shell:
        "exec python -m celllm embedding-map --encoder {input.encoder:q} --cells {input.cells:q} --genes {input.genes:q}"
        " --predictions {input.predictions:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


rule tsne:
    input:
        results("embeddings/{data_set}.csv"),
    output:
        report(
            results("figures/tsne_{data_set}.svg"),
            caption="../report/tsne.rst",
            category="Figures",
            labels={"figure": "t-SNE of embeddings", "data set": "{data_set}"},
        ),
        multiext(results("figures/tsne_{data_set}"), ".png", ".csv"),
    log:
        log_of("figures/tsne_{data_set}"),
    benchmark:
        times_of("figures/tsne_{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=named_figure,
        out=results("figures/tsne_{data_set}"),
    shell:
        "exec python -m celllm embedding-map-figure --table {input:q} --settings {params.settings:q} --out {params.out:q}"
        " >> {log:q} 2>&1"
