"""What a slip in the configuration tells: one line that names the key."""

from pathlib import Path

import pytest

from celllm.config import ROOT, SECTION_OF, complete, lay_over, load
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
        ({"tables": ["table9"]}, ["'tables.0'", "'table9'", "table3, tableb1"]),
        (
            {"tables": ["table2"], "data_sets": {"single_cell_drug": []}},
            ["tables: table2 needs a data set in data_sets.single_cell_drug, which has 0"],
        ),
        (
            {"tables": ["tableb1"], "data_sets": {"response": ["gdsc", "gdsc2"]}},
            ["tableb1 needs one data set in data_sets.response, which has 2", "leave tableb1 out"],
        ),
        ({"data_sets": {"expression": []}}, ["tables: table3 needs one data set in data_sets.expression"]),
        ({"drug_response": {"models": ["deepcd"]}}, ["drug_response.models: unknown model 'deepcd'"]),
        (
            {"drug_response": {"splits": {"response_hot": {}}}},
            ["unknown key 'response_hot'", "response_cold"],
        ),
        (
            {"drug_response": {"splits": {"response_cold": {"test_fraction": 1}}}},
            ["'drug_response.splits.response_cold.test_fraction'", "1"],
        ),
        (
            {"drug_response": {"protocols": ["loose"]}},
            ["'drug_response.protocols.0'", "strict, no_refit, paper"],
        ),
        ({"drug_response": {"finetune": {}}}, ["unknown key 'finetune'", "finetuning"]),
        ({"reader_options": {"baron": {"drop": []}}}, ["reader_options.baron", "'drop'", "drop_labels"]),
        ({"reader_options": {"barron": {}}}, ["unknown data set 'barron'"]),
        ({"models": {"celllm": {"size": "51m"}}}, ["models.celllm", "unknown size '51m'", "50m"]),
        ({"models": {"frozen": {"encoder": "celm"}}}, ["models.frozen", "unknown encoder 'celm'", "celllm"]),
        ({"models": {"frozen": {"encoder": "random_init"}}}, ["unknown encoder 'random_init'"]),
        ({"models": {"random_init": {"pretrained": True}}}, ["models.random_init.pretrained"]),
        ({"models": {"new": {"kind": "encoder", "title": "New", "group": "added"}}}, ["'size' is missing"]),
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
    assert len(message) < 600
    for word in words:
        assert word in message


def test_both_configurations_are_valid() -> None:
    assert completed({})["results"] == "results/toy"
    assert load(ROOT / "config/toy.yaml")["toy"] is True
    assert complete(read_yaml(ROOT / "config/paper.yaml"), environ={})["results"] == "results/paper"


def test_drug_sensitivity_is_as_table_f1_and_the_paper_say() -> None:
    from celllm.report import published
    from celllm.settings import as_settings
    from celllm.training.finetune import FinetuneSettings

    config = complete(read_yaml(ROOT / "config/paper.yaml"), environ={})["drug_sensitivity"]
    chosen = as_settings(FinetuneSettings, config["finetuning"])
    assert (chosen.head, chosen.activation) == ((512, 32), "leaky_relu")
    assert (chosen.batch_size, chosen.accumulation) == (4, 4)
    assert (chosen.learning_rate, chosen.dropout, chosen.weight_decay) == (1e-4, 0.1, 1e-3)
    for task, splits in config["splits"].items():
        share = splits["train_fraction"]
        assert splits["n_folds"] == 5
        assert (1 - share) / share == pytest.approx(published.load().tasks[task].test_over_train)


def test_drug_response_is_as_table_f1_says() -> None:
    from celllm.report import published
    from celllm.settings import as_settings
    from celllm.tasks.drug_response import PairSplitSettings
    from celllm.training.finetune_response import ResponseSettings

    config = complete(read_yaml(ROOT / "config/paper.yaml"), environ={})["drug_response"]
    chosen = as_settings(ResponseSettings, config["finetuning"])
    assert (chosen.cell_layers, chosen.drug_size) == ((1024, 256), 256)
    assert (chosen.regression_layers, chosen.activation) == ((512, 512), "elu")
    assert (chosen.batch_size, chosen.learning_rate, chosen.dropout) == (16, 1e-4, 0.2)
    for task, splits in config["splits"].items():
        drawn = as_settings(PairSplitSettings, splits)
        assert (drawn.n_repeats, drawn.validation_fraction, drawn.test_fraction) == (5, 0.1, 0.1)
        # The training side holds the validation part: methods that choose nothing learn from both.
        assert published.load().tasks[task].test_over_train == pytest.approx(0.1 / 0.9)


def test_every_row_of_the_papers_score_tables_is_in_the_runs() -> None:
    from celllm.report import published

    assert set(SECTION_OF) == set(published.load().tables)
    full = complete(read_yaml(ROOT / "config/paper.yaml"), environ={})
    for config in (full, completed({})):
        assert set(config["tables"]) == set(SECTION_OF)
        for table, section in SECTION_OF.items():
            for row in published.load().tables[table].rows:
                assert row.model in config[section]["models"]
                assert config["models"][row.model]["title"] == row.title or row.name == "celllm_50m"


def test_rows_without_pre_training_of_their_own(snakemake, tmp_path: Path) -> None:
    """The untrained encoder has no file, the frozen one that of CellLM; nothing else is pre-trained."""
    overlay = tmp_path / "rows.yaml"
    overlay.write_text("annotation: {models: [random_init, frozen], protocols: [strict]}\ntables: [table1]\n")
    toy = str(ROOT / "config/toy.yaml")
    plan = snakemake(
        tmp_path / "run", "-n", "--printshellcmds", "--configfile", toy, str(overlay), "--", "all"
    )
    assert plan.returncode == 0, plan.stderr[-3000:]
    told = (plan.stdout + plan.stderr).splitlines()
    commands = [" ".join(line.split()) for line in told if "celllm score" in line]
    encoders = {
        name: {
            command.partition('"encoder": "')[2].partition('"')[0]
            for command in commands
            if f'"name": "{name}"' in command
        }
        for name in ("random_init", "frozen")
    }
    assert encoders == {"random_init": {""}, "frozen": {"results/toy/checkpoints/celllm/encoder.safetensors"}}
    assert sum("celllm pretrain " in line for line in told) == 1
    frozen = next(command for command in commands if '"name": "frozen"' in command)
    assert '"trainable_layers": 0' in frozen
    assert '"head": []' in frozen


def test_a_run_makes_what_its_tables_need_and_no_more(snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "tables.yaml"
    toy = str(ROOT / "config/toy.yaml")
    n_models = {section: len(set(completed({})[section]["models"])) for section in SECTION_OF.values()}
    for tables, n_jobs in {
        "table1": {"annotate": n_models["annotation"] * 2, "drug_sensitivity": 0, "drug_response": 0},
        "tableb1": {"annotate": 0, "drug_sensitivity": 0, "drug_response": n_models["drug_response"]},
        "table2": {"annotate": 0, "drug_sensitivity": n_models["drug_sensitivity"] * 2, "pair_splits": 0},
    }.items():
        overlay.write_text(f"tables: [{tables}]\n")
        plan = snakemake(
            tmp_path / "run", "-n", "--quiet", "rules", "--configfile", toy, str(overlay), "--", "all"
        )
        assert plan.returncode == 0, plan.stderr[-3000:]
        told = [line.split() for line in (plan.stdout + plan.stderr).splitlines()]
        jobs = {words[0]: int(words[1]) for words in told if len(words) == 2 and words[1].isdigit()}
        assert {rule: jobs.get(rule, 0) for rule in n_jobs} == n_jobs
        assert jobs["table"] == 1


def test_a_mirror_has_a_run_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    config = completed({}, {"CELLLM_MIRROR": str(place)})
    assert config["mirror"] == str(place)
    assert config["results"] == "results/toy-files"


def test_a_mirror_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"CELLLM_MIRROR: .*nowhere is not a folder"):
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
