# Every figure of the run by one rule. What a figure shows: celllm.report.captions; how it is drawn: celllm.figures.<kind>.
def figure_inputs():
    """Figure -> its files by the names that `draw` of its module gives them, for all that the run allows."""
    annotated = "annotation" in sections_of(config["tables"])
    with_celllm = "celllm" in config["annotation"]["models"]
    sets = config["data_sets"]["annotation"] if annotated and with_celllm else []
    scores = "scores/annotation/{}/celllm/strict.predictions.csv"
    studied = "facts/interpretation.json"
    files = {f"fig3_{name}": {"predictions": scores.format(name)} for name in sets}
    files |= {f"tsne_{name}": {"table": f"embeddings/{name}.csv"} for name in sets}
    files["fig4"] = {"table": "memory.csv", "facts": "facts/memory.json"}
    if "celllm" in encoder_models():
        files["figc1"] = {"table": "interpretation/genes.csv", "facts": studied}
        files["figc2"] = {"cells": "interpretation/cells.csv", "facts": studied}
    if encoder_models():
        files["loss_curves"] = {
            name: f"checkpoints/{name}/metrics.csv" for name in encoder_models()
        }
    if geometry_tables():
        files["geometry"] = {"table": "geometry.csv"}
    if "tableb2" in config["tables"]:
        files["scaling"] = {"table": "tables/tableb2.csv"}
    return {
        figure: {name: results(path) for name, path in inputs.items()}
        for figure, inputs in files.items()
    }


FIGURES = figure_inputs()


def figures():
    return expand(results("figures/{figure}.svg"), figure=FIGURES)


def figure_files(wildcards):
    return list(FIGURES[wildcards.figure].values())


def figure_flags(wildcards):
    return [f"{name}={path}" for name, path in FIGURES[wildcards.figure].items()]


def figure_settings():
    shown = encoder_models() + untrained_models()
    titles = {name: config["models"][name]["title"] for name in shown}
    batch_size = config["pretraining"]["settings"].get("batch_size", 0)
    return as_json(
        {
            "toy": config["toy"],
            "titles": titles,
            "protocol": "strict",
            "batch_size": batch_size,
        }
    )


def figure_labels(wildcards):
    kind, data_set = kind_of(wildcards.figure)
    return {"figure": CAPTIONS[kind].title, "data set": data_set}


def figure_caption(wildcards):
    return CAPTIONS[kind_of(wildcards.figure)[0]].text


rule figure:
    input:
        figure_files,
    output:
        report(
            results("figures/{figure}.svg"),
            caption="../report/figure.rst",
            category="Figures",
            labels=figure_labels,
        ),
        multiext(results("figures/{figure}"), ".png", ".csv"),
    log:
        log_of("figures/{figure}"),
    benchmark:
        times_of("figures/{figure}")
    wildcard_constraints:
        figure="|".join(map(re.escape, FIGURES)),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        inputs=figure_flags,
        settings=figure_settings(),
        out=results("figures/{figure}"),
        caption=figure_caption,
    shell:
        "exec python -m celllm figure {wildcards.figure:q} --inputs {params.inputs:q} --settings {params.settings:q}"
        " --out {params.out:q} >> {log:q} 2>&1"
