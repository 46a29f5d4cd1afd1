# Files from their servers, or from a mirror laid out like them.
MIRROR_SUMS = [f"{plan.mirror}/SHA256SUMS"] if plan.mirror else []
MIRROR_FLAGS = plain(["--mirror", plan.mirror] if plan.mirror else [])
CATALOGUE_FILES = [ROOT / "config/data_sets.yaml", *config.get("data_set_files", [])]
CATALOGUE = None if plan.mirror else Catalogue.read(CATALOGUE_FILES)
# Files without an address that the planned jobs need and that are not there, with what they are.
TO_SUPPLY = {}


def from_mirror(wildcards):
    """The mirror, where it is made by the run. Without one, a file that a user has to supply is noted."""
    if CATALOGUE:
        TO_SUPPLY.update(CATALOGUE.to_supply(plan.raw, [wildcards.path]))
    return MIRROR_SUMS if plan.embedded else []


def samples_from(wildcards):
    """The files that list a source's samples. Samples that its table gives no address are noted as well."""
    source, files = wildcards.source, plan.raw_files(wildcards.source)
    if CATALOGUE:
        named = [plan.raw_files(source, name) for name in CATALOGUE.table(source)]
        paths = {path for one in named for path in one} - set(files)
        TO_SUPPLY.update(
            CATALOGUE.to_supply(
                plan.raw, [os.path.relpath(path, plan.raw) for path in paths]
            )
        )
    return files


def to_supply():
    places = [f"{plan.raw}/{path}: {what}" for path, what in sorted(TO_SUPPLY.items())]
    return "\n  ".join([f"{len(places)} files have no address; put there", *places])


def say_what_to_supply():
    """Last words of a dry run; a real one refuses to start."""
    if TO_SUPPLY and workflow.dryrun:
        print(to_supply(), file=sys.stderr)


atexit.register(say_what_to_supply)


def each_sample():
    """Source and name of every sample of pre-training, once the tables of samples are there."""
    for source in config["data_sets"]["pretraining"]:
        with open(checkpoints.samples.get(source=source).output[0]) as table:
            for row in csv.DictReader(table, delimiter="\t"):
                yield source, row["sample"]


def downloads_of_samples(wildcards):
    return [path for one in each_sample() for path in plan.raw_files(*one)]


def is_worth_a_line(record):
    """Snakemake warns that it cannot put an output back that was not there before its job failed."""
    return "no backup found" not in str(record.msg)


logger.addFilter(is_worth_a_line)


def catalogue_files(wildcards, resources):
    """Not watched, like a resource: what decides of them is in the parameters `row`, `options` and `table`."""
    return [str(path) for path in CATALOGUE_FILES]


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
        from_mirror,
        per(plan.local_file, "{path}"),
    output:
        # What is there is checked, not fetched again, and never deleted: a user may have put it there.
        update(plan.raw + "/{path}"),
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
