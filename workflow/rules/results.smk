# Scores -> tables. Nothing here reads anything but score files.
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
    wanted = ("title", "group", "paper_row", "seeds")
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
    names = [*config["tables"], *FACT_TABLES, *SUPPLEMENT]
    return expand(results("tables/{table}.csv"), table=names)


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
        "exec python -m celllm table {wildcards.table:q} --scores {input:q} --models {params.models:q}"
        " --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


def strict_predictions():
    """Predictions under protocol strict by task/data_set/model."""
    paths = [path for path in all_scores(None) if path.endswith("/strict.csv")]
    return {
        "/".join(
            Path(path).parts[-4:-1]
        ): f"{path.removesuffix('.csv')}.predictions.csv"
        for path in paths
    }


def all_predictions(wildcards):
    return list(strict_predictions().values())


def supplement_predictions(wildcards):
    return [f"{name}={path}" for name, path in strict_predictions().items()]


def supplement_labels(wildcards):
    number, _, subject = SUPPLEMENT[wildcards.supplement].title.partition(": ")
    return {"table": number, "subject": subject}


rule supplement:
    input:
        contrast_table(),
        scores=all_scores,
        predictions=all_predictions,
    output:
        report(
            multiext(results("tables/{supplement}"), ".html"),
            caption="../report/supplement.rst",
            category="Tables",
            labels=supplement_labels,
        ),
        multiext(results("tables/{supplement}"), ".csv", ".md", ".tex"),
    log:
        log_of("tables/{supplement}"),
    benchmark:
        times_of("tables/{supplement}")
    wildcard_constraints:
        supplement="|".join(SUPPLEMENT),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        models=shown_models(config["tables"]),
        predictions=supplement_predictions,
        contrast=[f"--contrast={path}" for path in contrast_table()],
        settings=as_json(RUN_LABEL),
        out=results("tables/{supplement}"),
    shell:
        "exec python -m celllm supplement {wildcards.supplement:q} --scores {input.scores:q} --models {params.models:q}"
        " --predictions {params.predictions:q} {params.contrast:q}"
        " --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"
