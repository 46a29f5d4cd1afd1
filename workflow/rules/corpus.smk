# Prepared samples -> token shards, one per sample, and the index that makes them one corpus. Commands are given the
# tables of samples and the pattern of their files: thousands of names are too long for a command line.
rule shard:
    input:
        cells=PREPARED,
        genes=rules.genes.output.genes,
    output:
        SHARDS,
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
        shards=plain(SHARDS),
        prepared=plain(PREPARED),
        samples=plan.by_name(SAMPLES, config["data_sets"]["pretraining"]),
        settings=as_json(plan.label | config["leakage"]),
        out=stem,
    shell:
        "exec python -m celllm leakage --samples {params.samples:q} --shards {params.shards:q}"
        " --prepared {params.prepared:q} --cells {params.cells:q} --genes {input.genes:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


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
        shards=plain(SHARDS),
        samples=plan.by_name(SAMPLES, config["data_sets"]["pretraining"]),
        exclude=["--exclude", *LEFT_OUT] if LEFT_OUT else [],
    shell:
        "exec python -m celllm corpus --samples {params.samples:q} --shards {params.shards:q} {params.exclude:q} --out {output:q} >> {log:q} 2>&1"
