# Figures, the manifest of the run, the page that shows it all.
def figures():
    if "annotation" not in sections_of(config["tables"]):
        return loss_curves()
    fig3 = expand(
        results("figures/fig3_{data_set}.svg"),
        data_set=config["data_sets"]["annotation"],
    )
    return fig3 + loss_curves()


def confusion_settings(wildcards):
    title = config["models"]["celllm"]["title"]
    return as_json(
        RUN_LABEL
        | {"data_set": wildcards.data_set, "model": title, "protocol": "strict"}
    )


def checksum_files():
    return [f"{RAW}/data.lock"] + ([f"{MIRROR}/SHA256SUMS"] if MIRROR else [])


rule confusion:
    input:
        results("scores/annotation/{data_set}/celllm/strict.predictions.csv"),
    output:
        report(
            results("figures/fig3_{data_set}.svg"),
            caption="../report/confusion.rst",
            category="Figures",
            labels={"figure": "Fig. 3", "data set": "{data_set}"},
        ),
        results("figures/fig3_{data_set}.png"),
        results("figures/fig3_{data_set}.csv"),
    log:
        log_of("figures/fig3_{data_set}"),
    benchmark:
        times_of("figures/fig3_{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=confusion_settings,
        out=results("figures/fig3_{data_set}"),
    shell:
        "python -m celllm confusion --predictions {input} --settings {params.settings:q} --out {params.out:q} > {log} 2>&1"


rule manifest:
    input:
        tables(),
        figures(),
        geometry_tables(),
        results("claims.csv"),
    output:
        results("manifest.json"),
    log:
        log_of("manifest"),
    benchmark:
        times_of("manifest")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        config=as_json(
            {key: value for key, value in config.items() if key != "catalogue"}
        ),
        settings=as_json(RUN_LABEL),
        benchmarks=results("benchmarks"),
        checksums=checksum_files(),
    shell:
        "python -m celllm manifest --config {params.config:q} --benchmarks {params.benchmarks:q}"
        " --checksums {params.checksums:q} --settings {params.settings:q} --out {output} > {log} 2>&1"


rule report:
    input:
        tables=tables(),
        figures=figures(),
        claims=results("claims.csv"),
        manifest=results("manifest.json"),
    output:
        results("report.html"),
    log:
        log_of("report"),
    benchmark:
        times_of("report")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(RUN_LABEL),
    shell:
        "python -m celllm report --tables {input.tables:q} --figures {input.figures:q} --claims {input.claims}"
        " --manifest {input.manifest} --settings {params.settings:q} --out {output} > {log} 2>&1"


rule crate:
    input:
        results("report.html"),
        results("leakage.md"),
        results("counts.json"),
        manifest=results("manifest.json"),
    output:
        results("ro-crate-metadata.json"),
        results("config.json"),
        directory(results("workflow")),
    log:
        log_of("crate"),
    benchmark:
        times_of("crate")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        lock=f"{RAW}/data.lock",
    shell:
        "python -m celllm crate --manifest {input.manifest} --lock {params.lock:q} --out {output[0]} > {log} 2>&1"
