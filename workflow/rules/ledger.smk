# Scores and facts -> the verdict on every claim, and the exit status of the run.
rule claims:
    input:
        scores=plan.table_scores(),
        facts=plan.facts,
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
        models=plan.shown_models(),
        settings=as_json(plan.claim_settings()),
        out=stem,
    shell:
        "exec python -m celllm claims --scores {input.scores:q} --facts {input.facts:q} --models {params.models:q}"
        " --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


# Last of all: a method that failed stands in the tables with its reason, and the run says so by its exit status.
rule gate:
    input:
        plan.table_scores(),
        plan.held_out_scores,
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
        "exec python -m celllm gate --scores {input:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"
