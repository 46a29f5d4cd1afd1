# Spread of the embeddings of cells that no encoder was trained on.
rule geometry:
    input:
        plan.paths(ENCODER, plan.compared),
        plan.paths(CELLS, config["data_sets"]["annotation"]),
        [ancient(path) for name in plan.untrained for path in plan.encoder_files(name)],
        [path for name in plan.untrained for path in plan.gene_digests(name)],
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
        encoders=plan.by_name(ENCODER, plan.compared),
        cells=plan.by_name(CELLS, config["data_sets"]["annotation"]),
        untrained=[
            f"{name}={as_json(plan.scored_row(name))}" for name in plan.untrained
        ],
        settings=as_json({"seed": config["seed"]}),
    shell:
        "exec python -m celllm geometry --encoders {params.encoders:q} --cells {params.cells:q} --genes {input.genes:q}"
        " --settings {params.settings:q} --untrained {params.untrained:q} --out {output:q} >> {log:q} 2>&1"


rule contrast:
    input:
        plan.paths(ENCODER, plan.compared),
        plan.paths(METRICS, plan.compared),
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
        encoders=plan.by_name(ENCODER, plan.compared),
        metrics=plan.by_name(METRICS, plan.compared),
    shell:
        "exec python -m celllm contrast --encoders {params.encoders:q} --metrics {params.metrics:q}"
        " --geometry {input.geometry:q} --out {output:q} >> {log:q} 2>&1"
