# Fig. 4: how long cells may be in a given memory.
# Of the model of the paper in every run: what is measured is a step's memory, which needs no training.
rule memory:
    output:
        table=results("memory.csv"),
        facts=results("facts/memory.json"),
    log:
        log_of("memory"),
    benchmark:
        times_of("memory")
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        settings=as_json(config["memory"]),
    shell:
        "exec python -m celllm memory --settings {params.settings:q} --table {output.table:q} --out {output.facts:q}"
        " >> {log:q} 2>&1"
