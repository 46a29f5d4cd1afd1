# One encoder per model row. Checkpoints stand beside the outputs, so that an interrupted training goes on. A cancelled or
# killed job is begun again; one that failed by its input is not (celllm/training/attempts.py). What fails for good leaves the
# reason in the place of the encoder: its rows fail with it, and the tables are made.
rule pretrain:
    input:
        # Made again with the same vectors, the embeddings are newer, and nothing is trained again.
        ancient(per(plan.gene_embeddings, "{model}")),
        per(plan.gene_digests, "{model}"),
        corpus=rules.corpus.output,
        genes=rules.genes.output.genes,
    output:
        encoder=results("checkpoints/{model}/encoder.safetensors"),
        metrics=results("checkpoints/{model}/metrics.csv"),
    log:
        log_of("pretrain/{model}"),
    benchmark:
        times_of("pretrain/{model}")
    wildcard_constraints:
        model="|".join(name for name in config["models"] if name not in plan.given),
    retries: 4  # the last after kills is to write that down
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        gpu=1,
        processes=0,
        attempt=number_of_the_attempt,
    params:
        model=per(plan.row, "{model}"),
        settings=unwatched(plan.pretraining, "{model}"),
        science=per(plan.science, "pretraining", "{model}"),
        embeddings=per(plan.gene_embedding_flags, "{model}"),
        checkpoints=results("checkpoints/{model}/state"),
        store="results/encoders",
    shell:
        # exec: a scheduler signals every process of a job, and the end of a shell would be the end of the job.
        "exec python -m celllm pretrain --gpus {resources.gpu} --processes {resources.processes}"
        " --attempt {resources.attempt} --attempts 5 --corpus {input.corpus:q} --genes {input.genes:q} {params.embeddings:q}"
        " --store {params.store:q} --model {params.model:q} --settings {params.settings:q} --checkpoints {params.checkpoints:q}"
        " --out {output.encoder:q} --metrics {output.metrics:q} >> {log:q} 2>&1"


# An encoder that was trained elsewhere, or in another run (pretraining.from), in the place of one of this run.
rule take_encoder:
    input:
        file=per(plan.given.get, "{model}"),
        genes=rules.genes.output.genes,
    output:
        results("checkpoints/{model}/encoder.safetensors"),
    log:
        log_of("take_encoder/{model}"),
    benchmark:
        times_of("take_encoder/{model}")
    wildcard_constraints:
        model="|".join(plan.given) or "none",
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    shell:
        "exec python -m celllm take-encoder {input.file:q} --genes {input.genes:q} --out {output:q} >> {log:q} 2>&1"
