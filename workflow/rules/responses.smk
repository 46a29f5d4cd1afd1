# Responses of cell lines to drugs: GDSC's files -> one table.
def response_files(wildcards):
    return raw_files(wildcards.response)


def response_flags(wildcards):
    return file_flags(wildcards.response)


def response_options(wildcards):
    return as_json(config["catalogue"][wildcards.response].get("options", {}))


rule responses:
    input:
        files=response_files,
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
        files=response_flags,
        options=response_options,
    shell:
        "exec python -m celllm responses {wildcards.response:q} --files {params.files:q}"
        " --settings {params.options:q} --out {output:q} >> {log:q} 2>&1"
