"""What a slip in the configuration tells: one line that names the key."""

from pathlib import Path

import pytest

from celllm.config import ROOT, complete, lay_over, load
from celllm.errors import UserError
from celllm.io import read_yaml


def completed(overlay: dict, environ: dict[str, str] | None = None) -> dict:
    base = lay_over(read_yaml(ROOT / "config/paper.yaml"), read_yaml(ROOT / "config/toy.yaml"))
    return complete(lay_over(base, overlay), environ=environ or {})


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"seeed": 1}, ["unknown key 'seeed'", "seed"]),
        ({"seed": "one"}, ["'seed'", "expected integer", "'one'"]),
        ({"tokens": {"max_length": 0}}, ["'tokens.max_length'", "0"]),
        ({"tokens": {"keep": "last"}}, ["'tokens.keep'", "'last'", "highest, first"]),
        ({"data_sets": {"annotation": ["zheng"]}}, ["unknown data set 'zheng'", "zheng68k, baron"]),
        ({"annotation": {"models": ["cellm"]}}, ["unknown model 'cellm'", "celllm"]),
        ({"annotation": {"folds": 3}}, ["unknown key 'folds'", "'annotation'"]),
        ({"drug_sensitivity": {"models": ["cellm"]}}, ["drug_sensitivity.models: unknown model 'cellm'"]),
        ({"drug_sensitivity": {"splits": {"drug_half": {}}}}, ["unknown key 'drug_half'", "drug_full"]),
        (
            {"drug_sensitivity": {"splits": {"drug_full": {"train_fraction": 1}}}},
            ["'drug_sensitivity.splits.drug_full.train_fraction'", "1"],
        ),
        ({"tables": ["table9"]}, ["'tables.0'", "'table9'", "table1, table2"]),
        ({"tables": ["table2"], "data_sets": {"single_cell_drug": []}}, ["tables: table2 needs"]),
        ({"reader_options": {"baron": {"drop": []}}}, ["reader_options.baron", "'drop'", "drop_labels"]),
        ({"reader_options": {"barron": {}}}, ["unknown data set 'barron'"]),
        ({"models": {"celllm": {"size": "51m"}}}, ["models.celllm", "unknown size '51m'", "50m"]),
        ({"models": {"celllm": {"contrast": "simclr"}}}, ["models.celllm.contrast", "simclr", "moco"]),
        ({"sizes": {"50m": {"dim": -1}}}, ["sizes.50m.dim", "-1"]),
        ({"run": "../up"}, ["'run'", "../up"]),
    ],
)
def test_a_slip_is_one_line_naming_the_key(overlay: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        completed(overlay)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message


def test_both_configurations_are_valid() -> None:
    assert completed({})["results"] == "results/toy"
    assert load(ROOT / "config/toy.yaml")["toy"] is True
    assert complete(read_yaml(ROOT / "config/paper.yaml"), environ={})["results"] == "results/paper"


def test_drug_sensitivity_is_as_table_f1_and_the_paper_say() -> None:
    from celllm.evaluation import paper
    from celllm.settings import fill
    from celllm.training.finetune import FinetuneSettings

    config = complete(read_yaml(ROOT / "config/paper.yaml"), environ={})["drug_sensitivity"]
    chosen = fill(FinetuneSettings, config["finetuning"])
    assert (chosen.head, chosen.activation) == ((512, 32), "leaky_relu")
    assert (chosen.batch_size, chosen.accumulation) == (4, 4)
    assert (chosen.learning_rate, chosen.dropout, chosen.weight_decay) == (1e-4, 0.1, 1e-3)
    for task, splits in config["splits"].items():
        share = splits["train_fraction"]
        assert splits["n_folds"] == 5
        assert (1 - share) / share == pytest.approx(paper.load().tasks[task].test_over_train)


def test_every_row_of_the_papers_score_tables_with_cells_has_a_model() -> None:
    from celllm.evaluation import paper

    models = completed({})["models"]
    for table in ("table1", "table2", "tableb1", "tableb2"):
        for row in paper.load().tables[table].rows:
            assert models[row.model]["title"] == row.title or row.name == "celllm_50m"


def test_table_2_is_planned_where_the_config_names_it(snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "tables.yaml"
    overlay.write_text("tables: [table1, table2]\n")
    toy = str(ROOT / "config/toy.yaml")
    for files, n_jobs in (((toy,), 0), ((toy, str(overlay)), 6 * 2 * 2 * 2)):
        plan = snakemake(tmp_path / "run", "-n", "--quiet", "rules", "--configfile", *files, "--", "all")
        assert plan.returncode == 0, plan.stderr[-3000:]
        told = [line.split() for line in (plan.stdout + plan.stderr).splitlines()]
        jobs = {words[0]: int(words[1]) for words in told if len(words) == 2 and words[1].isdigit()}
        assert jobs.get("drug_sensitivity", 0) == n_jobs
        assert jobs.get("drug_splits", 0) == (4 if n_jobs else 0)


def test_a_mirror_has_a_run_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    config = completed({}, {"CELLLM_MIRROR": str(place)})
    assert config["mirror"] == str(place)
    assert config["results"] == "results/toy-files"


def test_a_mirror_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"CELLLM_MIRROR: .*nowhere is no folder"):
        completed({}, {"CELLLM_MIRROR": str(tmp_path / "nowhere")})


def test_snakemake_tells_the_slip_and_stops(snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "slip.yaml"
    overlay.write_text("seeed: 1\n")
    done = snakemake(tmp_path, "-n", "--configfile", str(ROOT / "config/toy.yaml"), str(overlay), "--", "all")
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "config: unknown key 'seeed'" in told
    assert "Traceback" not in told


def test_a_data_set_has_the_files_that_its_reader_takes() -> None:
    files = {name: set(row["files"]) for name, row in completed({})["catalogue"].items()}
    assert files["zheng68k"] == {"matrix", "labels"}
    assert files["gdsc2"] == {"response", "lines", "drugs", "smiles"}
    listed = completed({"reader_options": {"zheng68k": {"filter_genes": "list"}}})["catalogue"]["zheng68k"]
    assert set(listed["files"]) == {"matrix", "labels", "gene_list"}
