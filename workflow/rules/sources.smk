# Files from their servers, or from a mirror laid out like them.
MIRROR_SUMS = [f"{plan.mirror}/SHA256SUMS"] if plan.mirror else []
MIRROR_FLAGS = plain(["--mirror", plan.mirror] if plan.mirror else [])


def each_sample(paths):
    """A file, or a list of files, of every sample of the pre-training sources; `paths` gives them of one."""
    found = []
    for source in config["data_sets"]["pretraining"]:
        with open(checkpoints.samples.get(source=source).output[0]) as table:
            names = [row["sample"] for row in csv.DictReader(table, delimiter="\t")]
        found += [paths(source=source, sample=name) for name in names]
    return found


def catalogue_files(wildcards, resources):
    """Not watched, like a resource: what decides of them is in the parameters `row`, `options` and `table`."""
    return [str(ROOT / "config/data_sets.yaml"), *config.get("data_set_files", [])]


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
        folder=results("mirror"),
    shell:
        "exec python -m celllm toy-mirror {params.folder:q} --seed 0 >> {log:q} 2>&1"


rule fetch:
    input:
        MIRROR_SUMS if plan.embedded else [],
        per(plan.local_file, "{path}"),
    output:
        plan.raw + "/{path}",
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
        raw=plan.raw,
        mirror=MIRROR_FLAGS,
    shell:
        "exec python -m celllm fetch --catalogue {params.catalogue:q} --raw {params.raw:q} {params.mirror:q}"
        " --path {wildcards.path:q} >> {log:q} 2>&1"


# Which samples a pre-training source has is known only from its own table: the graph of jobs goes on from here.
checkpoint samples:
    input:
        per(plan.raw_files, "{source}"),
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
