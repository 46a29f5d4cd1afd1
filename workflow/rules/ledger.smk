# Scores and facts -> the verdict on every claim, and the exit status of the run.
def claim_settings():
    ratios = {"annotation": 1 / (config["annotation"]["splits"]["n_folds"] - 1)}
    for task, splits in config["drug_sensitivity"]["splits"].items():
        ratios[task] = 1 / splits["train_fraction"] - 1
    for task, splits in config["drug_response"]["splits"].items():
        ratios[task] = splits["test_fraction"] / (1 - splits["test_fraction"])
    return as_json(RUN_LABEL | {"test_over_train": ratios})


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
        "exec python -m celllm claims --scores {input.scores:q} --facts {input.facts:q} --models {params.models:q}"
        " --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


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
        "exec python -m celllm gate --scores {input:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"
