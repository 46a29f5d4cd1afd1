# Files from their servers, or from a mirror laid out like them.
def mirror_manifest(wildcards):
    return [f"{MIRROR}/SHA256SUMS"] if EMBEDDED else []


def mirror_flag(wildcards):
    """A function, for Snakemake would read braces of a plain text as wildcards."""
    return ["--mirror", MIRROR] if MIRROR else []


def catalogue_row(wildcards):
    """The catalogue rows that a path can belong to: a changed address or checksum fetches the file again."""
    folder = wildcards.path.split("/")[0]
    rows = {}
    for data_set in config["catalogue"].values():
        for name, row in (
            data_set.get("files", {}) | data_set.get("sample_files", {})
        ).items():
            if row["path"] == wildcards.path or (
                "{" in row["path"] and row["path"].split("/")[0] == folder
            ):
                rows[name] = row
    return as_json(rows)


def source_files(wildcards):
    """The files that list a source's samples: its own, and the table of addresses where it has one."""
    table = config["catalogue"][wildcards.source]["sample"].get("table")
    return raw_files(wildcards.source) + ([ROOT / "config" / table] if table else [])


def source_flags(wildcards):
    return file_flags(wildcards.source)


def source_options(wildcards):
    return as_json(config["catalogue"][wildcards.source].get("options", {}))


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
        mirror_manifest,
    output:
        RAW + "/{path}",
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
        row=catalogue_row,
        catalogue=ROOT / "config/data_sets.yaml",
        raw=RAW,
        mirror=mirror_flag,
    shell:
        "exec python -m celllm fetch --catalogue {params.catalogue:q} --raw {params.raw:q} {params.mirror:q}"
        " --path {wildcards.path:q} >> {log:q} 2>&1"


# Which samples a pre-training source has is known only from its own table: the graph of jobs goes on from here.
checkpoint samples:
    input:
        source_files,
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
        files=source_flags,
        options=source_options,
        mirror=mirror_flag,
        catalogue=ROOT / "config/data_sets.yaml",
    shell:
        "exec python -m celllm samples {wildcards.source:q} --files {params.files:q} {params.mirror:q}"
        " --catalogue {params.catalogue:q}"
        " --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"
