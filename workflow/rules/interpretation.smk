# Appendix C: the genes that [CLS] attends to, Fig. C.1 and C.2.
def interpretation_label():
    shown = {
        key: config["interpretation"][key] for key in ("n_genes", "layer", "average")
    }
    return as_json(RUN_LABEL | shown)


rule interpret:
    input:
        encoder=results("checkpoints/celllm/encoder.safetensors"),
        corpus=rules.corpus.output,
        genes=rules.genes.output.genes,
    output:
        genes=results("interpretation/genes.csv"),
        cells=results("interpretation/cells.csv"),
        facts=results("facts/interpretation.json"),
    log:
        log_of("interpret"),
    benchmark:
        times_of("interpret")
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    params:
        settings=as_json(config["interpretation"] | {"seed": config["seed"]}),
    shell:
        "exec python -m celllm interpret --encoder {input.encoder:q} --corpus {input.corpus:q} --genes {input.genes:q}"
        " --settings {params.settings:q} --table {output.genes:q} --cells {output.cells:q} --out {output.facts:q}"
        " >> {log:q} 2>&1"


rule figc1:
    input:
        rules.interpret.output.genes,
    output:
        report(
            results("figures/figc1.svg"),
            caption="../report/figc1.rst",
            category="Figures",
            labels={"figure": "Fig. C.1", "data set": ""},
        ),
        multiext(results("figures/figc1"), ".png", ".csv"),
    log:
        log_of("figures/figc1"),
    benchmark:
        times_of("figures/figc1")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=interpretation_label(),
        out=results("figures/figc1"),
    shell:
        "exec python -m celllm figc1 --table {input:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


rule figc2:
    input:
        cells=rules.interpret.output.cells,
        facts=rules.interpret.output.facts,
    output:
        report(
            results("figures/figc2.svg"),
            caption="../report/figc2.rst",
            category="Figures",
            labels={"figure": "Fig. C.2", "data set": ""},
        ),
        multiext(results("figures/figc2"), ".png", ".csv"),
    log:
        log_of("figures/figc2"),
    benchmark:
        times_of("figures/figc2")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(RUN_LABEL),
        out=results("figures/figc2"),
    shell:
        "exec python -m celllm figc2 --cells {input.cells:q} --facts {input.facts:q} --settings {params.settings:q}"
        " --out {params.out:q} >> {log:q} 2>&1"
