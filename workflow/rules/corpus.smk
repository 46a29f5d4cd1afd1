# Prepared samples -> token shards, one per sample, and the index that makes them one corpus.
import csv


def corpus_shards(wildcards):
    shards = []
    for source in config["data_sets"]["pretraining"]:
        with open(checkpoints.samples.get(source=source).output[0]) as table:
            names = [row["sample"] for row in csv.DictReader(table, delimiter="\t")]
        shards += [results(f"corpus/{source}/{name}.safetensors") for name in names]
    return shards


rule shard:
    input:
        cells=results("prepared/{source}/{sample}.h5ad"),
        genes=rules.genes.output.genes,
    output:
        results("corpus/{source}/{sample}.safetensors"),
    log:
        log_of("shard/{source}/{sample}"),
    benchmark:
        times_of("shard/{source}/{sample}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    shell:
        "python -m celllm shard --cells {input.cells} --genes {input.genes} --out {output} > {log} 2>&1"


rule corpus:
    input:
        corpus_shards,
    output:
        results("corpus/index.json"),
    log:
        log_of("corpus"),
    benchmark:
        times_of("corpus")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    shell:
        "python -m celllm corpus --shards {input:q} --out {output} > {log} 2>&1"
