"""The literal run, the corrected one over it, and the toy over that."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from celllm.config import load, merged
from celllm.errors import UserError
from celllm.plan import Plan
from tests.places import CONFIG

# Key -> as the paper or its released code has it, as we would.
CORRECTED = {
    "run": ("paper", "corrected"),
    "tokens.keep": ("first", "highest"),
    "reader_options.cancerscem.label": ("all_tumour", "sample_type"),
    "reader_options.panglaodb.tumour_samples": ("keep", "as_tumour"),
    "drug_response.splits.response_warm.keep_repeats_together": (False, True),
    "drug_response.splits.response_cold.keep_repeats_together": (False, True),
    "pretraining.settings.held_out_cells": (None, 512),
    "pretraining.settings.geometry_steps": (None, 500),
    "drug_response.finetuning.batch_size": (None, 128),
    "drug_response.finetuning.lines_per_batch": (None, 8),
    "drug_response.baselines": ({}, None),
    "drug_response.baselines.deepcdr.batch_size": (None, 128),
    "drug_response.baselines.deepcdr.lines_per_batch": (None, 8),
}
SHARED = {
    "tokens.max_length": 6000,
    "cls_vector": "ones",
    "interpretation.layer": "all",
    "annotation.finetuning.class_weights": "released",
    "annotation.finetuning.select_by": "accuracy",
}
# A source, or that there is none; of a section that is ours, every part is.
SOURCE = re.compile(r"^ ours:|paper[,:]|released[,:]|\bours\b")


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        within = leaves(value, f"{path}{key}.") if isinstance(value, dict) and value else {path + key: value}
        found |= within
    return found


def test_the_corrected_run_differs_in_our_corrections_and_in_nothing_else() -> None:
    paper, corrected = (leaves(merged(CONFIG / name)) for name in ("paper.yaml", "corrected.yaml"))
    changed = {k for k in paper.keys() | corrected.keys() if paper.get(k) != corrected.get(k)}
    assert {key: (paper.get(key), corrected.get(key)) for key in changed} == CORRECTED
    assert {key: paper[key] for key in SHARED} == SHARED


def test_the_toy_is_a_size_of_the_corrected_run() -> None:
    toy, corrected = (leaves(merged(CONFIG / name)) for name in ("toy.yaml", "corrected.yaml"))
    decided = {*CORRECTED, *SHARED} - {
        "run",
        "tokens.max_length",
        "pretraining.settings.held_out_cells",
        "pretraining.settings.geometry_steps",
        *(key for key in CORRECTED if key.endswith("batch_size")),
    }
    assert {key: toy.get(key) for key in decided} == {key: corrected.get(key) for key in decided}


def test_every_key_of_the_literal_run_names_its_source() -> None:
    """On its own line; a list of rows on that of the list."""
    lines = (CONFIG / "paper.yaml").read_text().splitlines()
    missing: list[str] = []

    def visit(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            for key, value in node.value:
                line = lines[key.start_mark.line]
                source = SOURCE.search(line.partition("#")[2])
                parts = isinstance(value, yaml.MappingNode) and not value.flow_style
                if parts and (source is None or source[0] != " ours:"):
                    visit(value)
                elif source is None:
                    missing.append(line.strip())

    document = yaml.compose((CONFIG / "paper.yaml").read_text())
    assert document is not None
    visit(document)
    assert missing == []


@pytest.mark.parametrize("name", ["paper", "corrected"])
def test_the_literal_and_the_corrected_run_can_be_planned(snakemake, tmp_path: Path, name: str) -> None:
    done = snakemake(tmp_path, "-n", "--quiet", "--configfile", str(CONFIG / f"{name}.yaml"), "--", "all")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_vector_of_cls_goes_to_rows_with_frozen_gene_vectors() -> None:
    plan = Plan(load(CONFIG / "paper.yaml"))
    assert plan.row("celllm")["cls_vector"] == plan.row("random_init")["cls_vector"] == "ones"
    assert "cls_vector" not in plan.row("scbert")


def put(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_file_lies_over_the_one_that_it_names(tmp_path: Path) -> None:
    put(tmp_path, low="seed: 3\nrun: low\n", mid="over: low.yaml\nrun: mid\n", own="over: corrected.yaml\n")
    assert merged(tmp_path / "mid.yaml", folder=CONFIG)["seed"] == 3
    assert merged(tmp_path / "own.yaml", folder=CONFIG)["run"] == "corrected"
    # Each once, at its first place: what stands between is not undone.
    assert merged(tmp_path / "low.yaml", tmp_path / "mid.yaml", folder=CONFIG)["run"] == "mid"
    between = put(tmp_path, between="seed: 4\n") / "between.yaml"
    assert merged(tmp_path / "low.yaml", between, tmp_path / "mid.yaml", folder=CONFIG)["seed"] == 4
    assert merged(changes={"over": "corrected.yaml"}, folder=CONFIG)["run"] == "corrected"
    assert "over" not in load(CONFIG / "toy.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("over: corected.yaml", r"own.yaml: over: corected.yaml: no such file; name another one"),
        ("over: own.yaml", r"own.yaml: over: own.yaml: lies over this file itself"),
        ("over: [a, b]", r"own.yaml: over: expected the name of a file, as corrected.yaml, got \['a', 'b'\]"),
        ("over: loop.yaml", r"loop.yaml: over: own.yaml: lies over this file itself"),
    ],
)
def test_a_file_that_lies_over_nothing(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, own=text, loop="over: own.yaml")
    with pytest.raises(UserError, match=message):
        merged(tmp_path / "own.yaml", folder=CONFIG)


# Rows that a referee asks for, by group; all runs make them but where a section is named after the row.
ASKED_FOR = {
    "annotation": {
        "control": "majority random knn_pca logistic_regression logistic_regression_2000 "
        "l1_logistic_regression linear_svm celltypist permuted",
        "ablation": "random_init random_init_random_genes frozen",
        "added": "scbert_own celllm_t02 celllm_t1 celllm_on_cls celllm_wo_cl_two_views celllm_released",
    },
    "drug_sensitivity": {"control": "majority random knn_pca logistic_regression linear_svm permuted"},
    "drug_response": {
        "control": "drug_mean drug_mean_line_mean ridge ridge_by_drug line_mean_ridge_by_drug permuted "
        "shuffled_ridge_by_drug gradient_boosting",
        "ablation": "random_init frozen",
        "added": "deepcdr_original",
    },
}


@pytest.mark.parametrize("file", ["paper", "corrected", "toy"])
@pytest.mark.parametrize("section", ASKED_FOR)
def test_rows_that_a_referee_asks_for_are_made_in_their_groups(file: str, section: str) -> None:
    config = load(CONFIG / f"{file}.yaml")
    groups = {name: config["models"][name]["group"] for name in config[section]["models"]}
    wanted = {name: group for group, names in ASKED_FOR[section].items() for name in names.split()}
    assert groups.items() >= wanted.items()
    controls = {name for name, group in groups.items() if group == "control"}
    assert all(config["models"][name]["kind"] == "baseline" for name in controls)
    assert config["models"]["scanvi"]["group"] == "control" and "scanvi" not in groups
    if file != "toy" and section == "drug_response":
        assert groups["celllm_lines_normalised"] == "added"


def test_every_task_is_held_out_by_group_too() -> None:
    for file in ("paper", "corrected", "toy"):
        config = load(CONFIG / f"{file}.yaml")
        groups = {task: chosen["splits"]["group"] for task, chosen in config["held_out"].items()}
        assert groups == {
            "annotation_donor": "sample",
            "drug_patient": "patient",
            "response_tissue": "tissue",
            "response_drug": "drug",
        }


@pytest.mark.parametrize("file", ["paper", "corrected", "toy"])
@pytest.mark.parametrize("section", ["annotation", "drug_sensitivity", "drug_response"])
def test_encoders_of_a_table_are_tuned_alike(file: str, section: str) -> None:
    """Class weights, metric of the choice, epochs, rate, batches: one for all but rows that say otherwise."""
    plan = Plan(load(CONFIG / f"{file}.yaml"))
    own = {
        "scbert_own",
        "frozen",
        "celllm_lines_normalised",
    }  # another recipe, reading of the lines, head
    rows = [m for m in plan.config[section]["models"] if plan.config["models"][m]["kind"] == "encoder"]
    settings = {model: plan.settings(section, model) for model in rows if model not in own}
    assert {"scbert", "celllm"} <= set(settings)
    assert all(of_row == settings["celllm"] for of_row in settings.values())
    for model in own & set(rows):
        assert plan.settings(section, model) != settings["celllm"]
        assert plan.config["models"][model]["group"] != "paper"
