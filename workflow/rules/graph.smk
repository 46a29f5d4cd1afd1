# Protein network -> GraphMAE -> one vector for every gene of the vocabulary.
rule network:
    input:
        links=plan.raw_by_name("string")["links"],
        info=plan.raw_by_name("string")["info"],
        genes=rules.genes.output.genes,
        aliases=rules.genes.output.aliases,
    output:
        results("graph/network.npz"),
    log:
        log_of("network"),
    benchmark:
        times_of("network")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(config["network"]),
    shell:
        "exec python -m celllm network --links {input.links:q} --info {input.info:q} --genes {input.genes:q} --aliases {input.aliases:q}"
        " --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


# A user's file in place of them, for rows with `gene_embeddings: gene2vec`.
rule gene2vec:
    input:
        table=plan.gene2vec,
        genes=rules.genes.output.genes,
        aliases=rules.genes.output.aliases,
    output:
        embeddings=results("graph/gene2vec_{dim}.safetensors"),
        digest=results("graph/gene2vec_{dim}.sha256"),
    log:
        log_of("gene2vec_{dim}"),
    benchmark:
        times_of("gene2vec_{dim}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    shell:
        "exec python -m celllm gene2vec --table {input.table:q} --genes {input.genes:q} --aliases {input.aliases:q}"
        " --dim {wildcards.dim} --out {output.embeddings:q} --digest {output.digest:q} >> {log:q} 2>&1"


rule graphmae:
    input:
        network=rules.network.output,
        genes=rules.genes.output.genes,
    output:
        embeddings=results("graph/gene_embeddings_{dim}.safetensors"),
        digest=results("graph/gene_embeddings_{dim}.sha256"),
        losses=results("graph/graphmae_{dim}.csv"),
    log:
        log_of("graphmae_{dim}"),
    benchmark:
        times_of("graphmae_{dim}")
    retries: 0
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    params:
        settings=per(plan.graphmae, "{dim}"),
    shell:
        "exec python -m celllm graphmae --network {input.network:q} --genes {input.genes:q}"
        " --settings {params.settings:q} --out {output.embeddings:q} --digest {output.digest:q}"
        " --metrics {output.losses:q} >> {log:q} 2>&1"
