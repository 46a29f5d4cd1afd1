# The manifest of the run, the page that shows it all.
rule manifest:
    input:
        plan.tables,
        plan.figures,
        results("geometry.csv") if plan.contrast else [],
        plan.contrast,
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
        config=unwatched(plan.stated),
        science=as_json(without_resources(Config, plan.stated())),
        settings=as_json(plan.label),
        benchmarks=results("benchmarks"),
        source=checkout,
        checksums=[f"{plan.raw}/data.lock", *MIRROR_SUMS],
    shell:
        "exec python -m celllm manifest --config {params.config:q} --benchmarks {params.benchmarks:q}"
        " --checksums {params.checksums:q} --source {params.source:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


rule report:
    input:
        tables=plan.tables,
        figures=plan.figures,
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
        settings=as_json(plan.label),
    shell:
        "exec python -m celllm report --tables {input.tables:q} --figures {input.figures:q} --claims {input.claims:q}"
        " --manifest {input.manifest:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


rule crate:
    input:
        results("report.html"),
        results("leakage.md"),
        results("counts.json"),
        manifest=results("manifest.json"),
    output:
        crate=results("ro-crate-metadata.json"),
        config=results("config.json"),
        workflow=directory(results("workflow")),
    log:
        log_of("crate"),
    benchmark:
        times_of("crate")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        lock=f"{plan.raw}/data.lock",
        source=checkout,
    shell:
        "exec python -m celllm crate --manifest {input.manifest:q} --lock {params.lock:q} --source {params.source:q} --out {output.crate:q} >> {log:q} 2>&1"
