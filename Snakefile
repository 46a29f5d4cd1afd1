include: "workflow/Snakefile"


# An included file cannot set the default target: what a plain `snakemake` makes.
rule default:
    default_target: True
    input:
        rules.all.input,
