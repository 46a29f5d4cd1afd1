# Scores -> tables, figures, claims, manifest, report. Nothing here reads anything but score files and facts.
# Section of the config -> its score files; which table has which section stands in celllm.config.
SCORES_OF = {
    "annotation": annotation_scores,
    "drug_sensitivity": drug_sensitivity_scores,
    "drug_response": drug_response_scores,
}


def table_scores(wildcards):
    return SCORES_OF[SECTION_OF[wildcards.table]]()


def all_scores(wildcards):
    sections = sections_of(config["tables"])
    return [path for section in sections for path in SCORES_OF[section]()]


def shown_models(tables):
    """Rows of some tables: what is printed of them, in the order of the config."""
    wanted = ("title", "group", "paper_row")
    return as_json_in_order(
        {
            name: {
                key: config["models"][name][key]
                for key in wanted
                if key in config["models"][name]
            }
            for name in models_of(tables)
        }
    )


def table_models(wildcards):
    return shown_models([wildcards.table])


def table_settings(wildcards):
    protocols = config[SECTION_OF[wildcards.table]]["protocols"]
    return as_json(RUN_LABEL | {"protocols": protocols})


def tables():
    return expand(
        results("tables/{table}.csv"), table=[*config["tables"], *FACT_TABLES]
    )


def claim_settings():
    ratios = {"annotation": 1 / (config["annotation"]["splits"]["n_folds"] - 1)}
    for task, splits in config["drug_sensitivity"]["splits"].items():
        ratios[task] = 1 / splits["train_fraction"] - 1
    for task, splits in config["drug_response"]["splits"].items():
        ratios[task] = splits["test_fraction"] / (1 - splits["test_fraction"])
    return as_json(RUN_LABEL | {"test_over_train": ratios})


rule table:
    input:
        table_scores,
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
        table="|".join(config["tables"]),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        models=table_models,
        settings=table_settings,
        out=results("tables/{table}"),
    shell:
        "python -m celllm table {wildcards.table} --scores {input:q} --models {params.models:q}"
        " --settings {params.settings:q} --out {params.out:q} > {log} 2>&1"


rule claims:
    input:
        scores=all_scores,
        facts=FACTS,
    output:
        report(
            results("claims.html"),
            caption="../report/claims.rst",
            category="Claims",
            labels={"ledger": "Every claim, with its verdict"},
        ),
        multiext(results("claims"), ".csv", ".md"),
    log:
        log_of("claims"),
    benchmark:
        times_of("claims")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        models=shown_models(config["tables"]),
        settings=claim_settings(),
        out=results("claims"),
    shell:
        "python -m celllm claims --scores {input.scores:q} --facts {input.facts:q} --models {params.models:q}"
        " --settings {params.settings:q} --out {params.out:q} > {log} 2>&1"


# Last of all: a method that failed stands in the tables with its reason, and the run says so by its exit status.
rule gate:
    input:
        all_scores,
    output:
        results("complete.json"),
    log:
        log_of("gate"),
    benchmark:
        times_of("gate")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json({"allowed": config["allowed_failures"]}),
    shell:
        "python -m celllm gate --scores {input:q} --settings {params.settings:q} --out {output} > {log} 2>&1"
