# What the data sets hold, counted: Tables D.1 to D.3, the claims on data, and an error where they differ from the paper's.
rule counts:
    input:
        plan.paths(CELLS, plan.cell_sets),
        plan.paths(RESPONSES, config["data_sets"]["response"]),
        plan.paths(SAMPLES, config["data_sets"]["pretraining"]),
        genes=rules.genes.output.genes,
        corpus=rules.corpus.output,
    output:
        results("facts/counts.json"),
    log:
        log_of("counts"),
    benchmark:
        times_of("counts")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        cells=plan.by_name(CELLS, plan.labelled_sets),
        samples=plan.role_flags("--samples", SAMPLES, "pretraining"),
        responses=plan.role_flags("--responses", RESPONSES, "response"),
        expression=plan.role_flags("--expression", CELLS, "expression"),
    shell:
        "exec python -m celllm counts --cells {params.cells:q} --genes {input.genes:q} --corpus {input.corpus:q}"
        " {params.samples:q} {params.responses:q} {params.expression:q} --out {output:q} >> {log:q} 2>&1"


rule check_counts:
    input:
        results("facts/counts.json"),
    output:
        results("counts.json"),
    log:
        log_of("check_counts"),
    benchmark:
        times_of("check_counts")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(config["counts"] | {"toy": config["toy"]}),
    shell:
        "exec python -m celllm check-counts --facts {input:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"
