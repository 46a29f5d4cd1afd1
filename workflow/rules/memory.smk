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
    params:
        settings=as_json(config["memory"]),
    shell:
        "exec python -m celllm memory --settings {params.settings:q} --table {output.table:q} --out {output.facts:q}"
        " >> {log:q} 2>&1"


rule fig4:
    input:
        rules.memory.output.table,
    output:
        report(
            results("figures/fig4.svg"),
            caption="../report/fig4.rst",
            category="Figures",
            labels={"figure": "Fig. 4", "data set": ""},
        ),
        multiext(results("figures/fig4"), ".png", ".csv"),
    log:
        log_of("figures/fig4"),
    benchmark:
        times_of("figures/fig4")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json({"budget_gib": config["memory"]["budget_gib"]}),
        out=results("figures/fig4"),
    shell:
        "exec python -m celllm fig4 --table {input:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"
