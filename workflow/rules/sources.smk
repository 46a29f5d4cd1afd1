# Files from their servers, or from a mirror laid out like them.
rule toy_mirror:
    output:
        results("mirror/SHA256SUMS"),
    log:
        log_of("toy_mirror"),
    benchmark:
        times_of("toy_mirror")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        folder=folder_of(1),
    shell:
        "exec python -m celllm toy-mirror {params.folder:q} --seed 0 >> {log:q} 2>&1"


rule fetch:
    input:
        from_mirror,
        per(plan.local_file, "{path}"),
    output:
        # What is there is checked, not fetched again, and never deleted: a user may have put it there.
        update(f"{plan.raw}/{{path}}"),
    log:
        log_of("fetch/{path}"),
    benchmark:
        times_of("fetch/{path}")
    wildcard_constraints:
        path=".+",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        downloads=1,
    params:
        row=per(plan.catalogue_rows, "{path}"),
        catalogue=catalogue_files,
        raw=raw_folder,
        mirror=MIRROR_FLAGS,
    shell:
        "exec python -m celllm fetch --catalogue {params.catalogue:q} --raw {params.raw:q} {params.mirror:q}"
        " --path {wildcards.path:q} >> {log:q} 2>&1"


# Which samples a pre-training source has is known only from its own table: the graph of jobs goes on from here.
checkpoint samples:
    input:
        samples_from,
    output:
        results("prepared/{source}/samples.tsv"),
    log:
        log_of("samples/{source}"),
    benchmark:
        times_of("samples/{source}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        files=per(plan.raw_flags, "{source}"),
        options=per(plan.options, "{source}"),
        mirror=MIRROR_FLAGS,
        table=per(plan.sample_table, "{source}"),
        catalogue=catalogue_files,
    shell:
        "exec python -m celllm samples {wildcards.source:q} --files {params.files:q} {params.mirror:q}"
        " --catalogue {params.catalogue:q}"
        " --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"
