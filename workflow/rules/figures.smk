# The figures of a run; Fig. 3, and Table B.2 as curves.
def figures():
    """Every figure that the models and tables of the run allow."""
    with_celllm = ["figc1", "figc2"] if "celllm" in encoder_models() else []
    of_sets = [f"{kind}_{name}" for kind in ("fig3", "tsne") for name in mapped_sets()]
    sizes = ["scaling"] if "tableb2" in config["tables"] else []
    names = of_sets + ["fig4"] + with_celllm + watching_figures() + sizes
    return [results(f"figures/{name}.svg") for name in names]


def mapped_sets():
    """Annotated data sets with predictions of CellLM."""
    is_annotated = "annotation" in sections_of(config["tables"])
    with_celllm = "celllm" in config["annotation"]["models"]
    return config["data_sets"]["annotation"] if is_annotated and with_celllm else []


def named_figure(wildcards):
    """What a figure of one data set says of itself."""
    title = config["models"]["celllm"]["title"]
    return as_json(
        RUN_LABEL
        | {"data_set": wildcards.data_set, "model": title, "protocol": "strict"}
    )


rule confusion:
    input:
        results("scores/annotation/{data_set}/celllm/strict.predictions.csv"),
    output:
        report(
            results("figures/fig3_{data_set}.svg"),
            caption="../report/confusion.rst",
            category="Figures",
            labels={"figure": "Fig. 3", "data set": "{data_set}"},
        ),
        multiext(results("figures/fig3_{data_set}"), ".png", ".csv"),
    log:
        log_of("figures/fig3_{data_set}"),
    benchmark:
        times_of("figures/fig3_{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=named_figure,
        out=results("figures/fig3_{data_set}"),
    shell:
        "exec python -m celllm confusion --predictions {input:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"


rule scaling:
    input:
        results("tables/tableb2.csv"),
    output:
        report(
            results("figures/scaling.svg"),
            caption="../report/scaling.rst",
            category="Figures",
            labels={"figure": "Scores by size", "data set": ""},
        ),
        multiext(results("figures/scaling"), ".png", ".csv"),
    log:
        log_of("figures/scaling"),
    benchmark:
        times_of("figures/scaling")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        settings=as_json(RUN_LABEL),
        out=results("figures/scaling"),
    shell:
        "exec python -m celllm scaling --table {input:q} --settings {params.settings:q} --out {params.out:q} >> {log:q} 2>&1"
