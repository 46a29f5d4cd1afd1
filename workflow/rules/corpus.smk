# Prepared samples -> token shards, one per sample, and the index that makes them one corpus.
import csv


def sample_paths(pattern):
    """A file of every sample of the pre-training sources."""
    paths = []
    for source in config["data_sets"]["pretraining"]:
        with open(checkpoints.samples.get(source=source).output[0]) as table:
            names = [row["sample"] for row in csv.DictReader(table, delimiter="\t")]
        paths += [pattern.format(source=source, sample=name) for name in names]
    return paths


def corpus_shards(wildcards):
    return sample_paths(results("corpus/{source}/{sample}.safetensors"))


def prepared_samples(wildcards):
    return sample_paths(results("prepared/{source}/{sample}.h5ad"))


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
        "exec python -m celllm shard --cells {input.cells:q} --genes {input.genes:q} --out {output:q} >> {log:q} 2>&1"


# The list of cells to leave out, where the config asks for it.
LEFT_OUT = [results("leakage.csv")] if config["leakage"]["drop"] else []


rule leakage:
    input:
        shards=corpus_shards,
        prepared=prepared_samples,
        cells=plan.paths(CELLS, plan.cell_sets),
        genes=rules.genes.output.genes,
    output:
        multiext(results("leakage"), ".json", ".csv"),
        report(
            results("leakage.md"),
            caption="../report/leakage.rst",
            category="Data",
            labels={"check": "Cells of the tasks among those of pre-training"},
        ),
    log:
        log_of("leakage"),
    benchmark:
        times_of("leakage")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        cells=plan.by_name(CELLS, plan.cell_sets),
        settings=as_json(plan.label | config["leakage"]),
        out=results("leakage"),
    shell:
        "exec python -m celllm leakage --shards {input.shards:q} --cells {params.cells:q} --genes {input.genes:q}"
        " --prepared {input.prepared:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


rule corpus:
    input:
        LEFT_OUT,
        shards=corpus_shards,
    output:
        results("corpus/index.json"),
    log:
        log_of("corpus"),
    benchmark:
        times_of("corpus")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        exclude=["--exclude", *LEFT_OUT] if LEFT_OUT else [],
    shell:
        "exec python -m celllm corpus --shards {input.shards:q} {params.exclude:q} --out {output:q} >> {log:q} 2>&1"
