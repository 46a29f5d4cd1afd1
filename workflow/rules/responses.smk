# Responses of cell lines to drugs: GDSC's files -> one table.
rule responses:
    input:
        files=per(plan.raw_files, "{response}"),
    output:
        results("prepared/{response}.responses.csv"),
    log:
        log_of("responses/{response}"),
    benchmark:
        times_of("responses/{response}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        files=per(plan.raw_flags, "{response}"),
        options=per(plan.options, "{response}"),
    shell:
        "exec python -m celllm responses {wildcards.response:q} --files {params.files:q}"
        " --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"
