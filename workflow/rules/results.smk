# Scores and facts -> tables. Nothing here reads anything but their files.


rule table:
    input:
        per(plan.table_scores, "{table}"),
    output:
        report(
            multiext(results("tables/{table}"), ".html"),
            caption="../report/table.rst",
            category="Tables",
            labels=lambda wildcards: plan.table_labels(wildcards.table),
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
        given=["--scores"],
        models=per(plan.shown_models, "{table}"),
        settings=per(plan.table_settings, "{table}"),
        out=stem,
    shell:
        "exec python -m celllm table {wildcards.table:q} {params.given} {input:q} --models {params.models:q}"
        " --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


# Of facts alone.
use rule table as fact_table with:
    input:
        plan.facts,
    wildcard_constraints:
        table="|".join(FACT_TABLES),
    params:
        given=["--scores", "--facts"],
        models="{}",
        settings=as_json(plan.label),
        out=stem,


rule supplement:
    input:
        plan.contrast,
        scores=[*plan.table_scores(), *plan.held_out_scores],
        predictions=plan.prediction_files,
    output:
        report(
            multiext(results("tables/{supplement}"), ".html"),
            caption="../report/supplement.rst",
            category="Tables",
            labels=lambda wildcards: plan.table_labels(wildcards.supplement),
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
        models=plan.shown_models(),
        predictions=plan.flags(plan.predictions),
        contrast=[f"--contrast={path}" for path in plan.contrast],
        settings=as_json(plan.label),
        out=stem,
    shell:
        "exec python -m celllm supplement {wildcards.supplement:q} --scores {input.scores:q} --models {params.models:q}"
        " --predictions {params.predictions:q} {params.contrast:q}"
        " --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"
