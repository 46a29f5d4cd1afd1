# Raw files -> prepared .h5ad: raw counts, approved gene symbols, labels.
rule genes:
    input:
        hgnc=plan.raw_files("hgnc"),
    output:
        genes=results("prepared/genes.tsv"),
        aliases=results("prepared/aliases.tsv"),
    log:
        log_of("genes"),
    benchmark:
        times_of("genes")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    shell:
        "exec python -m celllm genes --hgnc {input.hgnc:q} --genes {output.genes:q} --aliases {output.aliases:q} >> {log:q} 2>&1"


rule prepare:
    input:
        files=per(plan.raw_files, "{data_set}"),
        genes=rules.genes.output.genes,
        aliases=rules.genes.output.aliases,
    output:
        results("prepared/{data_set}.h5ad"),
    log:
        log_of("prepare/{data_set}"),
    benchmark:
        times_of("prepare/{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        files=per(plan.raw_flags, "{data_set}"),
        options=per(plan.options, "{data_set}"),
    shell:
        "exec python -m celllm prepare {wildcards.data_set:q} --files {params.files:q} --genes {input.genes:q}"
        " --aliases {input.aliases:q} --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"


rule prepare_sample:
    input:
        files=per(plan.raw_files, "{source}", "{sample}"),
        samples=results("prepared/{source}/samples.tsv"),
        genes=rules.genes.output.genes,
        aliases=rules.genes.output.aliases,
    output:
        results("prepared/{source}/{sample}.h5ad"),
    log:
        log_of("prepare/{source}/{sample}"),
    benchmark:
        times_of("prepare/{source}/{sample}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        files=per(plan.raw_flags, "{source}", "{sample}"),
        options=per(plan.options, "{source}", "{sample}"),
    shell:
        "exec python -m celllm prepare {wildcards.source:q} --files {params.files:q} --sample {wildcards.sample:q}"
        " --samples {input.samples:q} --genes {input.genes:q} --aliases {input.aliases:q}"
        " --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"
