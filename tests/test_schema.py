"""The JSON schema of the configuration, and the tables of config/README.md."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from celllm.cli import main
from celllm.config import Config
from celllm.errors import UserError
from celllm.io import read_yaml
from celllm.schema import run_schema, schema, with_tables
from celllm.settings import Settings, is_resource, without_resources
from tests.places import CONFIG


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ("config", "paper.yaml"),
        ("config", "toy.yaml"),
        ("models", "models.yaml"),
        ("data_sets", "data_sets.yaml"),
    ],
)
def test_shipped_files_fit_their_schema(of: Any, name: str) -> None:
    found = schema(of)
    Draft202012Validator.check_schema(found)
    assert list(Draft202012Validator(found).iter_errors(read_yaml(CONFIG / name))) == []


def test_a_list_may_be_made_longer() -> None:
    found = Draft202012Validator(schema("config"))
    assert list(found.iter_errors({"annotation": {"models": {"add": ["mine"]}}})) == []
    assert list(found.iter_errors({"annotation": {"models": {"adds": ["mine"]}}}))


@pytest.mark.parametrize(
    ("of", "slip"),
    [
        ("config", {"seeed": 1}),
        ("config", {"annotation": {"finetuning": {"epochs": 0}}}),
        ("config", {"annotation": {"finetuning_by_model": {"celllm": {"epoch": 3}}}}),
        ("config", {"models": {"celllm": {"size": 50}}}),
        ("config", {"models": {"celllm": {"finetuning": {"head": "wide"}}}}),
        ("config", {"graphmae": {"seed": 1}}),
        ("config", {"pretraining": {"by_model": {"celllm": {"epochs": "many"}}}}),
        ("config", {"tables": ["table9"]}),
        ("models", {"models": {"mine": {"title": "Mine"}}, "sizes": {}}),
        ("data_sets", {"mine": {"title": "Mine"}}),
    ],
)
def test_an_editor_marks_a_slip(of: Any, slip: dict[str, Any]) -> None:
    assert list(Draft202012Validator(schema(of)).iter_errors(slip))


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--of", "models"]) == 0
    assert json.loads(capsys.readouterr().out) == schema("models")


def test_the_page_of_the_configuration_is_that_of_the_classes() -> None:
    page = (CONFIG / "README.md").read_text()
    assert with_tables(page) == page, "run: celllm schema --markdown config/README.md"


def test_every_setting_of_a_run_stands_in_the_page() -> None:
    page = (CONFIG / "README.md").read_text()
    for section, field in Config.model_fields.items():
        assert f"| `{section}" in page
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            keys = {one.alias or name for name, one in field.annotation.model_fields.items()}
            for key in keys - {"seed", "dim"}:
                assert f"| `{section}.{key}" in page, f"{section}.{key}"


def test_a_page_without_the_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n")
    with pytest.raises(UserError, match=r"page\.md: expected the lines"):
        run_schema(markdown=page)
    assert page.read_text() == "# Mine\n"


def test_what_decides_is_what_is_left_without_the_resources() -> None:
    config = {
        "seed": 3,
        "pretraining": {
            "settings": {"epochs": 2, "checkpoint_minutes": 1.0},
            "by_model": {"celllm": {"token_budget": 9, "batch_size": 4}},
        },
        "models": {"celllm": {"title": "Mine", "finetuning": {"cache": "x", "epochs": 1}}},
        "annotation": {
            "finetuning": {"store_mib": 1, "patience": 2},
            "finetuning_by_model": {"frozen": {"cache_mib": 1, "head": []}},
        },
        "interpretation": {"device": "cpu", "n_genes": 3},
        "embedding_map": {"device": "cpu"},
        "leakage": {},
        "unknown": {"cache": "kept"},
    }
    assert without_resources(Config, config) == {
        "seed": 3,
        "pretraining": {"settings": {"epochs": 2}, "by_model": {"celllm": {"batch_size": 4}}},
        "models": {"celllm": {"title": "Mine", "finetuning": {"epochs": 1}}},
        "annotation": {"finetuning": {"patience": 2}, "finetuning_by_model": {"frozen": {"head": []}}},
        "interpretation": {"n_genes": 3},
        "leakage": {},
        "unknown": {"cache": "kept"},
    }


def test_a_setting_that_decides_nothing_is_named_so_in_the_page() -> None:
    fields = Config.model_fields["interpretation"].annotation.model_fields  # type: ignore[union-attr]
    (line,) = [x for x in (CONFIG / "README.md").read_text().splitlines() if "`interpretation.device`" in x]
    assert is_resource(fields["device"]) and "no result depends on it" in line
