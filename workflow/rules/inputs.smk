# What the rules of downloads and of samples are given; functions and names, no rules.
MIRROR_SUMS = [f"{plan.mirror}/SHA256SUMS"] if plan.mirror else []
MIRROR_FLAGS = plain(["--mirror", plan.mirror] if plan.mirror else [])
CATALOGUE_FILES = [ROOT / "config/data_sets.yaml", *config.get("data_set_files", [])]
TO_SUPPLY = ToSupply(plan, CATALOGUE_FILES)


def from_mirror(wildcards):
    """The mirror, where it is made by the run. Without one, a file that a user has to supply is noted."""
    TO_SUPPLY.note(wildcards.path)
    return MIRROR_SUMS if plan.embedded else []


def samples_from(wildcards):
    """The files that list a source's samples. Samples that its table gives no address are noted as well."""
    TO_SUPPLY.note_samples(wildcards.source)
    return plan.raw_files(wildcards.source)


def raw_folder(wildcards, output):
    return output[0][: -1 - len(wildcards.path)]


def say_what_to_supply():
    """Last words of a dry run; a real one refuses to start."""
    if TO_SUPPLY and workflow.dryrun:
        print(TO_SUPPLY, file=sys.stderr)


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


SHARDS = results("corpus/{source}/{sample}.safetensors")
PREPARED = results("prepared/{source}/{sample}.h5ad")


def corpus_shards(wildcards):
    return [SHARDS.format(source=s, sample=name) for s, name in each_sample()]


def prepared_samples(wildcards):
    return [PREPARED.format(source=s, sample=name) for s, name in each_sample()]
