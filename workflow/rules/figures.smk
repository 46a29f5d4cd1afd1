# Every figure of the run by one rule. What a figure shows: celllm.report.captions; how it is drawn: celllm.figures.<kind>.


rule figure:
    input:
        per(plan.figure_inputs, "{figure}"),
    output:
        report(
            results("figures/{figure}.svg"),
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda wildcards: plan.figure_labels(wildcards.figure),
        ),
        multiext(results("figures/{figure}"), ".png", ".csv"),
    log:
        log_of("figures/{figure}"),
    benchmark:
        times_of("figures/{figure}")
    wildcard_constraints:
        figure="|".join(map(re.escape, plan.figure_files)),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        inputs=per(plan.figure_flags, "{figure}"),
        settings=as_json(plan.figure_settings()),
        out=stem,
        caption=per(plan.figure_caption, "{figure}"),
    shell:
        "exec python -m celllm figure {wildcards.figure:q} --inputs {params.inputs:q} --settings {params.settings:q}"
        " --out {params.out:q} >> {log:q} 2>&1"
