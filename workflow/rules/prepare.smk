# Raw files -> prepared .h5ad: raw counts, approved gene symbols, labels.
def data_set_files(wildcards):
    return raw_files(wildcards.data_set)


def data_set_flags(wildcards):
    return file_flags(wildcards.data_set)


def data_set_options(wildcards):
    return as_json(config["catalogue"][wildcards.data_set].get("options", {}))


def sample_files(wildcards):
    return raw_files(wildcards.source) + [
        f"{RAW}/{row['path'].format(sample=wildcards.sample)}"
        for row in config["catalogue"][wildcards.source]["sample_files"].values()
    ]


def sample_flags(wildcards):
    return file_flags(wildcards.source, wildcards.sample)


def sample_options(wildcards):
    """Without the choice of samples, which changes no sample."""
    options = config["catalogue"][wildcards.source].get("options", {})
    return as_json({key: value for key, value in options.items() if key != "samples"})


rule genes:
    input:
        hgnc=raw_files("hgnc"),
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
        files=data_set_files,
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
        files=data_set_flags,
        options=data_set_options,
    shell:
        "exec python -m celllm prepare {wildcards.data_set:q} --files {params.files:q} --genes {input.genes:q}"
        " --aliases {input.aliases:q} --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"


rule prepare_sample:
    input:
        files=sample_files,
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
        files=sample_flags,
        options=sample_options,
    shell:
        "exec python -m celllm prepare {wildcards.source:q} --files {params.files:q} --sample {wildcards.sample:q}"
        " --samples {input.samples:q} --genes {input.genes:q} --aliases {input.aliases:q}"
        " --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"
