# Cell annotation: saved splits, one job per data set and model for all protocols, tidy scores. The controls of a data set
# share a job. The rules of the other tasks are these three with other files.
rule annotation_splits:
    input:
        cells=results("prepared/{data_set}.h5ad"),
    output:
        results("splits/annotation/{data_set}.json"),
    log:
        log_of("splits/annotation/{data_set}"),
    benchmark:
        times_of("splits/annotation/{data_set}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        task="annotation",
        data_set="{data_set}",
        responses=[],
        settings=as_json(plan.splits("annotation")),
    shell:
        "exec python -m celllm splits --task {params.task:q} --cells {input.cells:q} {params.responses:q}"
        " --data-set {params.data_set:q} --settings {params.settings:q} --out {output:q} >> {log:q} 2>&1"


rule annotate:
    input:
        encoder_of,
        per(plan.row_files, "{model}", "{data_set}"),
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=rules.annotation_splits.output,
    output:
        plan.row_outputs("annotation"),
    log:
        log_of("annotate/{data_set}/{model}"),
    benchmark:
        times_of("annotate/{data_set}/{model}")
    wildcard_constraints:
        model="|".join(plan.scored_alone),
    retries: 2  # of a job that was killed: with more memory, then to write that down; all else that goes wrong is a row
    conda:
        per(plan.environment, "{model}")
    threads: 8
    resources:
        gpu=per(plan.n_gpus, "{model}"),
        attempt=number_of_the_attempt,
    params:
        data_set="{data_set}",
        responses=[],
        model=per(plan.scored_row, "{model}", "{data_set}"),
        settings=unwatched(plan.settings, "annotation", "{model}"),
        science=per(plan.science, "annotation", "{model}"),
        protocols=config["annotation"]["protocols"],
        seed=per(plan.seed, "{model}"),
        out=folder_of(4),  # scores/<task>/<data set>/<model>/<protocol>.csv
    shell:
        "exec python -m celllm score --cells {input.cells:q} {params.responses:q} --genes {input.genes:q}"
        " --splits {input.splits:q} --model {params.model:q} --settings {params.settings:q}"
        " --protocols {params.protocols:q} --seed {params.seed:q} --data-set {params.data_set:q}"
        " --attempt {resources.attempt} --attempts 3 --apart"
        " --out {params.out:q} >> {log:q} 2>&1"


# A change of one reruns these, and nothing else.
use rule annotate as annotate_controls with:
    input:
        cells=results("prepared/{data_set}.h5ad"),
        genes=rules.genes.output.genes,
        splits=rules.annotation_splits.output,
    output:
        plan.control_outputs("annotation"),
    log:
        log_of("annotate_controls/{data_set}"),
    benchmark:
        times_of("annotate_controls/{data_set}")
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        attempt=number_of_the_attempt,
    params:
        model=plan.control_rows("annotation"),
        settings="{}",
        science="in the rows",
        seed=config["seed"],
