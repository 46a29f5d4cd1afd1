"""The command line follows from signatures and docstrings."""

import importlib
import inspect
import subprocess
import sys
import time

import pytest

from celllm import cli
from celllm.settings import Settings


@pytest.mark.parametrize("verb", cli.FUNCTIONS)
def test_flags_are_the_parameters_of_the_function(verb, capsys):
    module, _, name = cli.FUNCTIONS[verb].partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    actions = {action.dest: action for action in cli.parser(verb)._actions if action.dest != "help"}
    assert list(actions) == list(parameters)
    for name, parameter in parameters.items():
        is_word = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        assert bool(actions[name].option_strings) != is_word
        optional = parameter.default is not parameter.empty or str(parameter.annotation).endswith("None")
        optional |= is_settings(parameter.annotation)
        assert actions[name].required != optional, name
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.count("--") >= len(parameters) - 2


def is_settings(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


@pytest.mark.parametrize("verb", cli.FUNCTIONS)
def test_every_flag_has_a_help(verb):
    lacking = [a.dest for a in cli.parser(verb)._actions if not a.help]
    assert lacking == []


def test_the_overview_names_every_verb_by_stage_and_imports_nothing_heavy():
    code = (
        "import sys; from celllm import cli; print(cli.overview());"
        "print(sorted({'torch', 'scanpy', 'anndata', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - start < 5  # 0.1 s on an idle machine; benchmarks/ has the figure
    assert told.endswith("[]\n")
    assert all(
        f"\n  {verb} " in told and f"\n{stage}:" in told
        for stage, verbs in cli.STAGES.items()
        for verb in verbs
    )


def test_an_unknown_verb_is_one_line_with_the_nearest(capsys):
    assert cli.main(["scores"]) == 2
    assert "did you mean 'score'?" in capsys.readouterr().err


def test_pairs_of_name_and_file(capsys):
    given = cli.parser("geometry").parse_args(
        ["--encoders", "a=x", "b=y=z", "--cells", "--genes", "g", "--out", "o"]
    )
    assert given.encoders == {"a": "x", "b": "y=z"}
    assert given.cells == {}
    with pytest.raises(SystemExit):
        cli.parser("geometry").parse_args(["--encoders", "a"])
    assert "expected NAME=FILE, got 'a'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ([], (24, 60)),
        (["--settings", ""], (24, 60)),
        (["--settings", '{"n_cells": 3}'], (3, 60)),
        (["--settings", "FILE"], (3, 7)),
    ],
)
def test_a_settings_class_is_filled_from_text_or_a_file(settings, seen, monkeypatch, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("n_cells: 3\nn_genes: 7\n")
    module = importlib.import_module("celllm.probes.exactness")
    given = []
    monkeypatch.setattr(module, "gradient_error", lambda chosen, size: given.append(chosen) or 0.0)
    words = [str(file) if word == "FILE" else word for word in settings]
    assert cli.main(["gradient-error", "--out", str(tmp_path / "facts.json"), *words]) == 0
    assert {(chosen.n_cells, chosen.n_genes) for chosen in given} == {seen}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"n_cell": 3}', "settings.n_cell: unknown key 'n_cell'; did you mean 'n_cells'?"),
        ('{"n_cells": 0}', "settings.n_cells: expected at least 1, got 0"),
        ("{n_cells", "settings: not valid JSON"),
        ("[3]", "settings: expected a mapping, got [3]"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_a_slip_in_settings_ends_the_command_in_one_line(text, message, tmp_path, capsys):
    assert cli.main(["gradient-error", "--out", str(tmp_path / "facts.json"), "--settings", text]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"celllm gradient-error: {message}") and told.count("\n") == 1
    assert not (tmp_path / "facts.json").exists()
