# Table S3: whole donors, patients, tissues or drugs held out, under protocol strict.
wildcard_constraints:
    held_out="|".join(plan.held_out) or "none",
    held_set="|".join([*plan.labelled_sets, SCREEN]),


use rule annotation_splits as held_out_splits with:
    input:
        per(plan.responses, "{held_set}"),
        cells=per(plan.cells, "{held_set}"),
    output:
        results("splits/{held_out}/{held_set}.json"),
    log:
        log_of("splits/{held_out}/{held_set}"),
    benchmark:
        times_of("splits/{held_out}/{held_set}")
    conda:
        "../../envs/gpu.yaml"
    params:
        task="{held_out}",
        data_set="{held_set}",
        responses=per(plan.response_flags, "{held_set}"),
        settings=per(plan.splits, "{held_out}"),


use rule annotate as held_out with:
    input:
        encoder_of,
        per(plan.row_files, "{model}", "{held_set}"),
        per(plan.responses, "{held_set}"),
        cells=per(plan.cells, "{held_set}"),
        genes=rules.genes.output.genes,
        splits=rules.held_out_splits.output,
    output:
        results("scores/{held_out}/{held_set}/{model}/strict.csv"),
        results("scores/{held_out}/{held_set}/{model}/strict.predictions.csv"),
    log:
        log_of("{held_out}/{held_set}/{model}"),
    benchmark:
        times_of("{held_out}/{held_set}/{model}")
    wildcard_constraints:
        model="|".join(config["models"]),
    params:
        data_set="{held_set}",
        responses=per(plan.response_flags, "{held_set}"),
        model=per(plan.scored_row, "{model}", "{held_set}"),
        settings=unwatched(plan.settings, "{held_out}", "{model}"),
        science=per(plan.science, "{held_out}", "{model}"),
        protocols=["strict"],
