# Cell-line drug response: pairs of a cell line and a drug, split by pairs (warm) or by cell lines (cold).
# One screen, named as in the paper's tables whichever release of GDSC it is from.
SCREEN = "gdsc_ccle"


def pair_splits_settings(wildcards):
    chosen = config["drug_response"]["splits"][wildcards.response_task]
    return as_json(chosen | {"seed": config["seed"]})


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


RESPONSES = screen_file("response", "prepared/{name}.responses.csv")


wildcard_constraints:
    response_task="response_warm|response_cold",


use rule annotation_splits as pair_splits with:
    input:
        RESPONSES,
        cells=screen_file("expression", "prepared/{name}.h5ad"),
    output:
        results("splits/{response_task}/gdsc_ccle.json"),
    log:
        log_of("splits/{response_task}/gdsc_ccle"),
    benchmark:
        times_of("splits/{response_task}/gdsc_ccle")
    conda:
        "../../envs/gpu.yaml"
    params:
        task="{response_task}",
        data_set=SCREEN,
        responses=["--responses", *RESPONSES],
        settings=pair_splits_settings,


# Warm and cold in one job: they share what the frozen layers make of a cell line.
use rule annotate as drug_response with:
    input:
        encoder_of,
        RESPONSES,
        cells=screen_file("expression", "prepared/{name}.h5ad"),
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
        "../../envs/gpu.yaml"
    params:
        data_set=SCREEN,
        responses=["--responses", *RESPONSES],
        settings=settings_in("drug_response"),
        protocols=config["drug_response"]["protocols"],
