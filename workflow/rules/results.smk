# Scores -> tables, figures, ledger, manifest, report. Nothing here reads anything but score files.
TABLES = ["table1"]


def table_scores(wildcards):
    return {"table1": annotation_scores}[wildcards.table](wildcards)


def predictions(wildcards):
    return expand(
        results("scores/annotation/{{data_set}}/{model}/strict.predictions.csv"),
        model=config["annotation"]["models"],
    )


def run_settings():
    return as_json(
        {
            "run": config["run"],
            "toy": config["toy"],
            "titles": {n: row["title"] for n, row in config["models"].items()},
        }
    )
