# What the data sets hold, counted: Tables D.1 to D.3, the claims on data, and an error where the cells are other ones.
FACTS = [
    results(f"facts/{name}.json")
    for name in ("counts", "settings", "gradient", "memory")
    + (("interpretation",) if "celllm" in encoder_models() else ())
]
FACT_TABLES = ["tablec1", "tabled1", "tabled2", "tabled3", "tablef1"]


def by_name(names, pattern):
    """NAME=FILE for the command line."""
    return [f"{name}={results(pattern).format(name=name)}" for name in names]


def named(flag, role, pattern):
    """A flag with the files of the data sets of a role; nothing without any."""
    names = config["data_sets"][role]
    return [flag, *by_name(names, pattern)] if names else []


def labelled_sets():
    return config["data_sets"]["annotation"] + config["data_sets"]["single_cell_drug"]


rule counts:
    input:
        expand(results("prepared/{name}.h5ad"), name=cell_sets()),
        expand(
            results("prepared/{name}.responses.csv"),
            name=config["data_sets"]["response"],
        ),
        expand(
            results("prepared/{name}/samples.tsv"),
            name=config["data_sets"]["pretraining"],
        ),
        genes=rules.genes.output.genes,
        corpus=rules.corpus.output,
    output:
        results("facts/counts.json"),
    log:
        log_of("counts"),
    benchmark:
        times_of("counts")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        cells=by_name(labelled_sets(), "prepared/{name}.h5ad"),
        samples=named("--samples", "pretraining", "prepared/{name}/samples.tsv"),
        responses=named("--responses", "response", "prepared/{name}.responses.csv"),
        expression=named("--expression", "expression", "prepared/{name}.h5ad"),
    shell:
        "exec python -m celllm counts --cells {params.cells:q} --genes {input.genes:q} --corpus {input.corpus:q}"
        " {params.samples:q} {params.responses:q} {params.expression:q} --out {output:q} >> {log:q} 2>&1"


rule fact_table:
    input:
        FACTS,
    output:
        report(
            multiext(results("tables/{table}"), ".html"),
            caption="../report/table.rst",
            category="Tables",
            labels=table_labels,
        ),
        multiext(results("tables/{table}"), ".csv", ".md", ".tex"),
    log:
        log_of("tables/{table}"),
    benchmark:
        times_of("tables/{table}")
    wildcard_constraints:
        table="|".join(FACT_TABLES),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(RUN_LABEL),
        out=results("tables/{table}"),
    shell:
        "exec python -m celllm table {wildcards.table:q} --scores --facts {input:q} --models '{{}}'"
        " --settings {params.settings:q}"
        " --out {params.out:q} >> {log:q} 2>&1"


rule check_counts:
    input:
        results("facts/counts.json"),
    output:
        results("counts.json"),
    log:
        log_of("check_counts"),
    benchmark:
        times_of("check_counts")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(config["counts"] | {"toy": config["toy"]}),
    shell:
        "exec python -m celllm check-counts --facts {input:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"
