# Appendix C: the genes that [CLS] attends to.
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
    resources:
        gpu=1,
    params:
        settings=unwatched(plan.seeded, "interpretation"),
        science=as_json(plan.science("interpretation")),
    shell:
        "exec python -m celllm interpret --encoder {input.encoder:q} --corpus {input.corpus:q} --genes {input.genes:q}"
        " --settings {params.settings:q} --table {output.genes:q} --cells {output.cells:q} --out {output.facts:q}"
        " >> {log:q} 2>&1"
