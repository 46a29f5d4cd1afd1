"""What a slip in the configuration tells: one line that names the key."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from celllm import methods
from celllm.cells.settings import OPTIONS
from celllm.config import SECTION_OF, complete, lay_over, layers_of, load, merged
from celllm.corpus.settings import PairSplitSettings, RunTokens, SplitSettings
from celllm.errors import UserError
from celllm.graph.settings import GraphMAESettings, NetworkSettings
from celllm.io import read_yaml
from celllm.methods.settings import CELL_SETTINGS, PAIR_SETTINGS
from celllm.model.settings import EncoderSize
from celllm.probes.settings import EmbeddingMapSettings, InterpretationSettings, MemorySettings
from celllm.training.settings import FinetuneSettings, PretrainSettings, ResponseSettings
from tests.places import CONFIG, ROOT


def completed(overlay: dict, environ: dict[str, str] | None = None) -> dict:
    base = merged(CONFIG / "toy.yaml")
    return complete(lay_over(base, overlay), CONFIG, environ=environ or {})


def overlay(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeed": 1}, ["unknown key 'seeed'", "seed"]),
        ({"seed": "one"}, ["config: seed: expected an integer", '"one"']),
        ({"tokens": {"max_length": 0}}, ["config: tokens.max_length: expected at least 2, got 0"]),
        ({"tokens": {"keep": "last"}}, ["config: tokens.keep: expected 'highest' or 'first', got \"last\""]),
        (
            {"data_sets": {"annotation": ["zheng"]}},
            ["unknown data set 'zheng'", "did you mean 'zheng68k'"],
        ),
        ({"annotation": {"models": ["cellm"]}}, ["unknown model 'cellm'", "celllm"]),
        ({"annotation": {"folds": 3}}, ["config: annotation.folds: unknown key 'folds'"]),
        ({"drug_sensitivity": {"models": ["cellm"]}}, ["drug_sensitivity.models: unknown model 'cellm'"]),
        ({"drug_sensitivity": {"splits": {"drug_half": {}}}}, ["unknown key 'drug_half'", "drug_full"]),
        (
            {"drug_sensitivity": {"splits": {"drug_full": {"train_fraction": 1}}}},
            ["config: drug_sensitivity.splits.drug_full.train_fraction: expected less than 1, got 1"],
        ),
        ({"tables": ["table9"]}, ["config: tables.0: expected 'table1'", '"table9"']),
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
            ["config: drug_response.splits.response_cold.test_fraction: expected less than 1, got 1"],
        ),
        (
            {"drug_response": {"protocols": ["loose"]}},
            ["drug_response.protocols.0: expected 'strict'"],
        ),
        (
            {"drug_response": {"finetune": {}}},
            ["drug_response.finetune: unknown key", "'finetuning'"],
        ),
        (
            {"reader_options": {"baron": {"drop": []}}},
            ["reader_options.baron.drop: unknown key", "drop_labels"],
        ),
        ({"reader_options": {"barron": {}}}, ["unknown data set 'barron'"]),
        ({"models": {"celllm": {"size": "51m"}}}, ["models.celllm", "unknown size '51m'", "50m"]),
        ({"models": {"frozen": {"encoder": "celm"}}}, ["models.frozen", "unknown encoder 'celm'", "celllm"]),
        ({"models": {"frozen": {"encoder": "random_init"}}}, ["unknown encoder 'random_init'"]),
        (
            {"models": {"random_init": {"pretrained": True}}},
            ["models.random_init.pretrained: expected"],
        ),
        (
            {"models": {"new": {"kind": "encoder", "title": "New", "group": "added"}}},
            ["models.new.size"],
        ),
        ({"models": {"celllm": {"contrast": "simclr"}}}, ["models.celllm.contrast", "simclr", "moco"]),
        ({"sizes": {"50m": {"dim": -1}}}, ["sizes.50m.dim: expected at least 1, got -1"]),
        ({"run": "../up"}, ["config: run", "../up"]),
        (
            {"held_out": {"annotation_donors": None}},
            ["held_out.annotation_donors: unknown key", "annotation_donor"],
        ),
        ({"held_out": {"drug_patient": {"models": ["celm"]}}}, ["held_out.drug_patient.models", "'celm'"]),
        (
            {"held_out": {"drug_patient": {"data_sets": ["gse1"]}}},
            ["held_out.drug_patient.data_sets", "'gse1'"],
        ),
        (
            {"held_out": {"response_drug": {"splits": {"n_folds": 1}}}},
            ["splits.n_folds: expected at least 2"],
        ),
        ({"held_out": {"response_drug": {"splits": {"seed": 1}}}}, ["held_out.response_drug.splits.seed"]),
        ({"pretraining": {"seeds": [1, 2]}}, ["pretraining.seeds: expected the run's seed, 0, among them"]),
        ({"seed": 5}, ["pretraining.seeds: expected the run's seed, 5, among them, got [0, 1]"]),
        ({"pretraining": {"seeds": [0, 0]}}, ["pretraining.seeds: '0' appears twice"]),
        ({"pretraining": {"seeds": [0, -1]}}, ["pretraining.seeds.1: expected at least 0"]),
        ({"pretraining": {"seeds_of": ["celm"]}}, ["pretraining.seeds_of: unknown model 'celm'", "celllm"]),
        ({"pretraining": {"seeds_of": ["majority"]}}, ["'majority' has no pre-training of its own"]),
        ({"pretraining": {"seeds_of": ["frozen"]}}, ["'frozen' has no pre-training of its own"]),
        ({"pretraining": {"seeds_in": ["table1"]}}, ["pretraining.seeds_in.0: expected 'annotation'"]),
    ],
)
def test_a_slip_is_one_line_naming_the_key(change: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        completed(change)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("annotation.finetuning.epoch", 3, "unknown key 'epoch'; did you mean 'epochs'"),
        ("annotation.finetuning.epochs", "5", "expected a number, got the text"),
        ("annotation.finetuning.epochs", True, "expected an integer, got true"),
        ("annotation.finetuning.learning_rate", "1e-4", "expected a number, got the text"),
        ("annotation.finetuning_by_model.celm", {}, "unknown model 'celm'"),
        ("annotation.finetuning_by_model.majority", {}, "'majority' is no encoder"),
        ("annotation.finetuning_by_model.scbert.frozentop", 1, "unknown key"),
        ("annotation.splits.n_folds", 1, "expected at least 2"),
        ("annotation.splits.train_fraction", 0.5, "is decided by the run"),
        ("annotation.baselines.knn_pca.neighbours", 3, "unknown key"),
        ("annotation.baselines.celllm", {}, "'celllm' is no baseline"),
        ("annotation.models", ["celllm", "deepcdr"], "models.deepcdr.method: unknown method 'deepcdr'"),
        ("drug_sensitivity.finetuning.dropout", 1, "expected less than 1, got 1"),
        ("drug_sensitivity.splits.drug_full.seed", 3, "is decided by the run"),
        ("drug_response.finetuning.drugs_per_batch", 2, "expected 0 with lines_per_batch"),
        (
            "drug_response.baselines.deepcdr.expression_layers",
            [3],
            "drug_response.baselines.deepcdr.expression_layers.1: is missing",
        ),
        ("pretraining.settings.batchsize", 3, "unknown key 'batchsize'; did you mean 'batch_size'"),
        ("pretraining.settings.seed", 3, "is decided by the run"),
        ("pretraining.by_model.celllm.epochs", 0, "expected at least 1, got 0"),
        ("pretraining.by_model.celm", {}, "unknown model 'celm'"),
        ("graphmae.hidden", 6, "graphmae.heads: expected a divisor"),
        ("graphmae.dim", 64, "is decided by the run"),
        ("network.min_score", 1000, "expected less than 1000, got 1000"),
        ("models.random_init.finetuning.epoch", 1, "unknown key"),
        ("models.celllm.tokens.max_length", 9, "is decided by the run"),
        ("memory.attention", [], "expected at least 1 item, got []"),
        ("interpretation.layer", "first", "expected 'last' or 'all'"),
        ("embedding_map.n_cell", 3, "unknown key"),
        ("counts.accept.baron/n_cells", "many", "counts.accept.baron/n_cells"),
        ("leakage.drop", "yes", "expected a boolean"),
        ("reader_options.cancerscem.label", "any", "expected 'sample_type'"),
        ("data_sets.annotation", ["baron", "baron"], "'baron' appears twice"),
    ],
)
def test_slips_of_all_sections_are_told_with_their_whole_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        completed(overlay(path, value))
    assert str(caught.value).startswith("config: ")
    assert message in str(caught.value)
    assert path in str(caught.value) or message.partition(":")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


SECTIONS = {
    "annotation.finetuning": FinetuneSettings,
    "drug_sensitivity.finetuning": FinetuneSettings,
    "drug_response.finetuning": ResponseSettings,
    "pretraining.settings": PretrainSettings,
    "pretraining.by_model.celllm": PretrainSettings,
    "annotation.finetuning_by_model.celllm": FinetuneSettings,
    "annotation.splits": SplitSettings,
    "drug_response.splits.response_warm": PairSplitSettings,
    "graphmae": GraphMAESettings,
    "network": NetworkSettings,
    "memory": MemorySettings,
    "interpretation": InterpretationSettings,
    "embedding_map": EmbeddingMapSettings,
    "tokens": RunTokens,
    "sizes.50m": EncoderSize,
    **{f"reader_options.{name}": kind for name, kind in OPTIONS.items()},
    **{
        f"annotation.baselines.{name}": CELL_SETTINGS[name]
        for name in ("knn_pca", "logistic_regression_2000")
    },
    **{
        f"drug_response.baselines.{name}": PAIR_SETTINGS[name]
        for name in ("ridge", "gradient_boosting", "deepcdr", "deepcdr_original")
    },
}


def beyond(field: FieldInfo) -> Iterator[Any]:
    """Values that break a setting's limits."""
    for limit in field.metadata:
        for name, step in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            if hasattr(limit, name):
                yield getattr(limit, name) + step


@pytest.mark.parametrize("place", SECTIONS)
def test_every_setting_refuses_what_it_is_not(place: str) -> None:
    """An unknown key, a value of no type that a setting has, and one beyond each limit, in every section."""
    fields = SECTIONS[place].model_fields
    slips = [("no_such_key", 1), *((name, {"a": {}}) for name in fields if name not in ("size",))]
    slips += [(name, value) for name, field in fields.items() for value in beyond(field)]
    assert len(slips) > len(fields)
    for key, value in slips:
        with pytest.raises(UserError, match=re.escape(f"config: {place}.{key}")):
            completed(overlay(f"{place}.{key}", value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping of keys"),
        ("- seed\n", "expected a mapping of keys"),
        ("seed: 1\nseed: 2\n", "line 2, column 1"),
        ("annotation:\n  protocols: [strict]\n  protocols: [paper]\n", "the key 'protocols' appears twice"),
    ],
)
def test_files_that_are_no_configuration(snakemake, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "slip.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"{file}.*{message}"):
        load(file)
    done = snakemake(tmp_path, "-n", "--configfile", str(ROOT / "config/toy.yaml"), str(file), "--", "all")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr


def test_settings_of_methods_are_those_that_the_methods_take() -> None:
    for modules, kinds in ((methods.CELLS, CELL_SETTINGS), (methods.PAIRS, PAIR_SETTINGS)):
        assert {name: methods.look_up(name, modules).settings for name in modules} == kinds


@pytest.mark.parametrize("name", ["celllm", "random_init", "frozen"])
def test_a_row_says_how_it_is_fine_tuned(name: str) -> None:
    config = completed({"models": {name: {"finetuning": {"epochs": 7}}}})
    merged: dict[str, Any] = {}
    for layer in layers_of(config, "annotation", name).values():
        merged = lay_over(merged, layer)
    assert merged["epochs"] == 7


def test_both_configurations_are_valid() -> None:
    assert completed({})["results"] == "results/toy"
    assert load(ROOT / "config/toy.yaml")["toy"] is True
    assert complete(read_yaml(ROOT / "config/paper.yaml"), CONFIG, environ={})["results"] == "results/paper"


def test_drug_sensitivity_is_as_table_f1_and_the_paper_say() -> None:
    from celllm.report import published
    from celllm.settings import as_settings
    from celllm.training.finetune import FinetuneSettings

    config = complete(read_yaml(ROOT / "config/paper.yaml"), CONFIG, environ={})["drug_sensitivity"]
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

    config = complete(read_yaml(ROOT / "config/paper.yaml"), CONFIG, environ={})["drug_response"]
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
    full = complete(read_yaml(ROOT / "config/paper.yaml"), CONFIG, environ={})
    for config in (full, completed({})):
        assert set(config["tables"]) == set(SECTION_OF)
        for table, section in SECTION_OF.items():
            for row in published.load().tables[table].rows:
                assert row.model in config[section]["models"]
                made = config["models"][row.model]
                assert row.title in (made["title"], made.get("paper_row")) or row.name == "celllm_50m"


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


def n_alone(section: str) -> int:
    """Rows of a section that have a job of their own: all but the controls."""
    config = completed({})
    rows = [config["models"][name] for name in set(config[section]["models"])]
    return sum(row["kind"] == "encoder" or row["group"] != "control" for row in rows)


def test_a_run_makes_what_its_tables_need_and_no_more(snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "tables.yaml"
    toy = str(ROOT / "config/toy.yaml")
    alone = {section: n_alone(section) for section in SECTION_OF.values()}
    for tables, n_jobs in {
        "table1": {
            "annotate": (alone["annotation"] + 2) * 2,
            "annotate_controls": 2,
            "drug_sensitivity": 0,
            "drug_response": 0,
            "drug_response_controls": 0,
        },
        "tableb1": {
            "annotate": 0,
            "annotate_controls": 0,
            "drug_response": alone["drug_response"],
            "drug_response_controls": 1,
        },
        "table2": {
            "annotate": 0,
            "pair_splits": 0,
            "drug_sensitivity": alone["drug_sensitivity"] * 2,
            "drug_sensitivity_controls": 2,
        },
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
    assert "config: seeed: unknown key 'seeed'; did you mean 'seed'" in told
    assert "Traceback" not in told


def test_a_data_set_has_the_files_that_its_reader_takes() -> None:
    files = {name: set(row["files"]) for name, row in completed({})["catalogue"].items()}
    assert files["zheng68k"] == {"matrix", "labels"}
    assert files["gdsc2"] == {"response", "lines", "drugs", "smiles"}
    listed = completed({"reader_options": {"zheng68k": {"filter_genes": "list"}}})["catalogue"]["zheng68k"]
    assert set(listed["files"]) == {"matrix", "labels", "gene_list"}
