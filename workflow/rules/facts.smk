# What Table F.1 and claims on the method are held to: settings with all defaults, the gradient of divide-and-conquer.
rule settings_facts:
    input:
        genes=rules.genes.output.genes,
        counts=results("facts/counts.json"),
    output:
        results("facts/settings.json"),
    log:
        log_of("settings_facts"),
    benchmark:
        times_of("settings_facts")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        model=as_json(plan.row("celllm")),
        pretraining=as_json(plan.science("pretraining", "celllm")),
        annotation=as_json(plan.science("annotation", "celllm")),
        drug_sensitivity=as_json(plan.science("drug_sensitivity", "celllm")),
        drug_response=as_json(plan.science("drug_response", "celllm")),
        sizes=as_json(config["sizes"]),
        splits=as_json(config["drug_sensitivity"]["splits"]),
        data_sets=config["data_sets"]["annotation"],
    shell:
        "exec python -m celllm settings-facts --model {params.model:q} --genes {input.genes:q}"
        " --pretraining {params.pretraining:q} --annotation {params.annotation:q}"
        " --drug-sensitivity {params.drug_sensitivity:q} --drug-response {params.drug_response:q} --sizes {params.sizes:q} --splits {params.splits:q} --facts {input.counts:q}"
        " --data-sets {params.data_sets:q} --out {output:q} >> {log:q} 2>&1"


rule gradient_error:
    output:
        results("facts/gradient.json"),
    log:
        log_of("gradient_error"),
    benchmark:
        times_of("gradient_error")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json({"seed": config["seed"]}),
    shell:
        "exec python -m celllm gradient-error --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"
