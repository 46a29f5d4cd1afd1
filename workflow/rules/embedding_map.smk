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
    resources:
        gpu=1,
    params:
        settings=unwatched(plan.seeded, "embedding_map"),
        science=as_json(plan.science("embedding_map")),
    shell:
        "exec python -m celllm embedding-map --encoder {input.encoder:q} --cells {input.cells:q} --genes {input.genes:q}"
        " --predictions {input.predictions:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"
