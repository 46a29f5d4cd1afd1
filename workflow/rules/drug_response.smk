# Cell-line drug response: pairs of a cell line and a drug, split by pairs (warm) or by cell lines (cold).
# One screen, named as in the paper's tables whichever release of GDSC it is from.
SCREEN = "gdsc_ccle"


def drug_response_settings(wildcards):
    return method_settings("drug_response", wildcards.model)


def pair_splits_settings(wildcards):
    chosen = config["drug_response"]["splits"][wildcards.response_task]
    kind = wildcards.response_task.removeprefix("response_")
    return as_json(chosen | {"kind": kind, "seed": config["seed"]})


def drug_response_scores():
    return expand(
        score_files(
            "drug_response", config["drug_response"]["splits"], SCREEN, ["csv"]
        ),
        model=config["drug_response"]["models"],
    )


def screen_file(role, pattern):
    """A file of the one data set of a role; a run without tables of drug response needs none."""
    return [results(pattern).format(name=name) for name in config["data_sets"][role]]


wildcard_constraints:
    response_task="response_warm|response_cold",


rule pair_splits:
    input:
        cells=screen_file("expression", "prepared/{name}.h5ad"),
        responses=screen_file("response", "prepared/{name}.responses.csv"),
    output:
        results("splits/{response_task}/gdsc_ccle.json"),
    log:
        log_of("splits/{response_task}/gdsc_ccle"),
    benchmark:
        times_of("splits/{response_task}/gdsc_ccle")
    conda:
        "../../envs/response.yaml"
    threads: 1
    params:
        settings=pair_splits_settings,
        screen=SCREEN,
    shell:
        "exec python -m celllm pair-splits --cells {input.cells:q} --responses {input.responses:q} --data-set {params.screen:q}"
        " --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


# Warm and cold in one job: they share what the frozen layers make of a cell line.
rule drug_response:
    input:
        encoder_of,
        cells=screen_file("expression", "prepared/{name}.h5ad"),
        responses=screen_file("response", "prepared/{name}.responses.csv"),
        genes=rules.genes.output.genes,
        splits=expand(
            rules.pair_splits.output, response_task=config["drug_response"]["splits"]
        ),
    output:
        score_files("drug_response", config["drug_response"]["splits"], SCREEN),
    log:
        log_of("drug_response/{model}"),
    benchmark:
        times_of("drug_response/{model}")
    conda:
        "../../envs/response.yaml"
    threads: 8
    params:
        encoder=encoder_flag,
        model=model_row,
        settings=drug_response_settings,
        protocols=config["drug_response"]["protocols"],
        seed=config["seed"],
        screen=SCREEN,
        out=results("scores"),
    shell:
        "exec python -m celllm drug-response --cells {input.cells:q} --responses {input.responses:q}"
        " --genes {input.genes:q} --splits {input.splits:q} {params.encoder:q} --model {params.model:q}"
        " --settings {params.settings:q} --protocols {params.protocols:q} --seed {params.seed:q}"
        " --data-set {params.screen:q} --out {params.out:q} >> {log:q} 2>&1"
